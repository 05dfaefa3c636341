//! Length-prefixed frames on a stream: a big-endian `u32` and that many bytes.
//!
//! Used by the job and artifact protocols. Reads allocate at most the limit, and only as bytes come
//! in.

use archipelag_protocol::limits::MAX_FRAME_BYTES;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use thiserror::Error;

/// Why a frame could not be read or written.
#[derive(Debug, Error)]
pub enum Error {
    #[error("frame of {found} bytes, the limit is {MAX_FRAME_BYTES}")]
    TooLong { found: usize },
    #[error("the stream ended")]
    Closed,
    #[error("the stream failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads the next frame.
///
/// # Errors
/// [`Error::Closed`] at a clean end or in the middle of a frame, [`Error::TooLong`] before anything
/// is allocated.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Error> {
    let mut length = [0; 4];
    read_exact(stream, &mut length).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME_BYTES {
        return Err(Error::TooLong { found: length });
    }
    let mut frame = Vec::new();
    while frame.len() < length {
        let start = frame.len();
        frame.resize(length.min(start + (64 << 10)), 0);
        read_exact(stream, &mut frame[start..]).await?;
    }
    Ok(frame)
}

async fn read_exact(stream: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Result<(), Error> {
    stream.read_exact(buffer).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::Closed,
        _ => Error::Io(e),
    })
}

/// Writes one frame in one piece, without flushing.
///
/// # Errors
/// [`Error::TooLong`], or what the stream says.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> Result<(), Error> {
    let length = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= MAX_FRAME_BYTES);
    let Some(length) = length else { return Err(Error::TooLong { found: frame.len() }) };
    let mut bytes = Vec::with_capacity(frame.len() + 4);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(frame);
    stream.write_all(&bytes).await?;
    Ok(())
}
