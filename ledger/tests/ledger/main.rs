//! The state machine on an ordered map: chains, commands, sessions, proofs, replay.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    unreachable_pub
)]

mod chains;
mod checkpoints;
mod commands;
mod completeness;
mod containment;
mod contract;
mod deciding;
mod evidence;
mod facts;
mod forgetting;
mod governing;
mod listings;
mod lists;
mod outlets;
mod pinned;
mod proofs;
mod replays;
mod rules;
mod sessions;
mod world;
