//! How Cargos run: sandboxes, limits and the JSON Lines protocol (`SPEC.md`, "Promises about a
//! job").
//!
//! The node hands each job that it has accepted to a [`runtime::Runtime`] and passes on the events
//! that come back; the simulator does the same through the node. All runtimes read a Cargo's output
//! with [`lines`] and pass [`conformance`].
//!
//! This crate knows neither mesh nor ledger, starts no thread (heavy work goes through
//! [`workers::Workers`], which the caller hands in) and never logs a job's input or output.
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod lines;
pub mod runtime;
pub mod schema;
pub mod wasm;
pub mod workers;
