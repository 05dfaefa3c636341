//! Length-prefixed frames on a stream: a big-endian `u32` and that many bytes.
//!
//! Used by the job, artifact and consensus protocols. Reads allocate at most the limit, and only as
//! bytes come in.

use archipelag_protocol::limits::MAX_FRAME_BYTES;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use thiserror::Error;

/// Why a frame could not be read or written.
#[derive(Debug, Error)]
pub enum Error {
    #[error("frame of {found} bytes, the limit is {limit}")]
    TooLong { found: usize, limit: usize },
    #[error("the stream ended")]
    Closed,
    #[error("the stream failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads the next frame, of at most [`MAX_FRAME_BYTES`].
///
/// # Errors
/// As [`read_up_to`].
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Error> {
    read_up_to(stream, MAX_FRAME_BYTES).await
}

/// Reads the next frame, of at most `limit` bytes.
///
/// # Errors
/// [`Error::Closed`] at a clean end or in the middle of a frame, [`Error::TooLong`] before anything
/// is allocated.
pub async fn read_up_to(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Vec<u8>, Error> {
    let mut length = [0; 4];
    read_exact(stream, &mut length).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(Error::TooLong { found: length, limit });
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

/// Writes one frame of at most [`MAX_FRAME_BYTES`] in one piece, without flushing.
///
/// # Errors
/// As [`write_up_to`].
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> Result<(), Error> {
    write_up_to(stream, frame, MAX_FRAME_BYTES).await
}

/// Writes one frame of at most `limit` bytes in one piece, without flushing.
///
/// # Errors
/// [`Error::TooLong`], or what the stream says.
pub async fn write_up_to(
    stream: &mut (impl AsyncWrite + Unpin),
    frame: &[u8],
    limit: usize,
) -> Result<(), Error> {
    let found = frame.len();
    let Some(length) = u32::try_from(found).ok().filter(|_| found <= limit) else {
        return Err(Error::TooLong { found, limit });
    };
    let mut bytes = Vec::with_capacity(frame.len() + 4);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(frame);
    stream.write_all(&bytes).await?;
    Ok(())
}
