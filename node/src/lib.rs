//! A node of an Archipelag mesh: swarm, stores, Island, coordinator, gateway and command line.
//!
//! This crate is the I/O shell around `archipelag_protocol`: it moves bytes and money between
//! machines and decides nothing that nodes must agree on. Everything that the simulator runs takes
//! its transport, disk, executor and worker pool from an [`environment::Environment`].
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod api;
pub mod bench;
pub mod catalog;
pub mod cli;
mod clock;
pub mod config;
pub mod consumer;
pub mod coordinator;
pub mod disk;
pub mod environment;
pub mod frames;
pub mod gateway;
pub mod home;
pub mod island;
mod job_stream;
#[cfg(test)]
mod job_tests;
pub mod jobs;
pub mod ledger;
pub mod mesh;
pub mod metrics;
pub mod node;
mod origin;
pub mod project;
pub mod serve;
pub mod services;
pub mod starter;
pub mod wallet;
mod write_behind;
