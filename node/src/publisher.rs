//! Publishes the log: while this node leads, it asks the voters to cosign what is applied and replicates the signed note.
//!
//! Publishing adds no entry. What is published is the newest note that was replicated, the same on every node.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ed25519_dalek::{Signer, SigningKey};
use futures::{StreamExt as _, stream::FuturesUnordered};
use proofline_ledger::{Hash, LogTree, Outcome, PreparedItem, StoreFault, TreeSize, cosigners, listing, note_size, signed};
use proofline_proto::{
    peer::{CosignRequest, Item, item},
    v1::NodeKey,
};
use proofline_verifier::{
    Checkpoint, KeyError, KeyName, LogHash, NoteError, NoteSignature, SignatureType, SignedNote, TreeHash as _, VerifierKey,
};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    cosigner::{Cosignature, CosignerHandle},
    failure::{Failure, FailureReporter},
    inbox::{Applied, Inbox, Submission},
    leadership::Leadership,
    peers::Peers,
    replica::Progress,
    rpc::Api,
    signed_tree::SignedTree,
    store::StateStore,
    witnesses::Witnesses,
};

/// How often a new tree head is published while there is news.
const PERIOD: Duration = Duration::from_millis(200);
/// How long a voter may take to cosign.
const COSIGN_WITHIN: Duration = Duration::from_secs(2);
/// How long the others may take once a majority has cosigned: everybody who waits for a checkpoint would wait for a node that hangs.
const GRACE: Duration = Duration::from_millis(500);
/// How often they have [`COSIGN_WITHIN`] all the same, so that a node that is only slow cosigns, too.
const ALL_ASKED_EVERY: Duration = Duration::from_secs(10);
/// How often the log says why one and the same node does not cosign.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Why nothing was published this time.
#[derive(Debug, Error)]
enum NotPublished {
    #[error("{cosigned} of {of} {who} cosigned size {size}, a majority is needed")]
    NoMajority { cosigned: usize, of: usize, who: &'static str, size: TreeSize },
    #[error(transparent)]
    Store(#[from] StoreFault),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// What the publisher works with.
pub struct Publisher {
    /// The log key: every voter holds it.
    pub log_key: SigningKey,
    /// The replicated state.
    pub state: StateStore,
    /// How far it was applied.
    pub progress: watch::Receiver<Progress>,
    /// Whether this node leads.
    pub leadership: watch::Receiver<Leadership>,
    /// The other nodes.
    pub peers: Peers,
    /// This node's own cosigner.
    pub cosigner: CosignerHandle,
    /// Who outside is asked to cosign as well.
    pub witnesses: Witnesses,
    /// Where the note goes to be replicated.
    pub inbox: Inbox,
}

impl Publisher {
    /// Publishes every 200 ms with news, until shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked = Asked::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => (),
            }
            if *self.leadership.borrow_and_update() != Leadership::Here {
                continue;
            }
            if let Err(error) = self.publish(&mut asked).await {
                tracing::warn!(%error, "no checkpoint published");
            }
        }
    }

    async fn publish(&self, asked: &mut Asked) -> Result<(), NotPublished> {
        let size = self.progress.borrow().tree_size;
        let state = self.state.view();
        let published = listing::checkpoint(&*state)?.as_deref().and_then(note_size).unwrap_or(0);
        if size.0 <= published {
            return Ok(());
        }
        // Planted: the root of another size, which nobody compares with his own.
        let of = proofline_ledger::planted!(CheckpointUnchecked, TreeSize(size.0.saturating_sub(1)), size);
        let tree = SignedTree { size, root: LogTree::new(&*state, of).root()? };
        let nodes = cosigners(&*state)?;
        let note = self.cosigned_note(listing_origin(&state)?, tree, &nodes, asked).await?;
        let witnessed = self.witnesses.cosign(&state, tree, &note).await;
        let signatures = note.signatures().iter().cloned().chain(witnessed).collect();
        let note = SignedNote::new(note.text().to_owned(), signatures)?.encode().into_bytes();
        let item = Item { item: Some(item::Item::Checkpoint(note.clone())) };
        if let Ok(ticket) = self.inbox.admit_command(Submission::new(item, PreparedItem::Checkpoint(note.into()))) {
            // Refused when a newer one is published by now, lost when the lead is: either way the next round looks again.
            if let Ok(Applied { outcome: Outcome::Refused(refusal), .. }) = ticket.answer().await {
                tracing::warn!(%refusal, "the checkpoint was not taken");
            }
        }
        Ok(())
    }

