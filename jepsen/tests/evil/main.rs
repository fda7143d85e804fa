//! An evil node among two honest ones, as real processes: whoever is lied to says so, by name, and an honest cluster is accused of
//! nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod leading;
mod serving;
mod splitting;
mod world;
