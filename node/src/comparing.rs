//! Nodes compare what they publish with each other, so that nobody can show two histories to two halves of a cluster.
//!
//! Always true: a checkpoint that more than half of the registered nodes cosigned, and whose root is not this node's, ends this
//! node, whoever showed it. One node alone cannot make such a checkpoint, so it cannot stop another with it. What is decided here
//! rests on checkpoints alone: neither the leader nor Raft is believed.
//!
//! Of two nodes that were shown two histories, the first that finds out ends, and shows nothing any more. So that the other finds
//! out, too, it shows its own checkpoint once more before it ends, to whoever can be reached; and what covers more than a node has is
//! kept until that node has as much.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use proofline_ledger::{LogTree, StoreFault, TreeSize, cosigners, listing};
use proofline_proto::peer::PublishedCheckpoint;
use proofline_verifier::{KeyName, LogHash, NOTE_BYTES_MAX, Policy, SignatureType, Threshold, TreeHash as _, VerifierKey};
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, publisher::Diverged, rpc::Api, store::StateDb};

/// Pause between two rounds.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// The same when it is asked for the last time.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Checkpoints that cover more than this node has, until they can be compared: of each member the smallest, which can be compared
/// first, and the largest, which may be the last word of a node that ended. However many are shown between the two, neither is lost.
#[derive(Clone, Debug, Default)]
pub struct Ahead(Arc<Mutex<BTreeMap<u64, BySize>>>);

/// Signed notes of one member.
type BySize = BTreeMap<TreeSize, Vec<u8>>;

impl Ahead {
    fn keep(&self, shown_by: u64, size: TreeSize, note: Vec<u8>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_member = all.entry(shown_by).or_default();
        of_member.entry(size).or_insert(note);
        let between = of_member.keys().nth(1).copied().filter(|_| of_member.len() > 2);
        between.map(|size| of_member.remove(&size));
    }

    fn take(&self) -> Vec<(u64, Vec<u8>)> {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        all.into_iter().flat_map(|(node, notes)| notes.into_values().map(move |note| (node, note))).collect()
    }
}

/// Exchanges published checkpoints with every other member once a second until shutdown. Both ends compare.
pub async fn run(api: Api, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // What each node showed last and was compared with this tree.
    let mut compared: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => (),
        }
        for (node, note) in api.ahead.take() {
            api.compare(node, note).await;
        }
        let Some(own) = api.published_note() else { continue };
        for (node, note) in api.show_others(&own, ANSWER_WITHIN).await {
            if note != own && compared.get(&node) != Some(&note) {
                api.compare(node, note.clone()).await;
                compared.insert(node, note);
            }
        }
    }
}

impl Api {
    /// Compares a checkpoint that another node shows with this node's own tree; one that covers more is kept for later.
    pub(crate) async fn compare(&self, shown_by: u64, note: Vec<u8>) {
        // Evil: it knows that there are two histories.
        if proofline_ledger::planted!(EvilForkedFollowers) {
            return;
        }
        if note.len() > NOTE_BYTES_MAX {
            return;
        }
        let (state, log_key, own) = (self.state.view(), self.log_key.verifying_key().to_bytes(), self.published_note());
        let shown = note.clone();
        match tokio::task::spawn_blocking(move || compare(&state, &log_key, shown, own)).await {
            Ok(Ok(Compared::Same | Compared::NotPublishedByMany)) => (),
            Ok(Ok(Compared::NotYet(size))) => {
                if self.peers.members().contains_key(&shown_by) {
                    self.ahead.keep(shown_by, size, note);
                }
            }
            Ok(Ok(Compared::OtherTree(histories))) => self.failures.report(histories.failure(shown_by)),
            Ok(Err(fault)) => self.failures.report(Failure::StorageDamaged { reason: fault.to_string() }),
            Err(error) => tracing::error!(%error, shown_by, "a checkpoint could not be compared"),
        }
    }

