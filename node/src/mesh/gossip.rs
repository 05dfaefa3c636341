//! What is gossiped besides adverts: signed transactions, which others than the mesh judge.

use libp2p::{PeerId, gossipsub};

/// A transaction that came by gossip. Nothing of it was checked.
#[derive(Debug)]
pub struct Gossiped {
    pub bytes: Vec<u8>,
    pub source: Source,
}

/// Which message it was, and who passed it on.
#[derive(Debug)]
pub struct Source {
    pub(super) id: gossipsub::MessageId,
    pub(super) from: PeerId,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is passed on.
    Accept,
    /// It is not, and nobody is to blame.
    Ignore,
    /// No honest node passes it on.
    Reject,
}

impl From<Verdict> for gossipsub::MessageAcceptance {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Accept => Self::Accept,
            Verdict::Ignore => Self::Ignore,
            Verdict::Reject => Self::Reject,
        }
    }
}
