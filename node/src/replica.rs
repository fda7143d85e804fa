//! The replicated state machine as Raft sees it: types, application of committed entries, snapshots.
//!
//! openraft's types stay in this module, in [`journal`](crate::journal) and in [`peer`](crate::peer). What a group means is
//! decided in `proofline-ledger`; nothing here looks into one, except to have its signatures checked early.

mod applier;
mod config;
mod group;
mod machine;
mod member;
mod outcomes;
mod preparing;
mod progress;
mod recovery;
mod tidying;

pub(crate) use self::config::HEARTBEAT;
pub(crate) use self::preparing::start_preparing;
pub use self::{
    applier::ApplyError,
    config::{ElectionSlice, SnapshotEntries, raft_config},
    group::Group,
    machine::{Machine, SnapshotBuilder},
    member::Member,
    outcomes::Outcomes,
    progress::{Applies, LogIndex, Progress, StateAt},
    recovery::{RecoveryError, recover},
    tidying::keep_log_short,
};

openraft::declare_raft_types!(
    /// The types with which Raft is instantiated.
    pub TypeConfig:
        D = Group,
        R = Outcomes,
        NodeId = u64,
        Node = Member,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = crate::store::SnapshotFiles,
        AsyncRuntime = openraft::TokioRuntime,
);

/// A running Raft node.
pub type Raft = openraft::Raft<TypeConfig>;
