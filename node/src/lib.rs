//! The Proofline server as a library: `main` and the tests put the parts together.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)
)]

pub mod access;
pub mod authentic;
pub mod clock;
pub mod comparing;
pub mod completeness;
pub mod config;
mod contradiction;
pub mod cosigner;
mod damage;
pub mod data_dir;
mod durable;
pub mod elections;
pub mod exit;
pub mod failure;
pub mod genesis;
pub mod inbox;
pub mod journal;
pub mod leadership;
pub mod listeners;
pub mod metrics;
mod open_files;
pub mod outlets;
pub mod payloads;
pub mod peer;
pub mod peers;
mod post;
pub mod proposer;
pub mod publisher;
pub mod recheck;
pub mod replica;
pub mod rpc;
pub mod server;
pub mod signed_tree;
pub mod store;
pub mod tiles;
pub mod tls;
pub mod witnesses;

// Evil: what a node does that lies, in the program for tests alone.
proofline_ledger::planted_items! {
    #[path = "../../jepsen/planted/node/src/evil.rs"]
    mod evil;
}
