//! Artifacts by content, `/archipelag/artifact/1`: any node that holds one serves it.
//!
//! The asker sends the content id and an offset; the server answers with the size and the bytes
//! from there on, in frames. The asker verifies the whole against the id, so a server can only
//! waste time.

use super::{Mesh, Protocol, Stream};
use crate::frames;
use archipelag_protocol::{
    codec,
    id::{ContentId, NodeId},
    limits::{MAX_ARTIFACT_BYTES, MAX_CHUNK_BYTES, MAX_FRAME_BYTES},
};
use bytes::Bytes;
use futures::AsyncWriteExt;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use thiserror::Error;

/// Silence after which a transfer counts as dead, on either side.
const STALL: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
struct Ask {
    content: ContentId,
    offset: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Size(u64),
    Missing,
}

/// Why an artifact did not come.
#[derive(Debug, Error)]
pub enum Error {
    #[error("it doesn't hold the artifact")]
    Missing,
    #[error("the artifact is {found} bytes, the limit is {limit}")]
    TooLong { limit: u64, found: u64 },
    #[error("the transfer stalled for {} s", STALL.as_secs())]
    Stalled,
    #[error(transparent)]
    Mesh(#[from] super::Error),
    #[error(transparent)]
    Frame(#[from] frames::Error),
    #[error(transparent)]
    Codec(#[from] codec::Error),
    #[error("more bytes than announced")]
    Overrun,
}

/// A transfer that may be taken up again at another node.
#[derive(Debug)]
pub struct Transfer {
    content: ContentId,
    limit: u64,
    received: Vec<u8>,
}

impl Transfer {
    /// Of at most `limit` bytes, and never more than [`MAX_ARTIFACT_BYTES`].
    #[must_use]
    pub fn new(content: ContentId, limit: u64) -> Self {
        Self { content, limit: limit.min(MAX_ARTIFACT_BYTES), received: Vec::new() }
    }

    /// Fetches the rest from `node`. `Ok(None)` when what came does not hash to the id: then all of
    /// it is dropped, since any server may have been the liar.
    ///
    /// # Errors
    /// Why this node was of no use; what it sent before is kept for the next.
    pub async fn fetch_from(&mut self, mesh: &Mesh, node: NodeId) -> Result<Option<Bytes>, Error> {
        let mut stream = mesh.open_stream(node, Protocol::Artifact).await?;
        let ask = Ask { content: self.content, offset: self.received.len() as u64 };
        frames::write(&mut stream, &codec::encode_loose("artifact request", &ask)?).await?;
        stream.flush().await.map_err(frames::Error::Io)?;
        let answer =
            codec::decode_loose("artifact answer", MAX_FRAME_BYTES, &next(&mut stream).await?)?;
        let size = match answer {
            Answer::Size(size) if size > self.limit => {
                return Err(Error::TooLong { limit: self.limit, found: size });
            }
            Answer::Size(size) => size,
            Answer::Missing => return Err(Error::Missing),
        };
        while (self.received.len() as u64) < size {
            let chunk = next(&mut stream).await?;
            if (self.received.len() + chunk.len()) as u64 > size {
                return Err(Error::Overrun);
            }
            self.received.extend_from_slice(&chunk);
        }
        let bytes = Bytes::from(std::mem::take(&mut self.received));
        Ok((ContentId::of(&bytes) == self.content).then_some(bytes))
    }
}

async fn next(stream: &mut Stream) -> Result<Vec<u8>, Error> {
    Ok(tokio::time::timeout(STALL, frames::read(stream)).await.map_err(|_| Error::Stalled)??)
}

/// Answers one request. `find` gives the bytes of a content id, if this node holds them.
///
/// # Errors
/// When the asker goes away or sends nonsense.
pub async fn serve(
    mut stream: Stream,
    find: impl Fn(ContentId) -> Option<Bytes>,
) -> Result<(), Error> {
    let ask: Ask = codec::decode_loose("artifact request", 256, &next(&mut stream).await?)?;
    let found = find(ask.content);
    let answer = found.as_ref().map_or(Answer::Missing, |bytes| Answer::Size(bytes.len() as u64));
    let send = async {
        frames::write(&mut stream, &codec::encode_loose("artifact answer", &answer)?).await?;
        if let Some(bytes) = found {
            let start = usize::try_from(ask.offset).unwrap_or(usize::MAX).min(bytes.len());
            for chunk in bytes[start..].chunks(MAX_CHUNK_BYTES) {
                let written = tokio::time::timeout(STALL, frames::write(&mut stream, chunk)).await;
                written.map_err(|_| Error::Stalled)??;
            }
        }
        stream.close().await.map_err(frames::Error::Io)?;
        Ok(())
    };
    send.await
}
