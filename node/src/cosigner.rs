//! Cosigns tree heads with this node's own key: only what this node applied, only what extends what it signed before.

use std::{sync::Arc, time::Duration};

use ed25519_dalek::{Signer, SigningKey};
use proofline_ledger::{EntryIndex, Hash, LogTree, StoreFault, TreeSize, entry, listing};
use proofline_verifier::{
    Checkpoint, KeyError, KeyName, LogHash, TreeError, TreeHash as _, TreeHead, cosignature_signed_bytes, verify_consistency,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    clock::unix_ns,
    failure::{Failure, FailureReporter},
    replica::Progress,
    signed_tree::{SignedTree, SignedTreeError, SignedTreeFile},
    store::{StateDb, StateStore},
};

/// How long a request may wait for this node to apply what it names.
const APPLIED_WITHIN: Duration = Duration::from_secs(2);
/// How far committed time may be ahead of this node's clock.
const AHEAD_MAX_NS: u64 = 60_000_000_000;
/// Requests that may wait; a leader has one under way.
const WAITING_MAX: usize = 8;

/// Why a tree head is not cosigned.
#[derive(Debug, Error)]
pub enum NotCosigned {
    /// This node has not applied as much.
    #[error("this node has applied {applied} entries, not yet {size}")]
    Behind {
        /// What it has.
        applied: TreeSize,
        /// What was asked.
        size: TreeSize,
    },
    /// This node computed another root.
    #[error("at size {size} this node has root {computed:?}, not {asked:?}")]
    OtherRoot {
        /// Size in question.
        size: TreeSize,
        /// Its root here.
        computed: Hash,
        /// The root that was asked for.
        asked: Hash,
    },
    /// This node signed a greater tree before.
    #[error("this node signed size {signed} already, {size} is behind it")]
    BehindSigned {
        /// What it signed.
        signed: TreeSize,
        /// What was asked.
        size: TreeSize,
    },
    /// The tree does not extend the one that was signed before. Building and checking are two pieces of code; they disagree.
    #[error("size {size} does not extend what this node signed: {reason}")]
    Inconsistent {
        /// Size in question.
        size: TreeSize,
        /// What the check said.
        reason: TreeError,
    },
    /// Its newest entry is dated more than a minute ahead of this node's clock.
    #[error("the newest entry is dated {ahead_s} s ahead of this node's clock")]
    AheadOfTime {
        /// How far.
        ahead_s: u64,
    },
    /// The state could not be read.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// What was signed could not be made durable.
    #[error(transparent)]
    SignedTree(#[from] SignedTreeError),
    /// The origin cannot name a key.
    #[error(transparent)]
    Origin(#[from] KeyError),
    /// The node shuts down.
    #[error("the node shuts down")]
    ShuttingDown,
}

/// A cosignature/v1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// When it was made, by this node's clock.
    pub unix_s: u64,
    /// Ed25519 over the cosignature/v1 message.
    pub signature: [u8; 64],
}

struct Request {
    tree: SignedTree,
    reply: oneshot::Sender<Result<Cosignature, NotCosigned>>,
}

/// Asks the cosigner of this node. Requests are answered one after the other.
#[derive(Clone, Debug)]
pub struct CosignerHandle(mpsc::Sender<Request>);

impl CosignerHandle {
    /// Has a tree head cosigned.
    ///
    /// # Errors
    /// [`NotCosigned`].
    pub async fn cosign(&self, tree: SignedTree) -> Result<Cosignature, NotCosigned> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Request { tree, reply }).await.map_err(|_| NotCosigned::ShuttingDown)?;
        answer.await.map_err(|_| NotCosigned::ShuttingDown)?
    }
}

/// The one holder of the node key.
pub struct Cosigner {
    /// Name of the log.
    pub origin: Arc<str>,
    /// This node's key.
    pub key: SigningKey,
    /// The replicated state.
    pub state: StateStore,
    /// How far it was applied.
    pub progress: watch::Receiver<Progress>,
    /// What was signed before.
    pub signed: SignedTreeFile,
    /// Where a failed disk is reported.
    pub failures: FailureReporter,
}

