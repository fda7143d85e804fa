//! Nodes compare what they publish with each other, so that nobody can show two histories to two halves of a cluster.
//!
//! Always true: a checkpoint that more than half of the registered nodes cosigned, and whose root is not this node's, ends this
//! node, whoever showed it. One node alone cannot make such a checkpoint, so it cannot stop another with it. What is decided here
//! rests on checkpoints alone: neither the leader nor Raft is believed.

use std::{collections::BTreeMap, time::Duration};

use proofline_ledger::{LogTree, TreeSize, cosigners, listing};
use proofline_proto::peer::PublishedCheckpoint;
use proofline_verifier::{KeyName, Policy, SignatureType, Threshold, VerifiedCheckpoint, VerifierKey};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Failure, FailureReporter},
    publisher::Diverged,
    rpc::Api,
    store::StateDb,
};

/// Pause between two rounds.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Exchanges published checkpoints with every other member once a second until shutdown. Both ends compare.
pub async fn run(api: Api, failures: FailureReporter, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // What each node showed last and was compared with this tree.
    let mut compared: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => (),
        }
        let Some(own) = api.published.borrow().as_ref().map(|published| published.note.clone()) else { continue };
        let others: Vec<u64> = api.peers.members().into_keys().filter(|node| *node != api.peers.node_id()).collect();
        let asked = others.into_iter().map(|node| {
            let (peers, note) = (&api.peers, own.clone());
            async move {
                let answered = tokio::time::timeout(
                    ANSWER_WITHIN,
                    peers.exchange(node, PublishedCheckpoint { checkpoint: note, node_id: peers.node_id() }),
                )
                .await;
                Some((node, answered.ok()?.ok()?.checkpoint))
            }
        });
        for (node, note) in futures::future::join_all(asked).await.into_iter().flatten() {
            if note != own && compared.get(&node) != Some(&note) && api.compare(node, note.clone(), &failures).await {
                compared.insert(node, note);
            }
        }
    }
}

impl Api {
    /// Compares a checkpoint that another node shows with this node's own tree; tells whether that could be done.
    pub(crate) async fn compare(&self, shown_by: u64, note: Vec<u8>, failures: &FailureReporter) -> bool {
        // Evil: it knows that there are two histories.
        if proofline_ledger::planted!(EvilForkedFollowers) {
            return true;
        }
        let (state, log_key) = (self.state.view(), self.log_key.verifying_key().to_bytes());
        let compared = tokio::task::spawn_blocking(move || compare(&state, &log_key, &note)).await;
        match compared {
            Ok(Ok(Compared::Same | Compared::NotPublishedByMany)) => true,
            Ok(Ok(Compared::NotYet)) | Err(_) => false,
            Ok(Err(Diverged::Store(fault))) => {
                failures.report(Failure::StorageDamaged { reason: fault.to_string() });
                false
            }
            Ok(Err(diverged @ Diverged::OtherTree { .. })) => {
                let reason = format!("{diverged}; node {shown_by} shows it, and more than half of the registered nodes cosigned it");
                failures.report(Failure::Diverged { reason });
                false
            }
        }
    }
}

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    /// It is of this node's tree.
    Same,
    /// Too few registered nodes cosigned it, or it cannot be read: one node's word.
    NotPublishedByMany,
    /// It is of a larger tree than this node has.
    NotYet,
}

fn compare(state: &StateDb, log_key: &[u8; 32], note: &[u8]) -> Result<Compared, Diverged> {
    let Some(shown) = published_by_many(state, log_key, note)? else { return Ok(Compared::NotPublishedByMany) };
    let size = TreeSize(shown.size.0);
    if size > listing::head(state)?.size {
        return Ok(Compared::NotYet);
    }
    let computed = LogTree::new(state, size).root()?;
    if computed.0 == *proofline_verifier::TreeHash::as_bytes(&shown.root) {
        return Ok(Compared::Same);
    }
    Err(Diverged::OtherTree { size, published: shown.root, computed })
}

/// Verifies a note under this log's key and the keys of more than half of the registered nodes.
fn published_by_many(state: &StateDb, log_key: &[u8; 32], note: &[u8]) -> Result<Option<VerifiedCheckpoint>, Diverged> {
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
    Ok(policy().and_then(|policy| policy.verify_checkpoint(note).ok()))
}
