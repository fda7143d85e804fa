//! Cosigns tree heads with this node's own key: only what this node applied, only what extends what it signed before, nothing
//! that came in a snapshot before the signatures in it were checked here, and nothing over a state commitment that this node
//! has not found to be true.

use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
    sync::Arc,
    time::{Duration, Instant},
};

use ed25519_dalek::{Signer as _, SigningKey};
use proofline_ledger::{EntryIndex, Hash, LogTree, StoreFault, TreeSize, entry, listing, newest_commitment};
use proofline_proto::v1::Genesis;
use proofline_verifier::{Checkpoint, KeyError, KeyName, LogHash, TreeError, TreeHash as _, cosignature_signed_bytes};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    authentic::{Authentic, Authenticator, NotExtended, Trusted, extends},
    clock::unix_ns,
    completeness::Confirmed,
    failure::{Failure, FailureReporter},
    recheck::NotAuthentic,
    replica::Progress,
    signed_tree::{SignedTree, SignedTreeError, SignedTreeFile},
    store::{StateDb, StateStore},
};

/// How long a request may wait until this node has applied what it names, and checked what it did not apply itself.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// How long a request may wait for the check of what came in a snapshot, which may be nearly done.
const CHECKED_WITHIN: Duration = Duration::from_millis(200);
/// How far committed time may be ahead of this node's clock.
const AHEAD_MAX_NS: u64 = 60_000_000_000;
/// How often the log says one and the same reason.
const TOLD_EVERY: Duration = Duration::from_secs(60);
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
    #[error("this node has checked {checked} entries of those it got in a snapshot, and goes on")]
    Unchecked {
        /// How far it is.
        checked: TreeSize,
    },
    /// Entries that came in a snapshot are not what collectors and operators signed.
    #[error("what came in a snapshot is not authentic: {0}")]
    NotAuthentic(Arc<NotAuthentic>),
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
    authentic: watch::Receiver<Authentic>,
    signed: watch::Receiver<SignedTree>,
    told: watch::Sender<Told>,
}

/// Which reasons for not cosigning the log gave, and when it did last: a node is asked several times a second.
#[derive(Debug, Default)]
struct Told(HashMap<Discriminant<NotCosigned>, Instant>);

impl Told {
    fn is_due(&mut self, why: &NotCosigned, now: Instant) -> bool {
        let is_due = self.0.get(&discriminant(why)).is_none_or(|told| now.duration_since(*told) >= TOLD_EVERY);
        if is_due {
            self.0.insert(discriminant(why), now);
        }
        is_due
    }
}

impl CosignerHandle {
    /// Has a tree head cosigned.
    ///
    /// # Errors
    /// [`NotCosigned`].
    pub async fn cosign(&self, tree: SignedTree) -> Result<Cosignature, NotCosigned> {
        let answer = self.asked(tree).await;
        if let Err(why) = &answer
            && self.told.send_if_modified(|told| told.is_due(why, Instant::now()))
        {
            tracing::warn!(reason = %why, "this node did not cosign; said once a minute");
        }
        answer
    }

    async fn asked(&self, tree: SignedTree) -> Result<Cosignature, NotCosigned> {
        self.clone().ready(tree.size).await?;
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { tree, reply }).await.map_err(|_| NotCosigned::ShuttingDown)?;
        answer.await.map_err(|_| NotCosigned::ShuttingDown)?
    }

    /// Waits until this node has applied so much, has checked what it did not apply itself, and has found out that the newest
    /// commitment in it is true, with all before it.
    async fn ready(mut self, size: TreeSize) -> Result<(), NotCosigned> {
        let until = tokio::time::Instant::now() + READY_WITHIN;
        let reached = self.progress.wait_for(|seen| seen.tree_size >= size);
        if !matches!(tokio::time::timeout_at(until, reached).await, Ok(Ok(_))) {
            return Err(NotCosigned::Behind { applied: self.progress.borrow().tree_size, size });
        }
        let taken = self.progress.borrow().taken;
        // A little: who leads waits for every voter. What came of it is said with the answer.
        let signed = self.signed.borrow().to_owned();
        let of = Trusted::in_state(&self.progress.borrow());
        let known = self.authentic.wait_for(|known| !matches!(known.vouched(of, signed), Err((_, None))));
        drop(tokio::time::timeout(CHECKED_WITHIN, known).await);
        let Some(commitment) = newest_commitment(&*self.state.view(), size)?.map(|of| of.index) else { return Ok(()) };
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
        let Self { genesis, key, state, progress, confirmed, signed, failures } = self;
        let (found, authentic) = watch::channel(Authentic::of(signed.newest()));
        let (signed_now, signed_before) = watch::channel(signed.newest());
        let authenticator = Authenticator {
            genesis: genesis.clone(),
            state: state.clone(),
            progress: progress.clone(),
            signed: signed_before.clone(),
            found,
            failures: failures.clone(),
        };
        let handle = CosignerHandle {
            requests: sender,
            state: state.clone(),
            progress: progress.clone(),
            confirmed: confirmed.clone(),
            authentic: authentic.clone(),
            signed: signed_before.clone(),
            told: watch::Sender::default(),
        };
        let mut signer = Signer { genesis, key, state, progress, confirmed, authentic, signed, signed_now };
        let answering = async move {
            while let Some(Request { tree, reply }) = requests.recv().await {
                if reply.is_closed() {
                    continue;
                }
                let answer = signer.answer(tree);
                if let Err(error @ (NotCosigned::OtherRoot { .. } | NotCosigned::Inconsistent { .. })) = &answer {
                    tracing::error!(%error, "refused to cosign: this node and the leader do not agree on the log");
                }
                if let Err(NotCosigned::NotAuthentic(error)) = &answer {
                    tracing::error!(%error, "refused to cosign: what came in a snapshot is not vouched for; examine and replace this node");
                }
                if let Err(NotCosigned::SignedTree(error)) = &answer {
                    failures.report(Failure::DiskFailed { action: "noting a signed tree head", reason: error.to_string() });
                }
                drop(reply.send(answer));
            }
        };
        let serving = async move {
            tokio::select! {
                () = answering => (),
                () = authenticator.run() => (),
            }
        };
        (handle, serving)
    }
}

