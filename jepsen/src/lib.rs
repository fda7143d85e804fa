//! Faults on real Proofline processes, and checkers that would notice.
//!
//! It holds what the fault tests share: which spans an input has, and what must be true of a ledger after they were
//! imported through crashes. The checkers read what auditors read, through the public API, and compute sessions and counts
//! on their own.

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