    async fn cosigned_note(
        &self,
        origin: KeyName,
        tree: SignedTree,
        nodes: &[NodeKey],
        before: &mut Asked,
    ) -> Result<SignedNote, NotPublished> {
        let checkpoint =
            Checkpoint { origin: origin.clone(), size: proofline_verifier::TreeSize(tree.size.0), root: LogHash::from_bytes(tree.root.0) };
        let text = checkpoint.note_text();
        let log_key = VerifierKey::new(origin, SignatureType::Ed25519, self.log_key.verifying_key().as_bytes())?;
        let mut signatures = vec![NoteSignature::of_log(&log_key, &self.log_key.sign(text.as_bytes()).to_bytes())];
        let registered: BTreeSet<u64> = nodes.iter().map(|node| node.node_id).collect();
        let voters = self.peers.voters().into_iter().filter(|voter| registered.contains(voter)).collect();
        let check = |cosigned: &BTreeSet<u64>| {
            check_majority("registered nodes", &registered, cosigned, tree.size)?;
            check_majority("registered voters", &voters, cosigned, tree.size)
        };
        let asked = nodes.iter().map(|node| async { (node.node_id, self.ask(node, tree, &text).await) });
        let grace = before.grace(Instant::now());
        let answered = gather(asked, grace, |given| check(&cosigners_of(given)).is_ok()).await;
        for node in nodes {
            match answered.get(&node.node_id) {
                Some(Ok(signature)) => signatures.push(signature.clone()),
                Some(Err(reason)) => before.tell(node, reason, Instant::now()),
                None => {
                    before.missed = Some(Instant::now());
                    before.tell(node, &format!("no answer {} ms after a majority had cosigned", grace.as_millis()), Instant::now());
                }
            }
        }
        check(&cosigners_of(&answered))?;
        Ok(SignedNote::new(text, signatures)?)
    }

    /// Asks a node to cosign, and returns its signature line, or why there is none.
    async fn ask(&self, node: &NodeKey, tree: SignedTree, text: &str) -> Result<NoteSignature, String> {
        let asked = async {
            if node.node_id == self.peers.node_id() {
                return self.cosigner.cosign(tree).await.map_err(|error| error.to_string());
            }
            let request = CosignRequest { size: tree.size.0, root: tree.root.0.to_vec() };
            let answer = self.peers.cosign(node.node_id, request).await.map_err(|status| status.message().to_owned())?;
            let signature = answer.signature.as_slice().try_into().map_err(|_| "the signature is not 64 bytes".to_owned())?;
            Ok(Cosignature { unix_s: answer.unix_s, signature })
        };
        let cosignature =
            tokio::time::timeout(COSIGN_WITHIN, asked).await.map_err(|_| format!("no answer within {} s", COSIGN_WITHIN.as_secs()))??;
        if !is_by(node, &cosignature, text) {
            tracing::error!(voter = node.name, "a cosignature does not verify under the registered key of its node; it is left out");
            return Err("its cosignature does not verify".to_owned());
        }
        let key = KeyName::parse(&node.name).and_then(|name| VerifierKey::new(name, SignatureType::CosignatureV1, &node.public_key));
        let key = key.map_err(|error| error.to_string())?;
        Ok(NoteSignature::of_cosigner(&key, cosignature.unix_s, &cosignature.signature))
    }
}

/// What the nodes that answered have said, by their ids.
type Answers<T> = BTreeMap<u64, Result<T, String>>;

/// Takes answers until all are here, or until those that are here have been enough for the length of `grace`.
async fn gather<T>(
    asked: impl Iterator<Item = impl Future<Output = (u64, Result<T, String>)>>,
    grace: Duration,
    is_enough: impl Fn(&Answers<T>) -> bool,
) -> Answers<T> {
    let mut coming: FuturesUnordered<_> = asked.collect();
    let mut given = Answers::new();
    while !is_enough(&given) {
        match coming.next().await {
            Some((node, answer)) => drop(given.insert(node, answer)),
            None => return given,
        }
    }
    let rest = async {
        while let Some((node, answer)) = coming.next().await {
            given.insert(node, answer);
        }
    };
    // Those who do not come in time are not in this note; the next round asks them about a larger tree.
    let _ = tokio::time::timeout(grace, rest).await;
    given
}

fn cosigners_of<T>(answers: &Answers<T>) -> BTreeSet<u64> {
    answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(node, _)| *node).collect()
}

