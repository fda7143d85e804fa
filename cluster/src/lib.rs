//! A Proofline cluster on one machine: real node processes with their own keys, certificates, directories and logs.
//!
//! For development, demonstration and tests. What it starts it stops: a dropped [`Cluster`] leaves no process behind.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod authority;
pub mod http;
mod plan;
mod processes;
pub mod witness;

pub use plan::{ISSUER, OPERATORS, ORIGIN, OutletKeyKind, Plan, PlannedNode, TENANT, TRUST_DOMAIN, Tls, spiffe};
pub use processes::{Binaries, Cluster, NodeProcess};
