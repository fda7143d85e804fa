//! Keeps the map over all keys, has it committed to in the log, and finds out whether commitments are true.
//!
//! One task beside the apply thread. While this node leads, it proposes a commitment now and then; whoever leads, it computes
//! each one again. Always true: rows are written when a published checkpoint covers the commitment whose map they are, so
//! what is stored is what questions are answered from, unless so much is new that it has to be written on the way. What a
//! crash or a snapshot takes away is made again out of the entries.

mod opinion;
mod work;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use proofline_ledger::{EntryIndex, Hash, Outcome, PreparedCommitment, PreparedItem, RecentKeys, StoreFault, TreeSize, listing};
use proofline_proto::{
    peer::{Item, item},
    v1::StateCommitment,
};
use thiserror::Error;
use tokio::{
    sync::{
        broadcast::{self, error::TryRecvError},
        mpsc, watch,
    },
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

pub use self::opinion::{Checker, Question, Voters};
use self::{
    opinion::Verdict,
    work::{Found, Work},
};
use crate::{
    failure::{Failure, FailureReporter},
    inbox::{Applied, Inbox, Submission},
    leadership::Leadership,
    metrics::Metrics,
    publisher::Published,
    replica::{Progress, StateAt},
    store::{StateStore, StoreError},
};

/// States that are remembered to be compared with commitments.
const STATES_MAX: usize = 8_192;

/// How far this node has found commitments to be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// [`Progress::taken`] of the state that was looked at: after another one was installed, this says nothing.
    pub taken: TreeSize,
    /// The newest commitment that was found to be true, with all before it.
    pub through: Option<EntryIndex>,
    /// Entries that it covers.
    pub size: TreeSize,
}

impl Confirmed {
    /// Nothing is known to be true.
    pub const NOTHING: Self = Self { taken: TreeSize(u64::MAX), through: None, size: TreeSize(0) };

    /// Tells whether the commitment `index` of the state that `taken` describes was found to be true.
    #[must_use]
    pub fn covers(&self, taken: TreeSize, index: EntryIndex) -> bool {
        self.taken == taken && self.through >= Some(index)
    }
}

/// Why this node cannot go on.
#[derive(Debug, Error)]
pub enum Untrue {
    /// A commitment names another map.
    #[error(
        "state commitment {commitment} says that the map over {size} entries is {claimed:?}; this node computed {computed:?}. Do not \
         restart, keep the directory. If the other nodes go on, replace this one; if they stopped too, whoever led committed a falsehood: \
         `proofline replay` over the log of any node says who is right"
    )]
    Map {
        /// The entry.
        commitment: EntryIndex,
        /// What it covers.
        size: TreeSize,
        /// Root in it.
        claimed: Hash,
        /// Root here.
        computed: Hash,
    },
    /// A commitment names another state.
    #[error(
        "state commitment {commitment} says that the state behind {size} entries is {claimed:?}; this node had {computed:?}. Do not \
         restart, keep the directory. If the other nodes go on, replace this one; if they stopped too, whoever led committed a falsehood: \
         `proofline replay` over the log of any node says who is right"
    )]
    State {
        /// The entry.
        commitment: EntryIndex,
        /// What it covers.
        size: TreeSize,
        /// Digest in it.
        claimed: Hash,
        /// Digest here.
        computed: Hash,
    },
    /// This node led and would have committed to what most voters found to be something else.
    #[error(
        "over {size} entries this node computed map {map_root:?} and state {state_digest:?}, and more than half of the voters something \
         else. Nothing was committed. Do not restart, keep the directory, replace this node"
    )]
    Outvoted {
        /// What it would have covered.
        size: TreeSize,
        /// Root here.
        map_root: Hash,
        /// Digest here.
        state_digest: Hash,
    },
    /// The state could not be read.
    #[error(transparent)]
    Unreadable(#[from] StoreFault),
    /// Rows could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work ended in the middle.
    #[error("indexing entries by key was interrupted")]
    Interrupted,
}

