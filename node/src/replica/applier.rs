//! The apply thread: the only caller of [`Ledger::apply`] and the only writer of the state.
//!
//! One command at a time, in the order of arrival: the order of the log. Each Raft entry is one batch in the state. After the
//! first error nothing is applied any more, because the ledger in memory may be ahead of the state: the thread reports the
//! failure and ends, and `main` ends the process.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
};

use openraft::{Entry, EntryPayload, SnapshotMeta, StoredMembership};
use proofline_ledger::{Changes, Ledger, Outcome, RecentKeys, Refusal, StoreFault, TreeSize};
use thiserror::Error;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{Member, Outcomes, Progress, StateAt, TypeConfig};
use crate::{
    failure::{Failure, FailureReporter},
    store::{SnapshotFiles, StateDb, StateWriter, StoreError, StoredSnapshot},
};

/// Commands that may wait. Raft sends one at a time; a snapshot builder may come in between.
const WAITING_MAX: usize = 16;
/// States that are remembered for whoever compares them with state commitments; older ones are forgotten.
const STATES_MAX: usize = 8_192;
/// Deep, because rules are evaluated on this thread.
const STACK_BYTES: usize = 16 << 20;

/// Why committed entries could not be applied. The replica must stop.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The ledger could not read its state.
    #[error(transparent)]
    Unreadable(#[from] StoreFault),
    /// The state could not be written or replaced.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The apply thread could not be started.
    #[error("the apply thread could not be started: {source}")]
    Thread {
        /// What the operating system said.
        source: io::Error,
    },
    /// The apply thread has ended: the node shuts down, or an apply failed before.
    #[error("no entries are applied any more")]
    Stopped,
}

pub(super) enum Command {
    Apply(Vec<Entry<TypeConfig>>),
    Adopt(StoredSnapshot),
    Install(SnapshotMeta<u64, Member>, SnapshotFiles),
}

struct Request {
    command: Command,
    done: oneshot::Sender<Result<Vec<Outcomes>, ApplyError>>,
}

/// Sends commands to the thread. The thread ends when the last sender is gone.
#[derive(Clone, Debug)]
pub(super) struct ApplierHandle(mpsc::Sender<Request>);

impl ApplierHandle {
    /// Has `command` carried out; an apply answers with one element per entry, the others with none.
    pub(super) async fn run(&self, command: Command) -> Result<Vec<Outcomes>, ApplyError> {
        let (done, answer) = oneshot::channel();
        self.0.send(Request { command, done }).await.map_err(|_| ApplyError::Stopped)?;
        answer.await.map_err(|_| ApplyError::Stopped)?
    }
}

pub(super) struct Applier {
    writer: StateWriter,
    ledger: Ledger,
    origin: Arc<str>,
    progress: watch::Sender<Progress>,
    states: broadcast::Sender<StateAt>,
    keys: RecentKeys,
    failures: FailureReporter,
}

impl Applier {
    /// Starts from what the state holds.
    pub(super) fn new(writer: StateWriter, origin: Arc<str>, failures: FailureReporter) -> Result<Self, ApplyError> {
        let database = writer.database();
        let ledger = opened(&database)?;
        let applied = database.position()?.applied.map(|at| at.index);
        let (progress, _) = watch::channel(Progress::opened(&ledger, applied));
        let (states, _) = broadcast::channel(STATES_MAX);
        Ok(Self { writer, ledger, origin, progress, states, keys: RecentKeys::default(), failures })
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) fn states(&self) -> broadcast::Sender<StateAt> {
        self.states.clone()
    }

    pub(super) fn keys(&self) -> RecentKeys {
        self.keys.clone()
    }

    /// Starts the thread.
    pub(super) fn start(self) -> Result<(ApplierHandle, JoinHandle<()>), ApplyError> {
        let (sender, requests) = mpsc::channel(WAITING_MAX);
        let thread = thread::Builder::new()
            .name("apply".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || self.serve(requests))
            .map_err(|source| ApplyError::Thread { source })?;
        Ok((ApplierHandle(sender), thread))
    }

