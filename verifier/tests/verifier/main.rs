//! Tests of the verifier against evidence that these tests build themselves, with trees of their own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap
)]

mod alterations;
mod command_line;
mod completeness;
mod deliveries;
mod evidence_file;
mod fuzzing;
mod lineage;
mod naive;
mod notes;
mod trees;
mod vectors;
mod world;
