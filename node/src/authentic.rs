//! Finds out, beside everything else, whether the entries that came in a snapshot were signed by those in whose names they
//! stand. What it found out is true of the state that it walked through, rows beside the entries included, and so it begins
//! anew with each further snapshot and each start: behind what this node signed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proofline_ledger::{LogTree, StoreFault, TreeSize};
use proofline_proto::v1::Genesis;
use proofline_verifier::{LogHash, TreeError, TreeHash as _, TreeHead, verify_consistency};
use tokio::sync::watch;

use crate::{
    failure::{Failure, FailureReporter},
    recheck::{NotAuthentic, Recheck},
    replica::Progress,
    signed_tree::SignedTree,
    store::{StateDb, StateStore},
};

/// After which time others hear how far it is.
const STEP: Duration = Duration::from_secs(1);
/// After which time people hear of it.
const TOLD_EVERY: Duration = Duration::from_secs(10);
const ACTION: &str = "checking who signed what came in a snapshot";
/// Entries between two looks at the clock.
const ENTRIES: u64 = 256;

/// What this node found out about entries that it did not apply itself.
#[derive(Clone, Debug)]
pub(crate) struct Authentic {
    /// The log up to here is of entries that were checked here, or that this node signed.
    pub(crate) checked: SignedTree,
    /// Of which state that was found out.
    of: Option<Trusted>,
    /// What is wrong with what comes behind it.
    refuted: Option<Arc<NotAuthentic>>,
}

/// What a node took on trust: so many entries, in the state of that snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trusted {
    taken: TreeSize,
    installed: u64,
}

impl Trusted {
    pub(crate) fn in_state(at: &Progress) -> Self {
        Self { taken: at.taken, installed: at.installed }
    }
}

impl Authentic {
    /// What this node signed is all that it vouches for.
    pub(crate) fn of(signed: SignedTree) -> Self {
        Self { checked: signed, of: None, refuted: None }
    }

    /// Returns up to where this node vouches for what it took on trust, which must be all of it.
    ///
    /// # Errors
    /// How far it is, and what is wrong when that is known.
    pub(crate) fn vouched(&self, of: Trusted, signed: SignedTree) -> Result<SignedTree, (TreeSize, Option<Arc<NotAuthentic>>)> {
        let current = self.of == Some(of);
        let checked = if current && self.checked.size > signed.size { self.checked } else { signed };
        if of.taken <= checked.size {
            return Ok(checked);
        }
        Err((checked.size, self.refuted.clone().filter(|_| current)))
    }
}

/// Walks through what was taken on trust.
pub(crate) struct Authenticator {
    pub(crate) genesis: Genesis,
    pub(crate) state: StateStore,
    pub(crate) progress: watch::Receiver<Progress>,
    /// What this node signed: nothing below it is looked at.
    pub(crate) signed: watch::Receiver<SignedTree>,
    pub(crate) found: watch::Sender<Authentic>,
    pub(crate) failures: FailureReporter,
}

impl Authenticator {
    /// Goes on until the node shuts down.
    pub(crate) async fn run(mut self) {
        loop {
            let of = Trusted::in_state(&self.progress.borrow_and_update());
            // The greatest number stands for a snapshot that is being installed.
            if of.taken != TreeSize(u64::MAX)
                && let Err(failure) = self.find_out(of).await
            {
                self.failures.report(failure);
                return;
            }
            if self.progress.wait_for(|seen| Trusted::in_state(seen) != of).await.is_err() {
                return;
            }
        }
    }

