//! The harness itself, on the real kernel: a fault that is not there proves nothing. These tests need root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod cleaning;
mod disk;
mod network;
mod planted;
mod smoke;
