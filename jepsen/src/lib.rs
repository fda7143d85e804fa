//! Faults on real Proofline processes, and checkers that would notice.
//!
//! It holds the faults, with the network, disks and clocks that they need ([`run`] puts them together); workloads that ask a
//! cluster everything at once; the history of what was asked and answered; a reader of the disks of stopped nodes; the predicates
//! that judge both ([`checks`]), and the forms in which others can judge them ([`export`]). For imports there is a [`Census`]:
//! which spans an input has, and what must be true of a ledger after they were imported through crashes. It computes sessions,
//! trees and counts on its own; what it takes from the ledger is named where it is taken. The replicated core alone runs in
//! the [`simulation`], where a seed decides everything.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_truncation))]

pub mod census;
pub mod checks;
pub mod export;
pub mod faults;
pub mod guard;
pub mod history;
pub mod leftovers;
pub mod network;
pub mod nodes;
pub mod offline;
pub mod planted;
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