    /// Walks until everything is checked, something is wrong, or another snapshot came.
    ///
    /// # Errors
    /// Why this node cannot go on: its state cannot be read.
    async fn find_out(&mut self, of: Trusted) -> Result<(), Failure> {
        let from = *self.signed.borrow();
        self.found.send_replace(Authentic { checked: from, of: Some(of), refuted: None });
        let (mut walk, mut told) = (None, Instant::now());
        while self.found.borrow().checked.size < of.taken {
            let (state, genesis) = (self.state.view(), self.genesis.clone());
            let step = tokio::task::spawn_blocking(move || go_on(&state, walk.take(), genesis, from, of.taken)).await;
            if self.is_over(of) {
                return Ok(());
            }
            match step {
                Ok(Ok((further, checked))) => {
                    self.found.send_modify(|found| found.checked = checked);
                    walk = Some(further);
                }
                Ok(Err(NotAuthentic::Store(fault))) => return Err(unreadable(&fault)),
                Ok(Err(why)) => {
                    self.found.send_modify(|found| found.refuted = Some(Arc::new(why)));
                    return Ok(());
                }
                Err(interrupted) => return Err(Failure::DiskFailed { action: ACTION, reason: interrupted.to_string() }),
            }
            if told.elapsed() >= TOLD_EVERY {
                tracing::info!(checked = %self.found.borrow().checked.size, of = %of.taken, "{ACTION}");
                told = Instant::now();
            }
        }
        Ok(())
    }

    /// Tells whether nobody asks any more about that state.
    fn is_over(&self, of: Trusted) -> bool {
        self.progress.has_changed().is_err() || Trusted::in_state(&self.progress.borrow()) != of
    }
}

/// Walks for a while. Returns the walk with the greatest tree of which every entry is checked, and every batch whole.
fn go_on(
    state: &StateDb,
    walk: Option<Recheck>,
    genesis: Genesis,
    from: SignedTree,
    taken: TreeSize,
) -> Result<(Recheck, SignedTree), NotAuthentic> {
    let until = Instant::now() + STEP;
    let mut walk = match walk {
        Some(walk) => walk,
        None => {
            let target = tree(state, taken)?;
            extends(state, from, target).map_err(|error| other_log(from.size, error))?;
            Recheck::begin(state, genesis, from.size, target)?
        }
    };
    while !walk.is_done() && Instant::now() < until {
        walk.advance(state, ENTRIES)?;
    }
    let checked = tree(state, walk.settled())?;
    // What was checked entry by entry is included in the target; so must be the tree that stands for it.
    extends(state, checked, walk.target()).map_err(|error| other_log(checked.size, error))?;
    Ok((walk, checked))
}

fn unreadable(fault: &StoreFault) -> Failure {
    let reason = fault.to_string();
    match fault {
        StoreFault::Damaged { .. } | StoreFault::Corrupted { .. } => Failure::StorageDamaged { reason },
        StoreFault::Unreadable { .. } => Failure::DiskFailed { action: ACTION, reason },
    }
}

fn other_log(size: TreeSize, error: NotExtended) -> NotAuthentic {
    match error {
        NotExtended::Tree(source) => NotAuthentic::OtherLog { size, source },
        NotExtended::Store(fault) => NotAuthentic::Store(fault),
    }
}

fn tree(state: &StateDb, size: TreeSize) -> Result<SignedTree, StoreFault> {
    Ok(SignedTree { size, root: LogTree::new(state, size).root()? })
}

/// Why one tree is not known to extend another.
#[derive(Debug, thiserror::Error)]
pub enum NotExtended {
    /// The verifier says so. Building and checking are two pieces of code; they disagree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The state could not be read.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// Has the verifier accept that one tree is a prefix of the other.
pub(crate) fn extends(state: &StateDb, older: SignedTree, newer: SignedTree) -> Result<(), NotExtended> {
    let path = LogTree::new(state, newer.size).consistency_path(older.size)?.unwrap_or_default();
    let path: Vec<LogHash> = path.iter().map(|hash| LogHash::from_bytes(hash.0)).collect();
    Ok(verify_consistency(head(older), head(newer), &path)?)
}

fn head(of: SignedTree) -> TreeHead<LogHash> {
    TreeHead { size: proofline_verifier::TreeSize(of.size.0), root: LogHash::from_bytes(of.root.0) }
}
