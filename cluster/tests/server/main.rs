//! Real nodes as processes, and what they answer to callers good and bad.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    unreachable_pub
)]

mod abuse;
mod access;
mod archive;
mod clock;
mod comparing;
mod containment;
mod crowd;
mod damage;
mod discovery;
mod flood;
mod forgetting;
mod governing;
mod lineage;
mod membership;
mod operating;
mod outlets;
mod payload_repair;
mod program;
mod reads;
mod roles;
mod rules;
mod standstill;
mod stopping;
mod verifying;
mod witness;
mod world;
