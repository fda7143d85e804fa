//! The Proofline server as a library: `main` and the tests put the parts together.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation))]

pub mod access;
mod clock;
pub mod config;
mod cosigner;
pub mod data_dir;
mod durable;
pub mod exit;
pub mod failure;
pub mod inbox;
pub mod journal;
mod leadership;
mod listeners;
mod metrics;
pub mod peer;
mod peers;
mod proposer;
mod publisher;
pub mod replica;
mod rpc;
pub mod server;
mod signed_tree;
pub mod store;
mod tiles;
pub mod tls;
