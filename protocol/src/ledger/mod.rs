//! The ledger as a pure state machine: `(state, block) → (state', root)`.
//!
//! Coordinators call [`State::propose`] to make a block and [`State::apply`] for every block that
//! consensus decided; everybody else reads. No clock but the block's, no I/O, integers and ordered maps only.

pub mod block;
mod chain;
mod draft;
mod execute;
mod pairs;
mod root;
mod settle;
mod signatures;
pub mod snapshot;
pub mod state;
#[cfg(test)]
mod tests;
pub mod transaction;

pub use block::{Block, Certificate, Header};
pub use state::{Account, Hold, IslandStanding, LaneState, State};
pub use transaction::{
    Action, Receipt as TransactionReceipt, Rejected, SignedTransaction, Transaction,
};