impl From<Untrue> for Failure {
    fn from(error: Untrue) -> Self {
        let reason = error.to_string();
        match error {
            Untrue::Map { .. } => Self::OtherMap { reason },
            Untrue::State { .. } | Untrue::Outvoted { .. } => Self::OtherState { reason },
            Untrue::Unreadable(StoreFault::Damaged { .. } | StoreFault::Corrupted { .. })
            | Untrue::Store(StoreError::Corrupted { .. } | StoreError::PositionDamaged { .. } | StoreError::PointerDamaged { .. }) => {
                Self::StorageDamaged { reason }
            }
            Untrue::Unreadable(StoreFault::Unreadable { .. }) | Untrue::Store(_) | Untrue::Interrupted => {
                Self::DiskFailed { action: "indexing entries by key", reason }
            }
        }
    }
}

/// What the indexer works with.
pub struct Indexer {
    /// The replicated state.
    pub state: StateStore,
    /// How far it was applied.
    pub progress: watch::Receiver<Progress>,
    /// The newest published checkpoint.
    pub published: watch::Receiver<Option<Published>>,
    /// Whether this node leads.
    pub leadership: watch::Receiver<Leadership>,
    /// The states behind applied groups.
    pub states: broadcast::Receiver<StateAt>,
    /// What applies find of keys.
    pub keys: RecentKeys,
    /// Where commitments go.
    pub inbox: Inbox,
    /// The other voters.
    pub voters: Arc<dyn Voters>,
    /// What other nodes ask before they propose.
    pub questions: mpsc::Receiver<Question>,
    /// Where it says what is true.
    pub confirmed: watch::Sender<Confirmed>,
    /// Where it says that questions by key are answered over more entries than before.
    pub answers: watch::Sender<()>,
    /// How often a commitment is proposed while entries with keys come.
    pub interval: Duration,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where an untrue commitment is reported.
    pub failures: FailureReporter,
}

impl Indexer {
    /// Works until shutdown, or until this node must not go on.
    pub async fn run(self, shutdown: CancellationToken) {
        let failures = self.failures.clone();
        if let Err(error) = self.work(shutdown).await {
            tracing::error!(%error, "this node ends");
            failures.report(error.into());
        }
    }

