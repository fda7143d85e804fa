//! The client against a node that answers as the format says, and against one that lies.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap
)]

// Of the shared modules.
use base64 as _;
use sha2 as _;

mod answers;
#[path = "../../../../verifier/tests/verifier/evidence_file.rs"]
mod evidence_file;
#[path = "../../../../verifier/tests/verifier/lineage.rs"]
mod lineage;
#[path = "../../../../verifier/tests/verifier/naive.rs"]
mod naive;
mod node;
#[path = "../../../../verifier/tests/verifier/world.rs"]
mod world;

/// What the files of evidence ask of their manifests.
mod vectors {
    pub(crate) fn sorted_text(of: &serde_json::Value) -> String {
        of.to_string()
    }
}
