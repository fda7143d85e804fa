//! Faults on real Proofline processes, and checkers that would notice.
//!
//! It holds what the fault tests share: which spans an input has, and what must be true of a ledger after they were
//! imported through crashes. The checkers read what auditors read, through the public API, and compute sessions and counts
//! on their own.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation))]

pub mod census;
pub mod faults;
pub mod history;
pub mod leftovers;
pub mod network;
pub mod nodes;
pub mod program;
pub mod random;
pub mod run;
pub mod schedule;
pub mod spans;
pub mod workload;
pub mod world;

pub use census::{Census, Difference};
pub use spans::{Span, SpanKind};
