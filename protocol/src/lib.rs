//! What all nodes of an Archipelag network must agree on.
//!
//! Identities, deterministic encoding, manifests, adverts, job and payment messages, matching,
//! policy and the ledger state machine. Every other crate calls this one.
//!
//! Nothing here does I/O, reads a clock, draws randomness, starts a thread, uses a float or
//! iterates over a hash map: seed and time are inputs, so two nodes given the same inputs reach
//! the same bytes.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod advert;
pub mod amount;
pub mod batch;
pub mod catalog;
pub mod codec;
pub mod consensus;
pub mod event;
pub mod genesis;
pub mod id;
pub mod job;
pub mod ledger;
pub mod limits;
pub mod manifest;
pub mod matching;
pub mod payment;
pub mod policy;
pub mod pricing;
pub mod query;
pub mod reputation;
pub mod sign;
pub mod text;
pub mod time;
pub mod trust;
