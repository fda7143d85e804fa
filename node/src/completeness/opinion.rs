//! What the voters think of a commitment before it is proposed.
//!
//! A commitment in the log that is false ends every node that finds out, for good: it is read again at each start. So a
//! leader asks first, and proposes only what more than half of the voters have computed, too. A leader that computed wrongly
//! ends alone; nothing false was committed.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use proofline_ledger::TreeSize;
use proofline_proto::{peer::Opinion, v1::StateCommitment};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{peers::Peers, replica::Progress};

/// How long a voter may take to compute.
const WITHIN: Duration = Duration::from_secs(2);
/// Questions that may wait; a leader asks one at a time.
const WAITING_MAX: usize = 4;

/// The other voters, as an indexer asks them.
pub trait Voters: Send + Sync {
    /// Returns who they are.
    fn others(&self) -> Vec<u64>;
    /// Asks one; none when it does not know, or does not answer.
    fn ask(&self, voter: u64, said: StateCommitment) -> BoxFuture<'_, Option<Opinion>>;
}

impl Voters for Peers {
    fn others(&self) -> Vec<u64> {
        self.voters().into_iter().filter(|id| *id != self.node_id()).collect()
    }

    fn ask(&self, voter: u64, said: StateCommitment) -> BoxFuture<'_, Option<Opinion>> {
        Box::pin(async move {
            match self.check_commitment(voter, said).await {
                Ok(opinion) => Some(opinion),
                Err(status) => {
                    tracing::debug!(voter, reason = status.message(), "no opinion about a state commitment");
                    None
                }
            }
        })
    }
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More than half of the voters, this node with them, have computed the same.
    Shared,
    /// More than half of the voters have computed something else: this node is wrong.
    Outvoted,
    /// Neither, for now.
    Open,
}

/// Asks all of the others at once, until it is decided.
pub(super) async fn ask(voters: &dyn Voters, said: &StateCommitment) -> Verdict {
    let others = voters.others();
    let majority = others.len().div_ceil(2) + 1;
    let one = async |voter| (voter, tokio::time::timeout(WITHIN, voters.ask(voter, said.clone())).await.ok().flatten());
    let mut answers: FuturesUnordered<_> = others.iter().map(|voter| one(*voter)).collect();
    let mut given: BTreeMap<u64, Opinion> = BTreeMap::new();
    loop {
        let same = given.values().filter(|it| **it == Opinion::Same).count() + 1;
        let other = given.values().filter(|it| matches!(it, Opinion::OtherMap | Opinion::OtherState)).count();
        if same >= majority {
            return Verdict::Shared;
        }
        if other >= majority {
            return Verdict::Outvoted;
        }
        match answers.next().await {
            Some((voter, opinion)) => given.extend(opinion.map(|opinion| (voter, opinion))),
            None => {
                if other > 0 {
                    tracing::error!(?given, size = said.size, "the voters do not agree on the state; nothing is committed to");
                }
                return Verdict::Open;
            }
        }
    }
}

/// A question that waits for the indexer.
pub struct Question {
    pub(super) said: StateCommitment,
    pub(super) reply: oneshot::Sender<Opinion>,
}

/// Asks the indexer of this node what it thinks of a commitment.
#[derive(Clone, Debug)]
pub struct Checker {
    questions: mpsc::Sender<Question>,
    progress: watch::Receiver<Progress>,
}

impl Checker {
    /// Makes both ends.
    #[must_use]
    pub fn new(progress: watch::Receiver<Progress>) -> (Self, mpsc::Receiver<Question>) {
        let (questions, asked) = mpsc::channel(WAITING_MAX);
        (Self { questions, progress }, asked)
    }

    /// Returns this node's opinion; none while it has none.
    pub async fn opinion(&self, said: StateCommitment) -> Option<Opinion> {
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|seen| seen.tree_size >= TreeSize(said.size));
        drop(tokio::time::timeout(WITHIN, reached).await.ok()?.ok()?);
        let (reply, answer) = oneshot::channel();
        self.questions.try_send(Question { said, reply }).ok()?;
        answer.await.ok().filter(|opinion| *opinion != Opinion::Unspecified)
    }
}
