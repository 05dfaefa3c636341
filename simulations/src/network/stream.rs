//! One end of a byte stream both ways, as nodes hold it.

use super::{Inner, Network};
use futures::{AsyncRead, AsyncWrite};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

/// A pipe to read from and a pipe to write to.
#[derive(Debug)]
pub struct Stream {
    network: Network,
    read: usize,
    write: usize,
}

/// The keys of a stream's pipes, while nobody holds it yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) read: usize,
    pub(super) write: usize,
}

impl Ends {
    pub(super) fn into_stream(self, network: Network) -> Stream {
        Stream { network, read: self.read, write: self.write }
    }
}

impl Inner {
    /// A stream over a connection: the ends of its side 0 and of its side 1.
    pub(super) fn new_stream(&mut self, connection: usize) -> [Ends; 2] {
        let (forth, back) = (self.new_pipe(connection, 0), self.new_pipe(connection, 1));
        [Ends { read: back, write: forth }, Ends { read: forth, write: back }]
    }

    pub(super) fn close_ends(&mut self, ends: Ends) {
        self.stop_writing(ends.write);
        self.stop_reading(ends.read);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.network.with(|inner| inner.read(self.read, context, out))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.network.with(|inner| inner.write(self.write, context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.with(|inner| inner.end(self.write));
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let ends = Ends { read: self.read, write: self.write };
        self.network.with(|inner| inner.close_ends(ends));
    }
}
