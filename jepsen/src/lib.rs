//! Faults on real Proofline processes, and checkers that would notice.
//!
//! It holds the faults and the network, disks and clocks that they need ([`run`] puts them together), the work that a cluster
//! does meanwhile ([`workload`]), what is recorded of it ([`history`]), and the predicates that judge it ([`checks`]). For
//! imports there is a [`Census`]: which spans an input has, and what must be true of a ledger after they were imported through
//! crashes. The checkers read what auditors read, and the disks, and share nothing with the nodes. The replicated core alone runs in
//! the [`simulation`], where a seed decides everything.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation))]

pub mod census;
pub mod checks;
pub mod export;
pub mod faults;
pub mod history;
pub mod leftovers;
pub mod network;
pub mod nodes;
pub mod offline;
pub mod program;
pub mod random;
pub mod run;
pub mod schedule;
pub mod simulation;
pub mod spans;
pub mod workload;
pub mod world;

pub use census::{Census, Difference};
pub use spans::{Span, SpanKind};
