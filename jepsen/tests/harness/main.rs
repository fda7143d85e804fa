//! The harness itself, on the real kernel: a fault that is not there proves nothing. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod cleaning;
mod disk;
mod network;
mod planted;
mod smoke;

use std::sync::{Mutex, MutexGuard, PoisonError};

static RUNS: Mutex<()> = Mutex::new(());

/// One run at a time: a run sweeps what dead ones left when it begins, and two share the processors that each needs.
fn alone() -> MutexGuard<'static, ()> {
    RUNS.lock().unwrap_or_else(PoisonError::into_inner)
}