    async fn work(mut self, shutdown: CancellationToken) -> Result<(), Untrue> {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut states = KnownStates::default();
        let mut work = Work::open(&self.state, &self.keys, *self.progress.borrow())?;
        states.push(head(&self.state)?);
        loop {
            let seen = *self.progress.borrow_and_update();
            self.published.mark_unchanged();
            states.drain(&mut self.states);
            work = self.step(work, &states, &shutdown).await?;
            if shutdown.is_cancelled() {
                return Ok(());
            }
            let news = async |progress: &mut watch::Receiver<Progress>| {
                progress.wait_for(|now| (now.committed, now.taken) != (seen.committed, seen.taken)).await.map(drop)
            };
            let woken = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = ticks.tick() => Woken::Tick,
                Some(question) = self.questions.recv() => Woken::Asked(question),
                changed = news(&mut self.progress) => if changed.is_err() { return Ok(()) } else { Woken::News },
                changed = self.published.changed() => if changed.is_err() { return Ok(()) } else { Woken::News },
            };
            let is_leading = *self.leadership.borrow() == Leadership::Here;
            let Progress { tree_size: size, taken, .. } = *self.progress.borrow();
            if taken != work.taken() {
                // Another state was installed meanwhile: the next step takes it up.
                continue;
            }
            states.drain(&mut self.states);
            work = match woken {
                Woken::Tick if work.is_far_behind(size) => work.go_ahead(size, shutdown.clone()).await?,
                Woken::Tick if is_leading => self.propose(work, &states, &shutdown).await?,
                Woken::Asked(Question { said, reply }) if !work.is_far_behind(size) => {
                    let (opinion, work) = work.opinion(said, states.clone(), shutdown.clone()).await?;
                    // Whoever asked may have given up.
                    let _gave_up = reply.send(opinion);
                    work
                }
                Woken::Tick | Woken::Asked(_) | Woken::News => work,
            };
        }
    }

    /// Finds out about every commitment that the state has, and writes what is published.
    async fn step(&mut self, mut work: Work, states: &KnownStates, shutdown: &CancellationToken) -> Result<Work, Untrue> {
        let progress = *self.progress.borrow();
        if work.taken() != progress.taken {
            self.confirmed.send_replace(Confirmed::NOTHING);
            work = Work::open(&self.state, &self.keys, progress)?;
        }
        loop {
            let (found, of) = work.confirm_next(states.clone(), shutdown.clone()).await?;
            work = of;
            self.tell(&work);
            match found {
                Found::True(commitment) => tracing::debug!(%commitment, "a state commitment is true"),
                Found::Nothing | Found::Stopped => break,
            }
        }
        let covered = self.published.borrow().as_ref().map_or(TreeSize(0), |published| published.size);
        if work.write_covered(covered)? {
            self.answers.send_replace(());
        }
        Ok(work)
    }

    fn tell(&self, work: &Work) {
        let news = work.confirmed();
        self.confirmed.send_if_modified(|known| std::mem::replace(known, news) != news);
        self.metrics.keys.set(work.keys());
    }

    /// Proposes what the state is now, when the commitment before is published and there are new entries with keys.
    async fn propose(&mut self, work: Work, states: &KnownStates, shutdown: &CancellationToken) -> Result<Work, Untrue> {
        let Some(at) = states.newest() else { return Ok(work) };
        let covered = self.published.borrow().as_ref().map_or(TreeSize(0), |published| published.size);
        if !work.may_propose(at.size, covered) {
            return Ok(work);
        }
        let began = Instant::now();
        let (root, work) = work.candidate(at.size, shutdown.clone()).await?;
        let Some(root) = root else { return Ok(work) };
        self.metrics.interval_seconds.set(began.elapsed().as_secs_f64());
        let said = StateCommitment { size: at.size.0, map_root: root.0.to_vec(), state_digest: at.digest.0.to_vec() };
        match opinion::ask(&*self.voters, &said).await {
            Verdict::Shared => (),
            Verdict::Outvoted => return Err(Untrue::Outvoted { size: at.size, map_root: root, state_digest: at.digest }),
            Verdict::Open => return Ok(work),
        }
        if let Ok(prepared) = PreparedCommitment::new(said.clone()) {
            let item = Item { item: Some(item::Item::Commitment(said)) };
            let admitted = self.inbox.admit_command(Submission::new(item, PreparedItem::Commitment(prepared)));
            if let Ok(ticket) = admitted {
                // Lost with the lead, or overtaken by another one: either way the next tick looks again.
                if let Ok(Applied { outcome: Outcome::Refused(refusal), .. }) = ticket.answer().await {
                    tracing::warn!(%refusal, "the state commitment was not taken");
                }
            }
        }
        Ok(work)
    }
}

/// Why the indexer goes on.
enum Woken {
    Tick,
    News,
    Asked(Question),
}

fn head(state: &StateStore) -> Result<StateAt, StoreFault> {
    let head = listing::head(&*state.view())?;
    Ok(StateAt { size: head.size, digest: head.state_digest })
}

/// The newest states behind applied groups, in the order of their sizes.
#[derive(Clone, Debug, Default)]
struct KnownStates(Arc<VecDeque<StateAt>>);

impl KnownStates {
    fn push(&mut self, state: StateAt) {
        let known = Arc::make_mut(&mut self.0);
        // A snapshot may begin anew at another size; what was known belongs to another state then.
        while known.back().is_some_and(|last| last.size >= state.size) {
            known.pop_back();
        }
        if known.len() >= STATES_MAX {
            known.pop_front();
        }
        known.push_back(state);
    }

    fn drain(&mut self, from: &mut broadcast::Receiver<StateAt>) {
        loop {
            match from.try_recv() {
                Ok(state) => self.push(state),
                Err(TryRecvError::Lagged(_)) => (),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn newest(&self) -> Option<StateAt> {
        self.0.back().copied()
    }

    fn digest_at(&self, size: TreeSize) -> Option<Hash> {
        let at = self.0.binary_search_by_key(&size, |state| state.size).ok()?;
        self.0.get(at).map(|state| state.digest)
    }
}
