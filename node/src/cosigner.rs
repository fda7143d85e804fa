//! Cosigns tree heads with this node's own key: only what this node applied, only what extends what it signed before, nothing
//! that came in a snapshot before the signatures in it were checked here, and nothing over a state commitment that this node
//! has not found to be true.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ed25519_dalek::{Signer as _, SigningKey};
use proofline_ledger::{EntryIndex, Hash, LogTree, StoreFault, TreeSize, entry, listing, newest_commitment};
use proofline_proto::v1::Genesis;
use proofline_verifier::{
    Checkpoint, KeyError, KeyName, LogHash, TreeError, TreeHash as _, TreeHead, cosignature_signed_bytes, verify_consistency,
};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    clock::unix_ns,
    completeness::Confirmed,
    failure::{Failure, FailureReporter},
    recheck::{NotAuthentic, Recheck},
    replica::Progress,
    signed_tree::{SignedTree, SignedTreeError, SignedTreeFile},
    store::{StateDb, StateStore},
};

/// How long a request may wait until this node has applied what it names, and found the commitments in it to be true.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// How far committed time may be ahead of this node's clock.
const AHEAD_MAX_NS: u64 = 60_000_000_000;
/// Requests that may wait; a leader has one under way.
const WAITING_MAX: usize = 8;
/// How long one request may spend on entries that came in a snapshot.
const RECHECK_WITHIN: Duration = Duration::from_secs(1);
/// Entries between two looks at the clock.
const RECHECK_ENTRIES: u64 = 256;

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
    /// What it names covers a state commitment that this node has not found to be true.
    #[error("size {size} covers state commitment {commitment}, which this node has not computed again yet")]
    Unconfirmed {
        /// What was asked.
        size: TreeSize,
        /// The commitment's entry.
        commitment: EntryIndex,
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
    /// Entries came in a snapshot, and this node is still checking who signed them.
    #[error("this node has checked {checked} entries of those it got in a snapshot; it goes on with the next request")]
    Unchecked {
        /// How far it is.
        checked: TreeSize,
    },
    /// Entries that came in a snapshot are not what collectors and operators signed.
    #[error("what came in a snapshot is not authentic: {0}")]
    NotAuthentic(#[from] NotAuthentic),
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

/// Asks the cosigner of this node. Requests are answered one after the other; each waits by itself for what it needs, so that
/// one which asks for what will never be holds up no other.
#[derive(Clone, Debug)]
pub struct CosignerHandle {
    requests: mpsc::Sender<Request>,
    state: StateStore,
    progress: watch::Receiver<Progress>,
    confirmed: watch::Receiver<Confirmed>,
}

impl CosignerHandle {
    /// Has a tree head cosigned.
    ///
    /// # Errors
    /// [`NotCosigned`].
    pub async fn cosign(&self, tree: SignedTree) -> Result<Cosignature, NotCosigned> {
        self.clone().ready(tree.size).await?;
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { tree, reply }).await.map_err(|_| NotCosigned::ShuttingDown)?;
        answer.await.map_err(|_| NotCosigned::ShuttingDown)?
    }

    /// Waits until this node has applied so much, and found out that the newest commitment in it is true, with all before it.
    async fn ready(mut self, size: TreeSize) -> Result<(), NotCosigned> {
        let until = tokio::time::Instant::now() + READY_WITHIN;
        let reached = self.progress.wait_for(|seen| seen.tree_size >= size);
        if !matches!(tokio::time::timeout_at(until, reached).await, Ok(Ok(_))) {
            return Err(NotCosigned::Behind { applied: self.progress.borrow().tree_size, size });
        }
        let Some(commitment) = newest_commitment(&*self.state.view(), size)?.map(|of| of.index) else { return Ok(()) };
        let taken = self.progress.borrow().taken;
        let confirmed = self.confirmed.wait_for(|known| known.covers(taken, commitment));
        match tokio::time::timeout_at(until, confirmed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotCosigned::Unconfirmed { size, commitment }),
        }
    }
}

/// The one holder of the node key.
pub struct Cosigner {
    /// The first entry, as this node was given it.
    pub genesis: Genesis,
    /// This node's key.
    pub key: SigningKey,
    /// The replicated state.
    pub state: StateStore,
    /// How far it was applied.
    pub progress: watch::Receiver<Progress>,
    /// Which state commitments this node found to be true.
    pub confirmed: watch::Receiver<Confirmed>,
    /// What was signed before.
    pub signed: SignedTreeFile,
    /// Where a failed disk is reported.
    pub failures: FailureReporter,
}

impl Cosigner {
    /// Answers requests until every handle is gone.
    pub fn start(self) -> (CosignerHandle, impl Future<Output = ()>) {
        let (sender, mut requests) = mpsc::channel::<Request>(WAITING_MAX);
        let failures = self.failures.clone();
        let (state, progress, confirmed) = (self.state.clone(), self.progress.clone(), self.confirmed.clone());
        let mut signer = Signer::new(self);
        let serving = async move {
            while let Some(Request { tree, reply }) = requests.recv().await {
                if reply.is_closed() {
                    continue;
                }
                let answer = signer.answer(tree).await;
                if let Err(error @ (NotCosigned::OtherRoot { .. } | NotCosigned::Inconsistent { .. })) = &answer {
                    tracing::error!(%error, "refused to cosign: this node and the leader do not agree on the log");
                }
                if let Err(NotCosigned::NotAuthentic(error)) = &answer {
                    tracing::error!(%error, "refused to cosign: a snapshot brought what nobody signed; examine and replace this node");
                }
                if let Err(NotCosigned::SignedTree(error)) = &answer {
                    failures.report(Failure::DiskFailed { action: "noting a signed tree head", reason: error.to_string() });
                }
                drop(reply.send(answer));
            }
        };
        (CosignerHandle { requests: sender, state, progress, confirmed }, serving)
    }
}