/// The cosigner at work.
struct Signer {
    genesis: Genesis,
    key: SigningKey,
    state: StateStore,
    progress: watch::Receiver<Progress>,
    confirmed: watch::Receiver<Confirmed>,
    authentic: watch::Receiver<Authentic>,
    signed: SignedTreeFile,
    signed_now: watch::Sender<SignedTree>,
}

impl Signer {
    fn answer(&mut self, tree: SignedTree) -> Result<Cosignature, NotCosigned> {
        let applied = self.progress.borrow().tree_size;
        if applied < tree.size {
            return Err(NotCosigned::Behind { applied, size: tree.size });
        }
        // One view for all of it, and taken before the question how much of it was applied here.
        let state = self.state.view();
        let signed = self.signed.newest();
        let checked = self.vouched(signed)?;
        self.check_commitment(&state, tree.size)?;
        check(&state, tree, signed, checked)?;
        if signed != tree {
            self.signed.advance(tree)?;
            self.signed_now.send_replace(tree);
        }
        let checkpoint = Checkpoint {
            origin: KeyName::parse(&self.genesis.origin)?,
            size: proofline_verifier::TreeSize(tree.size.0),
            root: LogHash::from_bytes(tree.root.0),
        };
        let unix_s = unix_ns() / 1_000_000_000;
        let message = cosignature_signed_bytes(unix_s, &checkpoint.note_text());
        Ok(Cosignature { unix_s, signature: self.key.sign(&message).to_bytes() })
    }

    /// Returns up to where this node vouches for what it did not apply itself; that must be all of it.
    fn vouched(&self, signed: SignedTree) -> Result<SignedTree, NotCosigned> {
        let of = Trusted::in_state(&self.progress.borrow());
        self.authentic.borrow().vouched(of, signed).map_err(|(checked, refuted)| match refuted {
            Some(why) => NotCosigned::NotAuthentic(why),
            None => NotCosigned::Unchecked { checked },
        })
    }

    /// Checks that this node has found out that the newest commitment which the tree covers is true, with all before it.
    fn check_commitment(&self, state: &StateDb, size: TreeSize) -> Result<(), NotCosigned> {
        let Some(commitment) = newest_commitment(state, size)?.map(|of| of.index) else { return Ok(()) };
        let taken = self.progress.borrow().taken;
        let is_true = self.confirmed.borrow().covers(taken, commitment);
        if is_true { Ok(()) } else { Err(NotCosigned::Unconfirmed { size, commitment }) }
    }
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
    extends(state, signed, asked).map_err(|error| inconsistent(asked.size, error))?;
    let (older, newer) = if asked.size < checked.size { (asked, checked) } else { (checked, asked) };
    extends(state, older, newer).map_err(|error| inconsistent(newer.size, error))?;
    let ahead_ns = committed_ns(state, asked.size)?.saturating_sub(unix_ns());
    if ahead_ns > AHEAD_MAX_NS { Err(NotCosigned::AheadOfTime { ahead_s: ahead_ns / 1_000_000_000 }) } else { Ok(()) }
}

fn inconsistent(size: TreeSize, error: NotExtended) -> NotCosigned {
    match error {
        NotExtended::Tree(reason) => NotCosigned::Inconsistent { size, reason },
        NotExtended::Store(fault) => NotCosigned::Store(fault),
    }
}

/// Returns the committed time of the newest entry below `size`.
fn committed_ns(state: &StateDb, size: TreeSize) -> Result<u64, StoreFault> {
    let Some(last) = size.0.checked_sub(1) else { return Ok(0) };
    let entry = listing::entry(state, EntryIndex(last))?;
    Ok(entry.as_deref().and_then(entry::parse).map_or(0, |(_, core)| core.committed_unix_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_for_not_cosigning_is_said_once_a_minute() {
        let (mut told, began) = (Told::default(), Instant::now());
        let behind = |applied| NotCosigned::Behind { applied: TreeSize(applied), size: TreeSize(9) };
        let mut due = |why: &NotCosigned, second| told.is_due(why, began + Duration::from_secs(second));
        assert!(due(&behind(1), 0));
        assert!(!due(&behind(2), 59), "how far it is does not make another reason");
        assert!(due(&NotCosigned::AheadOfTime { ahead_s: 61 }, 59));
        assert!(due(&behind(3), 60));
    }
}
