//! A node of an Archipelag mesh: swarm, stores, Island, coordinator, gateway and command line.
//!
//! This crate is the I/O shell around `archipelag_protocol`: it moves bytes and money between
//! machines and decides nothing that nodes must agree on. Everything that the simulator runs takes
//! its transport, disk, executor and worker pool from an [`environment::Environment`].
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod catalog;
pub mod config;
pub mod coordinator;
pub mod disk;
pub mod environment;
pub mod frames;
pub mod home;
pub mod ledger;
pub mod mesh;
pub mod project;
pub mod starter;
pub mod wallet;