/// The cosigner at work: what it has checked beside what it has signed.
struct Signer {
    of: Cosigner,
    /// What this node vouches for: signed before, or checked here since.
    checked: SignedTree,
    /// What was known to be taken on trust when `checked` was found out.
    taken: Option<TreeSize>,
    walk: Option<Recheck>,
}

impl Signer {
    fn new(of: Cosigner) -> Self {
        Self { checked: of.signed.newest(), of, taken: None, walk: None }
    }

    async fn answer(&mut self, tree: SignedTree) -> Result<Cosignature, NotCosigned> {
        let applied = self.of.progress.borrow().tree_size;
        if applied < tree.size {
            return Err(NotCosigned::Behind { applied, size: tree.size });
        }
        // One view for all of it, and taken before the question how much of it was applied here.
        let state = self.of.state.view();
        self.recheck(&state).await?;
        self.check_commitment(&state, tree.size)?;
        let (signed, checked) = (self.of.signed.newest(), self.checked);
        check(&state, tree, signed, checked)?;
        if signed != tree {
            self.of.signed.advance(tree)?;
        }
        let checkpoint = Checkpoint {
            origin: KeyName::parse(&self.of.genesis.origin)?,
            size: proofline_verifier::TreeSize(tree.size.0),
            root: LogHash::from_bytes(tree.root.0),
        };
        let unix_s = unix_ns() / 1_000_000_000;
        let message = cosignature_signed_bytes(unix_s, &checkpoint.note_text());
        Ok(Cosignature { unix_s, signature: self.of.key.sign(&message).to_bytes() })
    }

    /// Checks that this node has found out that the newest commitment which the tree covers is true, with all before it.
    fn check_commitment(&self, state: &StateDb, size: TreeSize) -> Result<(), NotCosigned> {
        let Some(commitment) = newest_commitment(state, size)?.map(|of| of.index) else { return Ok(()) };
        let taken = self.of.progress.borrow().taken;
        let is_true = self.of.confirmed.borrow().covers(taken, commitment);
        if is_true { Ok(()) } else { Err(NotCosigned::Unconfirmed { size, commitment }) }
    }

    /// Checks what was taken on trust, for a while; the next request goes on from there.
    async fn recheck(&mut self, state: &Arc<StateDb>) -> Result<(), NotCosigned> {
        let taken = self.of.progress.borrow().taken;
        if self.taken != Some(taken) {
            (self.taken, self.checked, self.walk) = (Some(taken), self.of.signed.newest(), None);
        }
        if taken <= self.checked.size {
            return Ok(());
        }
        if taken == TreeSize(u64::MAX) {
            return Err(NotCosigned::Unchecked { checked: self.checked.size });
        }
        let (state, genesis, signed, walk) = (Arc::clone(state), self.of.genesis.clone(), self.checked, self.walk.take());
        let walking = tokio::task::spawn_blocking(move || walk_on(&state, walk, genesis, signed, taken));
        let walk = walking.await.map_err(|_| NotCosigned::ShuttingDown)??;
        if walk.is_done() {
            self.checked = walk.target();
            return Ok(());
        }
        let checked = walk.checked();
        tracing::info!(%checked, of = %taken, "checking who signed what came in a snapshot");
        self.walk = Some(walk);
        Err(NotCosigned::Unchecked { checked })
    }
}

fn walk_on(state: &StateDb, walk: Option<Recheck>, genesis: Genesis, signed: SignedTree, taken: TreeSize) -> Result<Recheck, NotCosigned> {
    let until = Instant::now() + RECHECK_WITHIN;
    let mut walk = match walk {
        Some(walk) => walk,
        None => {
            let target = SignedTree { size: taken, root: LogTree::new(state, taken).root()? };
            extends(state, signed, target)?;
            Recheck::begin(state, genesis, signed.size, target)?
        }
    };
    while !walk.is_done() && Instant::now() < until {
        walk.advance(state, RECHECK_ENTRIES)?;
    }
    Ok(walk)
}

/// Compares what is asked with this node's own tree, its clock, and what it signed and checked before.
fn check(state: &StateDb, asked: SignedTree, signed: SignedTree, checked: SignedTree) -> Result<(), NotCosigned> {
    // Planted: whatever is asked for is signed.
    if proofline_ledger::planted!(CheckpointUnchecked) {
        return Ok(());
    }
    let computed = LogTree::new(state, asked.size).root()?;
    if computed != asked.root {
        return Err(NotCosigned::OtherRoot { size: asked.size, computed, asked: asked.root });
    }
    if asked.size < signed.size {
        return Err(NotCosigned::BehindSigned { signed: signed.size, size: asked.size });
    }
    extends(state, signed, asked)?;
    if asked.size < checked.size {
        extends(state, asked, checked)?
    } else {
        extends(state, checked, asked)?
    }
    let ahead_ns = committed_ns(state, asked.size)?.saturating_sub(unix_ns());
    if ahead_ns > AHEAD_MAX_NS { Err(NotCosigned::AheadOfTime { ahead_s: ahead_ns / 1_000_000_000 }) } else { Ok(()) }
}

/// Has the verifier accept that one tree is a prefix of the other.
fn extends(state: &StateDb, older: SignedTree, newer: SignedTree) -> Result<(), NotCosigned> {
    let path = LogTree::new(state, newer.size).consistency_path(older.size)?.unwrap_or_default();
    let path: Vec<LogHash> = path.iter().map(|hash| LogHash::from_bytes(hash.0)).collect();
    verify_consistency(head(older), head(newer), &path).map_err(|reason| NotCosigned::Inconsistent { size: newer.size, reason })
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