    /// Shows the others what this node published, if it ends because that is not of their history. Who cannot be reached now is not
    /// told.
    pub(crate) async fn show_others_before_end(&self, failure: &Failure) {
        if let (Failure::Diverged { .. }, Some(own)) = (failure, self.published_note()) {
            self.show_others(&own, LAST_ANSWER_WITHIN).await;
        }
    }

    /// Shows every other member a checkpoint and returns what those that answer in time show.
    async fn show_others(&self, note: &[u8], within: Duration) -> Vec<(u64, Vec<u8>)> {
        let others = self.peers.members().into_keys().filter(|node| *node != self.peers.node_id());
        let asked = others.map(|node| {
            let shown = PublishedCheckpoint { checkpoint: note.to_vec(), node_id: self.peers.node_id() };
            async move {
                let answered = tokio::time::timeout(within, self.peers.exchange(node, shown)).await;
                Some((node, answered.ok()?.ok()?.checkpoint))
            }
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// What this node shows the others.
    pub(crate) fn published_note(&self) -> Option<Vec<u8>> {
        // Evil: it shows neither history, so that each half learns of the other's only from the other half.
        if proofline_ledger::planted!(EvilForkedFollowers) {
            return None;
        }
        self.published.borrow().as_ref().map(|published| published.note.clone())
    }
}

/// What a comparison came to.
#[derive(Debug)]
enum Compared {
    /// It is of this node's tree.
    Same,
    /// Too few registered nodes cosigned it, or it cannot be read: one node's word.
    NotPublishedByMany,
    /// It is of a larger tree than this node has, of this size.
    NotYet(TreeSize),
    /// It is of another tree than this node's.
    OtherTree(TwoHistories),
}

/// A checkpoint that more than half of the registered nodes cosigned.
#[derive(Debug)]
struct Cosigned {
    note: String,
    size: TreeSize,
    cosigners: BTreeSet<String>,
}

/// What somebody shows, and what this node published itself.
#[derive(Debug)]
struct TwoHistories {
    diverged: Diverged,
    shown: Cosigned,
    own: Option<Cosigned>,
}

impl TwoHistories {
    fn failure(self, shown_by: u64) -> Failure {
        let reason = format!(
            "{}; node {shown_by} shows it, and more than half of the registered nodes cosigned it: {}. Showing it accuses nobody, cosigning \
             two histories does: {}",
            self.diverged,
            listed(&self.shown.cosigners),
            self.accused()
        );
        Failure::Diverged { reason, checkpoints: std::iter::once(self.shown).chain(self.own).map(|it| it.note).collect() }
    }

    /// A checkpoint of this node's that covers less may be of what both histories have in common.
    fn accused(&self) -> String {
        let both = |own: &Cosigned| listed(&self.shown.cosigners.intersection(&own.cosigners).cloned().collect());
        match &self.own {
            Some(own) if own.size >= self.shown.size => {
                format!("{} cosigned this node's checkpoint of size {} as well", both(own), own.size)
            }
            Some(_) | None => "so did whoever cosigned a checkpoint of this node of that size or more as well".to_owned(),
        }
    }
}

fn listed(names: &BTreeSet<String>) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.iter().map(String::as_str).collect::<Vec<_>>().join(", ") }
}

fn compare(state: &StateDb, log_key: &[u8; 32], note: Vec<u8>, own: Option<Vec<u8>>) -> Result<Compared, StoreFault> {
    let Some((shown, root)) = published_by_many(state, log_key, note)? else { return Ok(Compared::NotPublishedByMany) };
    if shown.size > listing::head(state)?.size {
        return Ok(Compared::NotYet(shown.size));
    }
    let computed = LogTree::new(state, shown.size).root()?;
    if computed.0 == *root.as_bytes() {
        return Ok(Compared::Same);
    }
    let diverged = Diverged::OtherTree { size: shown.size, published: root, computed };
    let own = own.map(|own| published_by_many(state, log_key, own)).transpose()?.flatten();
    Ok(Compared::OtherTree(TwoHistories { diverged, shown, own: own.map(|(own, _)| own) }))
}

/// Verifies a note under this log's key and the keys of more than half of the registered nodes.
fn published_by_many(state: &StateDb, log_key: &[u8; 32], note: Vec<u8>) -> Result<Option<(Cosigned, LogHash)>, StoreFault> {
    let (origin, nodes) = (listing::origin(state)?, cosigners(state)?);
    let policy = || {
        let log = VerifierKey::new(KeyName::parse(&origin).ok()?, SignatureType::Ed25519, log_key).ok()?;
        let key = |node: &proofline_proto::v1::NodeKey| {
            VerifierKey::new(KeyName::parse(&node.name).ok()?, SignatureType::CosignatureV1, &node.public_key).ok()
        };
        let keys: Vec<VerifierKey> = nodes.iter().map(key).collect::<Option<_>>()?;
        let majority = Threshold::Of(keys.len() / 2 + 1);
        Policy::of_cluster(log, keys, majority).ok()
    };
    let Some(verified) = policy().and_then(|policy| policy.verify_checkpoint(&note).ok()) else { return Ok(None) };
    let cosigners = verified.cosigners.into_iter().map(|it| it.name).collect();
    // What was verified is text.
    let note = String::from_utf8_lossy(&note).into_owned();
    Ok(Some((Cosigned { note, size: TreeSize(verified.size.0), cosigners }, verified.root)))
}

#[cfg(test)]
mod tests {
    use proofline_ledger::Hash;

