//! The Proofline server as a library: `main` and the tests put the parts together.

pub mod data_dir;
mod durable;
pub mod exit;
pub mod failure;
pub mod journal;
pub mod peer;
pub mod replica;
pub mod store;
pub mod tls;
