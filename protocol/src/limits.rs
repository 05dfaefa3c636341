//! Limits on what arrives, in bytes or items. They bound decoders, so they can't be policy: a node
//! needs them before it has read any genesis. What nodes must agree on is in [`crate::policy`].

/// One frame on a job stream (`DESIGN.md`, "Mesh").
pub const MAX_FRAME_BYTES: usize = 1 << 20;
/// One chunk of input or of an artifact; leaves room for the frame's own fields.
pub const MAX_CHUNK_BYTES: usize = 256 << 10;
/// A signed capability advert (`DESIGN.md`, "Mesh").
pub const MAX_ADVERT_BYTES: usize = 4 << 10;
/// A signed manifest, schemas included.
pub const MAX_MANIFEST_BYTES: usize = 32 << 10;
/// A catalog entry: manifest, record, and what proves the record.
pub const MAX_ENTRY_BYTES: usize = 48 << 10;
/// One JSON Schema inside a manifest.
pub const MAX_SCHEMA_BYTES: usize = 12 << 10;
/// A wasm module or another artifact that nodes hand to each other.
pub const MAX_ARTIFACT_BYTES: u64 = 64 << 20;
/// One signed transaction: takes [`MAX_BATCH`] receipts of the largest size.
pub const MAX_TRANSACTION_BYTES: usize = 192 << 10;
/// Payees of one transaction that opens holds.
pub const MAX_PAYEES: usize = 16;
/// Accounts that one account approves of.
pub const MAX_APPROVALS: usize = 16;
/// Vouchers or receipts in one transaction.
pub const MAX_BATCH: usize = 256;
/// A block's transactions, all together: with header and certificates a block fits into one answer
/// of the query protocol.
pub const MAX_BLOCK_BYTES: usize = 832 << 10;
/// A request or response of the light query protocol.
pub const MAX_QUERY_BYTES: usize = 1 << 20;
/// Entries of the state that are proven in one answer.
pub const MAX_PROOFS: usize = 16;
/// A proof in a file, with the changes of validators before it.
pub const MAX_PROOF_BYTES: usize = 64 << 20;
/// A genesis document.
pub const MAX_GENESIS_BYTES: usize = 256 << 10;
/// One JSON line of a Cargo's output, without its newline.
pub const MAX_LINE_BYTES: usize = 768 << 10;
/// Nesting of a JSON document from a Cargo or a Consumer.
pub const MAX_JSON_DEPTH: usize = 128;
/// A reason or message that one node tells another.
pub const MAX_REASON_BYTES: usize = 1 << 10;
/// Items in one page of a list.
pub const MAX_PAGE: usize = 100;