impl Cosigner {
    /// Answers requests until every handle is gone.
    pub fn start(mut self) -> (CosignerHandle, impl Future<Output = ()>) {
        let (sender, mut requests) = mpsc::channel::<Request>(WAITING_MAX);
        let serving = async move {
            while let Some(Request { tree, reply }) = requests.recv().await {
                let answer = self.answer(tree).await;
                if let Err(error @ (NotCosigned::OtherRoot { .. } | NotCosigned::Inconsistent { .. })) = &answer {
                    tracing::error!(%error, "refused to cosign: this node and the leader do not agree on the log");
                }
                if let Err(NotCosigned::SignedTree(error)) = &answer {
                    self.failures.report(Failure::DiskFailed { action: "noting a signed tree head", reason: error.to_string() });
                }
                drop(reply.send(answer));
            }
        };
        (CosignerHandle(sender), serving)
    }

    async fn answer(&mut self, tree: SignedTree) -> Result<Cosignature, NotCosigned> {
        let reached = self.progress.wait_for(|seen| seen.tree_size >= tree.size);
        let has_applied = matches!(tokio::time::timeout(APPLIED_WITHIN, reached).await, Ok(Ok(_)));
        if !has_applied {
            return Err(NotCosigned::Behind { applied: self.progress.borrow().tree_size, size: tree.size });
        }
        check(&self.state.view(), tree, self.signed.newest())?;
        if self.signed.newest() != tree {
            self.signed.advance(tree)?;
        }
        let checkpoint = Checkpoint {
            origin: KeyName::parse(&self.origin)?,
            size: proofline_verifier::TreeSize(tree.size.0),
            root: LogHash::from_bytes(tree.root.0),
        };
        let unix_s = unix_ns() / 1_000_000_000;
        let message = cosignature_signed_bytes(unix_s, &checkpoint.note_text());
        Ok(Cosignature { unix_s, signature: self.key.sign(&message).to_bytes() })
    }
}

/// Compares what is asked with this node's own tree, its clock and what it signed before.
fn check(state: &StateDb, asked: SignedTree, signed: SignedTree) -> Result<(), NotCosigned> {
    let mut tree = LogTree::new(state, asked.size);
    let computed = tree.root()?;
    if computed != asked.root {
        return Err(NotCosigned::OtherRoot { size: asked.size, computed, asked: asked.root });
    }
    if asked.size < signed.size {
        return Err(NotCosigned::BehindSigned { signed: signed.size, size: asked.size });
    }
    let path = tree.consistency_path(signed.size)?.unwrap_or_default();
    let path: Vec<LogHash> = path.iter().map(|hash| LogHash::from_bytes(hash.0)).collect();
    verify_consistency(head(signed), head(asked), &path).map_err(|reason| NotCosigned::Inconsistent { size: asked.size, reason })?;
    let ahead_ns = committed_ns(state, asked.size)?.saturating_sub(unix_ns());
    if ahead_ns > AHEAD_MAX_NS { Err(NotCosigned::AheadOfTime { ahead_s: ahead_ns / 1_000_000_000 }) } else { Ok(()) }
}

fn head(of: SignedTree) -> TreeHead<LogHash> {
    TreeHead { size: proofline_verifier::TreeSize(of.size.0), root: LogHash::from_bytes(of.root.0) }
}

/// Returns the committed time of the newest entry below `size`.
fn committed_ns(state: &StateDb, size: TreeSize) -> Result<u64, StoreFault> {
    let Some(last) = size.0.checked_sub(1) else { return Ok(0) };
    let entry = listing::entry(state, EntryIndex(last))?;
    Ok(entry.as_deref().and_then(entry::parse).map_or(0, |(_, core)| core.committed_unix_ns))
}
