//! The light query protocol, `/archipelag/query/1`: what any node answers, forwarding to a
//! coordinator what only a coordinator knows.

use crate::{
    amount::Credits,
    catalog::Entry,
    codec,
    id::{AccountId, CargoId, StateRoot},
    ledger::{Block, Certificate, Handover, Key, Proven, Stake, TransactionReceipt},
    limits::{MAX_BATCH, MAX_PAGE, MAX_PROOFS, MAX_QUERY_BYTES},
    manifest::Version,
    payment::SignedVoucher,
};
use serde::{Deserialize, Serialize};

/// What one answer has of a snapshot.
pub const MAX_SNAPSHOT_PART_BYTES: usize = 768 << 10;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Signed transaction bytes; answered when it is in a block, or refused.
    Submit(serde_bytes::ByteBuf),
    /// The newest published version of a slug, or the one named.
    Slug {
        slug: String,
        version: Option<Version>,
    },
    Cargo(CargoId),
    /// Catalog entries after `after`, in the order of slugs; at most [`MAX_PAGE`].
    Catalog {
        after: Option<String>,
        limit: u16,
    },
    Status,
    /// What the newest state has under some keys, at most [`MAX_PROOFS`], proven by one block.
    Prove(Vec<Key>),
    /// Blocks from `from` on, with their certificates; at most `limit`.
    Blocks {
        from: u64,
        limit: u16,
    },
    /// The adverts that the node holds, as signed bytes.
    Adverts,
    /// What the sender was asked and asks on: to be answered by who has a seat, and not asked
    /// further.
    Forwarded(Box<Request>),
    /// The first changes of the validators after a height, in order.
    Handovers {
        after: u64,
    },
    /// A part of the state after some block, as canonical bytes, for who joins: of that of
    /// `height`, or of the newest that is kept when that is zero.
    Snapshot {
        height: u64,
        offset: u64,
    },
    /// Stakes of accounts after `after`, in their order; at most [`MAX_PAGE`].
    Stakes {
        after: Option<AccountId>,
        limit: u16,
    },
    /// Vouchers for a coordinator to redeem for their payees, with others' in one transaction: for
    /// a payee that can't send one, or is about to leave. At most [`MAX_BATCH`].
    Entrust(Vec<SignedVoucher>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    Submitted(TransactionReceipt),
    Entry(Option<Box<Entry>>),
    Catalog(Vec<CatalogItem>),
    Status(LedgerStatus),
    /// One for each key, in order.
    Proven(Vec<Proven>),
    /// Nothing can be proven yet: the state is the genesis document's.
    NoBlock,
    Blocks(Vec<CertifiedBlock>),
    Adverts(Vec<serde_bytes::ByteBuf>),
    /// As many as fit; none when there are no more.
    Handovers(Vec<Handover>),
    Stakes(Vec<(AccountId, Stake)>),
    /// At most [`MAX_SNAPSHOT_PART_BYTES`], of `size_bytes` in all.
    Snapshot {
        height: u64,
        size_bytes: u64,
        part: serde_bytes::ByteBuf,
    },
    /// How many of the vouchers are worth something. The coordinator redeems them as far as it has
    /// room, and forgets them when it is restarted: the payee keeps its own.
    Entrusted(u16),
    /// It could not be answered now; the text says why.
    Unavailable(String),
}

/// A catalog entry with the counters that the ledger keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CatalogItem {
    pub entry: Entry,
    pub counters: crate::catalog::Counters,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertifiedBlock {
    pub block: Block,
    pub certificate: Certificate,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerStatus {
    pub height: u64,
    pub state: StateRoot,
    pub time: crate::time::Timestamp,
    pub minted: Credits,
    pub treasury: Credits,
    pub accounts: u64,
    pub holds: u64,
    pub cargos: u64,
}

/// Decodes a request.
///
/// # Errors
/// When it is too long, malformed, or asks for more than [`MAX_PAGE`] items.
pub fn decode_request(bytes: &[u8]) -> Result<Request, codec::Error> {
    let request = codec::decode_loose("query", MAX_QUERY_BYTES, bytes)?;
    let mut asked = &request;
    if let Request::Forwarded(inner) = asked {
        asked = inner;
    }
    let limit = match asked {
        Request::Forwarded(_) => {
            let reason = "forwarded twice".to_owned();
            return Err(codec::Error::Malformed { what: "query", reason });
        }
        Request::Catalog { limit, .. }
        | Request::Blocks { limit, .. }
        | Request::Stakes { limit, .. } => usize::from(*limit),
        Request::Prove(keys) if keys.len() > MAX_PROOFS => {
            let reason = format!("{} keys, at most {MAX_PROOFS}", keys.len());
            return Err(codec::Error::Malformed { what: "query", reason });
        }
        Request::Entrust(vouchers) if vouchers.len() > MAX_BATCH => {
            let reason = format!("{} vouchers, at most {MAX_BATCH}", vouchers.len());
            return Err(codec::Error::Malformed { what: "query", reason });
        }
        _ => 0,
    };
    if limit > MAX_PAGE {
        let reason = format!("limit {limit}, at most {MAX_PAGE}");
        return Err(codec::Error::Malformed { what: "query", reason });
    }
    Ok(request)
}

/// Decodes a response. What is in it is checked by who asked.
///
/// # Errors
/// When it is too long or malformed.
pub fn decode_response(bytes: &[u8]) -> Result<Response, codec::Error> {
    codec::decode_loose("query answer", MAX_QUERY_BYTES, bytes)
}