/// What is remembered of earlier rounds.
#[derive(Debug, Default)]
struct Asked {
    /// Which nodes did not cosign, and when the log said so last: a node is asked several times a second.
    told: BTreeMap<u64, Instant>,
    /// When one last was not waited for any longer.
    missed: Option<Instant>,
    /// When all nodes last had their whole time.
    all_asked: Option<Instant>,
}

impl Asked {
    /// How long those who have not cosigned are waited for when a majority has, this time.
    fn grace(&mut self, now: Instant) -> Duration {
        let is_recent = |at: Instant| now.duration_since(at) < ALL_ASKED_EVERY;
        // Where little is published, everybody who waits for it would wait for a node that hangs.
        if !self.missed.is_some_and(is_recent) || self.all_asked.is_some_and(is_recent) {
            return GRACE;
        }
        self.all_asked = Some(now);
        COSIGN_WITHIN
    }

    fn tell(&mut self, node: &NodeKey, reason: &str, now: Instant) {
        if self.is_due(node.node_id, now) {
            tracing::warn!(node = node.node_id, name = node.name, reason, "a node did not cosign; said once a minute");
        }
    }

    fn is_due(&mut self, node: u64, now: Instant) -> bool {
        let is_due = self.told.get(&node).is_none_or(|told| now.duration_since(*told) >= TOLD_EVERY);
        if is_due {
            self.told.insert(node, now);
        }
        is_due
    }
}

/// More than half of those who are registered make the note one that others accept; more than half of those who vote as
/// well, so that nodes which left the cluster and were not retired do not decide what it publishes.
fn check_majority(who: &'static str, of: &BTreeSet<u64>, cosigned: &BTreeSet<u64>, size: TreeSize) -> Result<(), NotPublished> {
    let cosigned = cosigned.intersection(of).count();
    if cosigned > of.len() / 2 { Ok(()) } else { Err(NotPublished::NoMajority { cosigned, of: of.len(), who, size }) }
}

/// Checks a cosignature: one bad line would make the whole note proven wrong.
fn is_by(voter: &NodeKey, cosignature: &Cosignature, text: &str) -> bool {
    let message = proofline_verifier::cosignature_signed_bytes(cosignature.unix_s, text);
    signed::check(&voter.public_key, &message, &cosignature.signature) == signed::Signed::Authentic
}

fn listing_origin(state: &crate::store::StateDb) -> Result<KeyName, NotPublished> {
    Ok(KeyName::parse(&listing::origin(state)?)?)
}

