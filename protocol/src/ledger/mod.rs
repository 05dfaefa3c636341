//! The ledger as a pure state machine: `(state, block) → (state', root)`.
//!
//! Coordinators call [`State::propose`] to make a block and [`State::apply`] for every block that
//! consensus decided; everybody else reads. No clock but the block's, no I/O, integers and ordered
//! maps only.

pub mod block;
mod chain;
mod draft;
mod election;
pub mod entry;
pub mod epoch;
pub mod evidence;
mod execute;
pub mod light;
mod pairs;
mod settle;
mod signatures;
pub mod snapshot;
pub mod stake;
pub mod state;
mod sweep;
#[cfg(test)]
mod tests;
pub mod transaction;
pub mod tree;
pub mod validators;
pub mod vote;

pub use block::{Block, Header};
pub use entry::{Key, Proof};
pub use epoch::Epoch;
pub use evidence::Evidence;
pub use light::{Handover, Proven, Trust};
pub use stake::Stake;
pub use state::{Account, Hold, IslandStanding, LaneState, State};
pub use transaction::{
    Action, Payee, Receipt as TransactionReceipt, Rejected, SignedTransaction, Transaction,
};
pub use validators::ValidatorSet;
pub use vote::{Certificate, Proposal, SignedProposal, SignedVote, Vote};