    fn serve(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(Request { command, done }) = requests.blocking_recv() {
            let result = self.carry_out(command);
            let failure = result.as_ref().err().and_then(ApplyError::failure);
            let ends = failure.is_some();
            if let Some(failure) = failure {
                self.failures.report(failure);
            }
            // Nobody waits any more when the Raft task was dropped; what was applied stays applied.
            drop(done.send(result));
            if ends {
                return;
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> Result<Vec<Outcomes>, ApplyError> {
        match command {
            Command::Apply(entries) => entries.iter().map(|entry| self.apply(entry)).collect(),
            Command::Adopt(snapshot) => {
                self.writer.adopt(snapshot)?;
                Ok(Vec::new())
            }
            Command::Install(meta, files) => {
                self.install(&meta, &files)?;
                Ok(Vec::new())
            }
        }
    }

    fn apply(&mut self, entry: &Entry<TypeConfig>) -> Result<Outcomes, ApplyError> {
        let (changes, outcomes, membership) = match &entry.payload {
            EntryPayload::Blank => (Changes::default(), Vec::new(), None),
            EntryPayload::Membership(membership) => {
                let membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                (Changes::default(), Vec::new(), Some(membership))
            }
            EntryPayload::Normal(group) => {
                let prepared = group.prepared(&self.origin);
                let applied = self.ledger.apply(&*self.writer.database(), &prepared)?;
                group.release_prepared();
                if applied.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(Refusal::Forged { .. }))) {
                    // Whoever leads checks signatures before it proposes: this one is broken, or lies.
                    let (leader, log_index) = (entry.log_id.leader_id.node_id, entry.log_id.index);
                    tracing::error!(leader, log_index, "the leader proposed what nobody signed; it was refused here");
                }
                (applied.changes, applied.outcomes, None)
            }
        };
        self.writer.commit(&changes, &entry.log_id, membership.as_ref())?;
        self.ledger.recycle(changes);
        self.ledger.take_keys().into_iter().for_each(|found| self.keys.push(found));
        if self.progress.borrow().tree_size != self.ledger.tree_size() {
            // Nobody may listen.
            drop(self.states.send(StateAt { size: self.ledger.tree_size(), digest: self.ledger.state_digest() }));
        }
        self.progress.send_modify(|progress| *progress = progress.after(&self.ledger, entry.log_id.index));
        Ok(Outcomes::new(outcomes))
    }

    fn install(&mut self, meta: &SnapshotMeta<u64, Member>, files: &SnapshotFiles) -> Result<(), ApplyError> {
        // Said before readers can see the new state: whoever looks at it knows that it was taken.
        self.progress.send_modify(|progress| progress.taken = TreeSize(u64::MAX));
        self.writer.install(meta, files)?;
        // Planted: a snapshot has no rows of what is contained.
        if proofline_ledger::planted!(SnapshotWithoutContainment) {
            self.writer.database().forget(&[proofline_ledger::Table::Contained])?;
        }
        self.ledger = opened(&self.writer.database())?;
        let installed = self.progress.borrow().installed + 1;
        self.progress.send_replace(Progress { installed, ..Progress::opened(&self.ledger, meta.last_log_id.map(|at| at.index)) });
        Ok(())
    }
}

/// Takes up the ledger that a state holds. What it finds of keys spares the indexer from reading the entries again.
fn opened(state: &StateDb) -> Result<Ledger, StoreFault> {
    let mut ledger = Ledger::open(state)?;
    ledger.note_keys();
    Ok(ledger)
}

impl ApplyError {
    /// Returns why no node can go on after it, with what to do; none when this node is not at fault, or only stops.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let reason = self.to_string();
        match self {
            Self::Unreadable(StoreFault::Damaged { .. } | StoreFault::Corrupted { .. })
            | Self::Store(StoreError::Corrupted { .. } | StoreError::PositionDamaged { .. } | StoreError::PointerDamaged { .. }) => {
                Some(Failure::StorageDamaged { reason })
            }
            Self::Unreadable(StoreFault::Unreadable { .. }) | Self::Store(StoreError::File { .. } | StoreError::Database { .. }) => {
                Some(Failure::DiskFailed { action: "applying committed entries", reason })
            }
            Self::Store(StoreError::SnapshotUnlike { .. }) | Self::Thread { .. } | Self::Stopped => None,
        }
    }
}