/// Follows what is published, as it is applied, until shutdown. A node whose own tree is not the published one has diverged.
/// A note that cannot be read is not served; the one before it is, until the next one comes.
pub async fn follow_published(
    state: StateStore,
    mut progress: watch::Receiver<Progress>,
    published: watch::Sender<Option<Published>>,
    shutdown: CancellationToken,
) -> Result<(), Diverged> {
    let mut seen = None;
    loop {
        let note = listing::checkpoint(&*state.view())?;
        if note != seen {
            seen.clone_from(&note);
            match note.map(|note| Published::check(&state, note)).transpose() {
                Ok(news) => drop(published.send_replace(news)),
                Err(NotServed::Unreadable) => tracing::error!("the replicated checkpoint cannot be read; it is not served"),
                Err(NotServed::Diverged(diverged)) => return Err(diverged),
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changed = progress.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// Serves what is published, as it is applied, until shutdown; a tree that is not the published one ends the process.
pub(crate) async fn watch_published(
    api: Api,
    published: watch::Sender<Option<Published>>,
    failures: FailureReporter,
    shutdown: CancellationToken,
) {
    let own = api.published.clone();
    let followed = follow_published(api.state.clone(), api.progress.clone(), published, shutdown).await;
    if let Err(error) = followed {
        let reason = error.to_string();
        failures.report(match error {
            Diverged::OtherTree { .. } => Failure::Diverged { reason, checkpoints: kept(&api.state, own.borrow().as_ref()) },
            Diverged::Store(_) => Failure::StorageDamaged { reason },
        });
    }
}

/// The checkpoint that the cluster published, and the one before it that this node served.
fn kept(state: &StateStore, own: Option<&Published>) -> Vec<String> {
    let replicated = listing::checkpoint(&*state.view()).ok().flatten();
    let notes = replicated.into_iter().chain(own.map(|own| own.note.clone()));
    notes.map(|note| String::from_utf8_lossy(&note).into_owned()).collect()
}

/// The newest published checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The signed note.
    pub note: Vec<u8>,
    /// Entries that it covers.
    pub size: TreeSize,
}

/// Why this node must not go on.
#[derive(Debug, Error)]
pub enum Diverged {
    /// A majority signed another tree than this node has.
    #[error("at size {size} the cluster published {published}, this node computed {computed:?}")]
    OtherTree {
        /// Size in question.
        size: TreeSize,
        /// Root in the note.
        published: LogHash,
        /// Root here.
        computed: Hash,
    },
    /// The state could not be read.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// Why a replicated note is not served.
enum NotServed {
    /// It is no checkpoint to those who will verify it.
    Unreadable,
    /// It is about another tree than this node has.
    Diverged(Diverged),
}

impl From<StoreFault> for NotServed {
    fn from(fault: StoreFault) -> Self {
        Self::Diverged(fault.into())
    }
}

impl Published {
    fn check(state: &StateStore, note: Vec<u8>) -> Result<Self, NotServed> {
        let parsed = SignedNote::parse(&note).map_err(|_| NotServed::Unreadable)?;
        let checkpoint = Checkpoint::parse_text(parsed.text()).map_err(|_| NotServed::Unreadable)?;
        let size = TreeSize(checkpoint.size.0);
        let computed = LogTree::new(&*state.view(), size).root()?;
        if computed.0 == *checkpoint.root.as_bytes() || proofline_ledger::planted!(CheckpointUnchecked) {
            Ok(Self { note, size })
        } else {
            Err(NotServed::Diverged(Diverged::OtherTree { size, published: checkpoint.root, computed }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_node_does_not_cosign_is_said_once_a_minute() {
        let (mut asked, began) = (Asked::default(), Instant::now());
        let due: Vec<bool> = [0, 1, 59, 60, 61].iter().map(|second| asked.is_due(3, began + Duration::from_secs(*second))).collect();
        assert_eq!(due, [true, false, false, true, false]);
        assert!(asked.is_due(4, began), "another node is another matter");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_hangs_is_waited_for_a_moment_and_only_once_a_majority_answered() {
        let began = tokio::time::Instant::now();
        let after = |node: u64, ms: u64| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            (node, if node == 9 { Err("it refuses".to_owned()) } else { Ok(()) })
        };
        let is_enough = |given: &Answers<()>| cosigners_of(given).len() >= 2;
        let gathered = async |asked: [(u64, u64); 3]| {
            let given = gather(asked.into_iter().map(|(node, ms)| after(node, ms)), GRACE, is_enough).await;
            (given.into_keys().collect::<Vec<_>>(), tokio::time::Instant::now())
        };
        let (nodes, at) = gathered([(1, 0), (2, 40), (3, 60_000)]).await;
        assert_eq!((nodes, at - began), (vec![1, 2], Duration::from_millis(40) + GRACE), "the third hangs");
        let (nodes, then) = gathered([(1, 0), (2, 40), (3, 300)]).await;
        assert_eq!((nodes, then - at), (vec![1, 2, 3], Duration::from_millis(300)), "the third is slow: no longer than it takes");
        let (nodes, last) = gathered([(1, 0), (9, 40), (3, 1_900)]).await;
        assert_eq!((nodes, last - then), (vec![1, 3, 9], Duration::from_millis(1_900)), "a refusal is no part of a majority");
    }

    #[test]
    fn a_slow_node_has_its_whole_time_now_and_then() {
        let (mut asked, began) = (Asked::default(), Instant::now());
        let mut graces = |seconds: [u64; 5]| {
            seconds.map(|second| {
                let now = began + Duration::from_secs(second);
                let grace = asked.grace(now);
                asked.missed = Some(now);
                grace
            })
        };
        assert_eq!(graces([0, 1, 2, 10, 11]), [GRACE, COSIGN_WITHIN, GRACE, GRACE, COSIGN_WITHIN], "much is published");
        assert_eq!(graces([30, 50, 70, 90, 110]), [GRACE; 5], "little is published: nobody waits long for a node that hangs");
    }

    #[test]
    fn a_majority_is_more_than_half_of_those_who_count() {
        let set = |of: &[u64]| of.iter().copied().collect::<BTreeSet<u64>>();
        let check = |of: &[u64], cosigned: &[u64]| check_majority("voters", &set(of), &set(cosigned), TreeSize(1)).is_ok();
        assert!(check(&[1], &[1]) && check(&[1, 2, 3], &[1, 3]) && check(&[1, 2, 3, 4], &[1, 2, 3]));
        assert!(!check(&[1, 2, 3, 4], &[1, 2]), "half is no majority");
        // Registered nodes that left the cluster are no voters, however many of them cosign.
        assert!(!check(&[1, 2, 3], &[1, 4, 5]));
        assert!(!check(&[], &[4, 5]));
    }
}
