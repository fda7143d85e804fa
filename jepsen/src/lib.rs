//! Faults on real Proofline processes, and checkers that would notice.
//!
//! It holds what runs with faults and their tests share: workloads that ask a cluster everything at once, the history of what
//! was asked and answered, a reader of the disks of stopped nodes, the predicates that judge both, and the forms in which others
//! can judge them; besides, which spans an input has, and what must be true of a ledger after they were imported through crashes.
//! It computes sessions, trees and counts on its own; what it takes from the ledger is named where it is taken.

pub mod census;
pub mod checks;
pub mod export;
pub mod history;
pub mod offline;
pub mod random;
pub mod spans;
pub mod workload;

pub use census::{Census, Difference};
pub use spans::{Span, SpanKind};