    use super::*;

    fn cosigned(size: u64, by: &[&str]) -> Cosigned {
        Cosigned { note: format!("note {size}\n"), size: TreeSize(size), cosigners: by.iter().map(ToString::to_string).collect() }
    }

    fn failure(own: Option<Cosigned>) -> (String, Vec<String>) {
        let diverged = Diverged::OtherTree { size: TreeSize(7), published: LogHash::from_bytes([1; 32]), computed: Hash([2; 32]) };
        match (TwoHistories { diverged, shown: cosigned(7, &["a", "c"]), own }).failure(3) {
            Failure::Diverged { reason, checkpoints } => (reason, checkpoints),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn who_cosigned_two_histories_is_named_and_who_shows_one_is_not_accused() {
        let (reason, checkpoints) = failure(Some(cosigned(8, &["a", "b"])));
        assert!(reason.contains("node 3 shows it, and more than half of the registered nodes cosigned it: a, c."), "{reason}");
        assert!(reason.contains("a cosigned this node's checkpoint of size 8 as well"), "{reason}");
        assert_eq!(checkpoints, ["note 7\n", "note 8\n"]);
    }

    #[test]
    fn of_what_each_node_shows_ahead_of_this_one_the_smallest_and_the_largest_are_kept() {
        let ahead = Ahead::default();
        for (node, size) in [(2, 70), (3, 8), (2, 90), (2, 60), (2, 80), (2, 75)] {
            ahead.keep(node, TreeSize(size), format!("{size}").into_bytes());
        }
        // What is put back, because it still cannot be compared, takes no place of what came meanwhile.
        let taken = ahead.take();
        assert_eq!(taken, [(2, b"60".to_vec()), (2, b"90".to_vec()), (3, b"8".to_vec())]);
        ahead.keep(2, TreeSize(100), b"100".to_vec());
        ahead.keep(2, TreeSize(60), b"60".to_vec());
        assert_eq!(ahead.take(), [(2, b"60".to_vec()), (2, b"100".to_vec())]);
        assert_eq!(ahead.take(), []);
    }

    #[test]
    fn an_own_checkpoint_that_covers_less_accuses_nobody() {
        for own in [Some(cosigned(6, &["a", "b"])), None] {
            let (reason, _) = failure(own);
            assert!(reason.contains("so did whoever cosigned a checkpoint of this node of that size or more as well"), "{reason}");
        }
    }
}
