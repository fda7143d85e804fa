//! Decides whether a run shows what the ledger promises.
//!
//! It holds twenty predicates, each a pure function over a history and the final state of the nodes. Their numbers and words
//! are those of [`Predicate`]; `jepsen/CHECKS.md` says them in full.
//! Always true: an answer is *true*, *false* with what was found, or *unknown*, and unknown never passes; nothing is searched,
//! because the log itself is the order in which things happened: all of it is sorting and counting.
//! It shares nothing with the nodes but the message types, and trees and signatures are the verifier's. One exception is meant:
//! [`Reading::replayed`] runs the ledger's own replay, because whether verdicts can be recomputed is the question.

mod anomaly;
mod availability;
mod checkpoints;
mod containment;
mod corruption;
mod entry;
mod forgery;
mod judging;
mod majority;
mod mutation;
mod order;
mod parallel;
mod predicate;
pub(crate) mod reading;
mod reads;
mod safety;
mod second_opinion;
mod sessions;
mod streams;
mod synthetic;
mod tree;

pub use anomaly::{Anomaly, Judgement};
pub use entry::{Body, Entry, SessionPlace};
pub use forgery::Forgery;
pub use judging::{Report, judge, judge_one, judge_read};
pub use mutation::{MUTATIONS, Mutated, Mutation, mutate_all, table};
pub use predicate::Predicate;
pub use reading::{Reading, Replayed};
pub use second_opinion::{SecondOpinion, second_opinion};
pub use synthetic::{Synthetic, synthesise};

use proofline_verifier::Policy;

use crate::{
    history::{History, NodeId},
    offline::NodeState,
};

/// The nodes at the end of a run.
#[derive(Clone, Debug)]
pub struct FinalState {
    /// Those that ran to the end, as they were read from their disks.
    pub nodes: Vec<NodeState>,
    /// Those that did not, and why: damage that they noticed, a place that was taken from them.
    pub absent: Vec<(NodeId, String)>,
    /// Whose signatures count: a checkpoint must meet one of them. The second and later ones are for nodes that joined.
    pub policies: Vec<Policy>,
}

/// How quick and how small a cluster must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// From the moment when everything is healed until every node has the same state, in milliseconds.
    pub recovered_ms: u64,
    /// From the moment when a majority is stable until a write is acknowledged, and between two of them, in milliseconds.
    pub available_ms: u64,
    /// Between two acknowledgements of writes while a majority is up and untouched by any fault, in milliseconds.
    pub majority_ms: u64,
    /// Between two acknowledgements of writes, whatever is broken, in milliseconds.
    pub starved_ms: u64,
    /// From an acknowledgement until a checkpoint covers it, while the cluster is stable, in milliseconds.
    pub covered_ms: u64,
    /// How long a revocation may take, while the cluster is stable, in milliseconds.
    pub revoked_ms: u64,
    /// Resident memory of a node, in bytes.
    pub resident_bytes: u64,
    /// Acknowledged batches that a run must at least have.
    pub acknowledged_min: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            recovered_ms: 5_000,
            available_ms: 5_000,
            majority_ms: 30_000,
            starved_ms: 60_000,
            covered_ms: 5_000,
            revoked_ms: 3_000,
            resident_bytes: 512 << 20,
            acknowledged_min: 100,
        }
    }
}

/// Everything that a judgement rests on.
#[derive(Clone, Debug)]
pub struct Case {
    /// What happened.
    pub history: History,
    /// What was left.
    pub finals: FinalState,
    /// What is demanded.
    pub bounds: Bounds,
}
