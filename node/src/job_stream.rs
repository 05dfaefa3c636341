//! Both directions of a job stream as frames (`archipelag_protocol::job`).
//!
//! Used by the Island and the Consumer. Reading and writing may be given up at any point of
//! waiting and taken up again, so both fit into a `select!`; frames that are queued together leave
//! in one flush. Nothing is allocated for bytes that have not come.

use archipelag_protocol::{codec, job, limits::MAX_FRAME_BYTES};
use bytes::{Buf, BytesMut};
use futures::{AsyncRead, AsyncWrite};
use serde::Serialize;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use thiserror::Error;

/// What one read asks the stream for.
const READ_BYTES: usize = 8 << 10;
/// Queued bytes from which a sender should let the other side catch up.
const ROOM_BYTES: usize = 64 << 10;
const LENGTH_BYTES: usize = 4;

/// Why a job stream can't go on.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error("job frame: {found} bytes, the limit is {MAX_FRAME_BYTES}")]
    TooLong { found: usize },
    #[error(transparent)]
    Frame(#[from] job::Error),
    #[error("the stream ended")]
    Closed,
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
}

impl From<codec::Error> for Error {
    fn from(error: codec::Error) -> Self {
        Self::Frame(error.into())
    }
}

impl Error {
    /// Whether an honest peer can't have caused it.
    pub(crate) fn is_hostile(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::Frame(_))
    }
}

/// Reads frames.
pub(crate) struct Reader<R> {
    io: R,
    buffer: BytesMut,
    chunk: Box<[u8; READ_BYTES]>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::new(), chunk: Box::new([0; READ_BYTES]) }
    }

    /// The next frame, by `decode`. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`Error::Closed`] at the end of the stream, in the middle of a frame too.
    pub(crate) async fn next<T>(
        &mut self,
        decode: fn(&[u8]) -> Result<T, job::Error>,
    ) -> Result<T, Error> {
        loop {
            if let Some(length) = self.complete()? {
                let decoded = decode(&self.buffer[LENGTH_BYTES..LENGTH_BYTES + length]);
                self.buffer.advance(LENGTH_BYTES + length);
                return Ok(decoded?);
            }
            poll_fn(|cx| self.poll_fill(cx)).await?;
        }
    }

    /// The length of the first frame, once all of it is here.
    fn complete(&self) -> Result<Option<usize>, Error> {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let found = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if found > MAX_FRAME_BYTES {
            return Err(Error::TooLong { found });
        }
        Ok((self.buffer.len() >= LENGTH_BYTES + found).then_some(found))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut self.chunk[..]))?;
        if read == 0 {
            return Poll::Ready(Err(Error::Closed));
        }
        self.buffer.extend_from_slice(&self.chunk[..read]);
        Poll::Ready(Ok(()))
    }
}

/// Writes frames.
pub(crate) struct Writer<W> {
    io: W,
    buffer: BytesMut,
    unflushed: bool,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(crate) fn new(io: W) -> Self {
        Self { io, buffer: BytesMut::new(), unflushed: false }
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// When it can't be encoded or is too long: the caller's fault.
    pub(crate) fn push<T: Serialize>(&mut self, frame: &T) -> Result<(), Error> {
        let bytes = codec::encode_loose("job frame", frame)?;
        let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MAX_FRAME_BYTES);
        let length = length.ok_or(Error::TooLong { found: bytes.len() })?;
        self.buffer.reserve(LENGTH_BYTES + bytes.len());
        self.buffer.extend_from_slice(&length.to_be_bytes());
        self.buffer.extend_from_slice(&bytes);
        self.unflushed = true;
        Ok(())
    }

    /// Bytes that wait to be written.
    pub(crate) fn queued(&self) -> usize {
        self.buffer.len()
    }

    /// Whether something has not been handed to the transport yet.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.unflushed
    }

    /// Whether more should be queued.
    pub(crate) fn has_room(&self) -> bool {
        self.buffer.len() < ROOM_BYTES
    }

    /// Writes and flushes all that is queued. What was written stays written when the future is
    /// dropped.
    pub(crate) async fn drive(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.poll_drive(cx)).await
    }

    fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.buffer.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.buffer))?;
            if written == 0 {
                return Poll::Ready(Err(Error::Closed));
            }
            self.buffer.advance(written);
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Ends this direction of the stream, after all that is queued.
    pub(crate) async fn close(&mut self) -> Result<(), Error> {
        self.drive().await?;
        poll_fn(|cx| Pin::new(&mut self.io).poll_close(cx)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use archipelag_protocol::job::{ToConsumer, decode_to_consumer};
    use futures::{AsyncWriteExt, FutureExt, io::Cursor};
    use tokio_util::compat::TokioAsyncReadCompatExt;

    fn line(sequence: u64, bytes: usize) -> ToConsumer {
        ToConsumer::Output { sequence, line: "x".repeat(bytes) }
    }

    #[tokio::test]
    async fn frames_survive_any_cut_and_being_given_up() {
        let (ours, theirs) = tokio::io::duplex(7);
        let (mut writer, mut reader) = (Writer::new(ours.compat()), Reader::new(theirs.compat()));
        for sequence in 0..20 {
            writer.push(&line(sequence, 300)).unwrap();
        }
        let mut received = 0;
        while received < 20 {
            // Polls each side once and drops the future.
            let _written = writer.drive().now_or_never();
            // A task that never yields uses up what tokio lets it do at once.
            tokio::task::yield_now().await;
            if let Some(frame) = reader.next(decode_to_consumer).now_or_never() {
                let ToConsumer::Output { sequence, line } = frame.unwrap() else { panic!("other") };
                assert_eq!((sequence, line.len()), (received, 300));
                received += 1;
            }
        }
        assert!(!writer.is_unflushed());
    }

    #[tokio::test]
    async fn what_is_too_long_or_garbage_is_hostile_and_an_end_is_not() {
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(Cursor::new(bytes.to_vec()));
            async move { reader.next(decode_to_consumer).await.unwrap_err() }
        };
        assert!(matches!(read(&[0xff; 4]).await, Error::TooLong { .. }));
        assert!(read(&[0, 0, 0, 1, 0xff]).await.is_hostile());
        for cut in [&[][..], &[0, 0], &[0, 0, 0, 9, 1]] {
            assert!(matches!(read(cut).await, Error::Closed));
        }
        let mut writer = Writer::new(Cursor::new(Vec::new()));
        assert!(writer.push(&line(0, MAX_FRAME_BYTES)).is_err());
        writer.close().await.unwrap();
        assert!(AsyncWriteExt::close(&mut Cursor::new(Vec::new())).await.is_ok());
    }
}
