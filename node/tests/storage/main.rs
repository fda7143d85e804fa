//! The durable parts of a node, on real databases in temporary directories.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod cluster;
mod completeness;
mod journal_damage;
mod journal_model;
mod journal_readers;
mod payloads;
mod published;
mod raft_suite;
mod recheck;
mod state;
mod tls;
mod world;
