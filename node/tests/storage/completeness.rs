//! State commitments among real nodes: true ones are found to be true, and a leader that lies is left alone.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ed25519_dalek::Signer as _;
use futures::future::BoxFuture;
use proofline_ledger::{
    CommitmentAt, Hash, KeyIndex, LogTree, Store as _, Table, TreeSize, indexed_commitment, listing, newest_commitment, signed,
};
use proofline_node::{
    completeness::{Checker, Confirmed, Indexer, Voters},
    cosigner::{Cosigner, CosignerHandle, NotCosigned},
    exit::ExitCode,
    failure::{self, Failure, FailureWatch},
    inbox::{Inbox, Outbox, inbox},
    leadership::Leadership,
    metrics::Metrics,
    publisher::Published,
    replica::Group,
    signed_tree::{SignedTree, SignedTreeFile},
};
use proofline_proto::{
    peer::{self, Opinion, item::Item},
    v1,
};
use proofline_verifier::BatchDigest;
use prost::Message as _;
use tempfile::TempDir;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{self, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Node, initialize, leader};
use crate::recheck::{batch, genesis, key, opening, registration};

const PATIENCE: Duration = Duration::from_secs(20);

/// Whom an indexer asks before it proposes.
#[derive(Default)]
struct Others(Mutex<Vec<(u64, Answer)>>);

#[derive(Clone)]
enum Answer {
    Of(Checker),
    Always(Option<Opinion>),
}

impl Voters for Others {
    fn others(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().map(|(id, _)| *id).collect()
    }

    fn ask(&self, voter: u64, said: v1::StateCommitment) -> BoxFuture<'_, Option<Opinion>> {
        let answer = self.0.lock().unwrap().iter().find(|(id, _)| *id == voter).map(|(_, answer)| answer.clone());
        Box::pin(async move {
            match answer? {
                Answer::Of(checker) => checker.opinion(said).await,
                Answer::Always(opinion) => opinion,
            }
        })
    }
}

/// A node with what finds out about commitments, and what must not sign before it has.
struct Voter {
    cosigner: CosignerHandle,
    failed: FailureWatch,
    published: watch::Sender<Option<Published>>,
    leadership: watch::Sender<Leadership>,
    confirmed: watch::Receiver<Confirmed>,
    answers: watch::Receiver<()>,
    others: Arc<Others>,
    checker: Checker,
    indexer: Option<Indexer>,
    proposals: Option<Outbox>,
    tasks: JoinSet<()>,
    _signed: TempDir,
    _inbox: Inbox,
    // Last, so that nothing holds the state any more when its directory goes.
    node: Node,
}

impl Drop for Voter {
    fn drop(&mut self) {
        task::block_in_place(|| Handle::current().block_on(self.tasks.shutdown()));
    }
}

impl Voter {
    async fn start(id: u64) -> Self {
        let node = Node::start(id).await;
        let (failures, failed) = failure::channel();
        let (published, seen) = watch::channel(None);
        let (leadership, leads) = watch::channel(Leadership::Nobody);
        let (confirming, confirmed) = watch::channel(Confirmed::NOTHING);
        let (answering, answers) = watch::channel(());
        let (inbox, proposals) = inbox();
        let signed = tempfile::tempdir().unwrap();
        let file = signed.path().join("signed-tree");
        SignedTreeFile::create(&file).unwrap();
        let (checker, questions) = Checker::new(node.progress.clone());
        let others = Arc::new(Others::default());
        let voters = Arc::clone(&others);
        let indexer = Indexer {
            state: node.store.clone(),
            progress: node.progress.clone(),
            published: seen,
            leadership: leads,
            states: node.states.subscribe(),
            keys: node.keys.clone(),
            inbox: inbox.clone(),
            voters,
            questions,
            confirmed: confirming,
            answers: answering,
            interval: Duration::from_millis(100),
            metrics: Arc::new(Metrics::default()),
            failures: failures.clone(),
        };
        let cosigner = Cosigner {
            genesis: genesis(),
            key: key(20),
            state: node.store.clone(),
            progress: node.progress.clone(),
            confirmed: confirmed.clone(),
            signed: SignedTreeFile::open(&file).unwrap(),
            failures,
        };
        let (cosigner, serving) = cosigner.start();
        let mut tasks = JoinSet::new();
        tasks.spawn(serving);
        let (indexer, proposals) = (Some(indexer), Some(proposals));
        Self {
            node,
            cosigner,
            failed,
            published,
            leadership,
            confirmed,
            answers,
            others,
            checker,
            indexer,
            proposals,
            tasks,
            _signed: signed,
            _inbox: inbox,
        }
    }

    /// Begins to index.
    fn index(&mut self) {
        self.tasks.spawn(self.indexer.take().unwrap().run(CancellationToken::new()));
    }

    /// Asks this node to sign everything that it has.
    async fn cosign(&self) -> Result<(), NotCosigned> {
        let state = self.node.store.view();
        let size = listing::head(&*state).unwrap().size;
        let root = LogTree::new(&*state, size).root().unwrap();
        self.cosigner.cosign(SignedTree { size, root }).await.map(drop)
    }

    async fn failure(&self) -> Failure {
        tokio::time::timeout(PATIENCE, self.failed.failed()).await.expect("the node stops")
    }

    /// Waits until this node found the newest commitment that it has to be true.
    async fn confirms(&self, commitment: CommitmentAt) {
        let mut confirmed = self.confirmed.clone();
        let reached = confirmed.wait_for(|known| known.through >= Some(commitment.index));
        drop(tokio::time::timeout(PATIENCE, reached).await.expect("confirmed in time").unwrap());
    }

    /// Publishes everything that this node has, and waits until the map is written.
    async fn publish(&self) {
        let size = listing::head(&*self.node.store.view()).unwrap().size;
        self.published.send_replace(Some(Published { note: Vec::new(), size }));
        tokio::time::timeout(PATIENCE, self.answers.clone().changed()).await.expect("it is written in time").unwrap();
        assert!(indexed_commitment(&*self.node.store.view()).unwrap().is_some());
    }
}

async fn write(voter: &Node, items: Vec<Item>) {
    let items = items.into_iter().map(|item| peer::Item { item: Some(item) }).collect();
    let group = peer::Group { proposed_unix_ns: 1, items };
    voter.raft.client_write(Group::new(group.encode_to_vec().into())).await.unwrap();
}

/// Three nodes with a genesis, a collector and its lane: three entries, with keys.
async fn three() -> [Voter; 3] {
    let voters = [Voter::start(1).await, Voter::start(2).await, Voter::start(3).await];
    for voter in &voters {
        let others = voters.iter().filter(|other| other.node.id != voter.node.id);
        *voter.others.0.lock().unwrap() = others.map(|other| (other.node.id, Answer::Of(other.checker.clone()))).collect();
    }
    initialize(&voters[0].node, &voters.each_ref().map(|voter| &voter.node)).await;
    let first = leader(&voters.each_ref().map(|voter| &voter.node)).await;
    write(first, vec![Item::Genesis(genesis())]).await;
    write(first, vec![registration(), opening()]).await;
    voters
}

async fn applied_everywhere(voters: &[Voter], by: &Node) {
    for voter in voters {
        voter.node.applied(by.last_applied()).await;
    }
}

/// The truth about what a node has.
fn truth(of: &Node) -> v1::StateCommitment {
    let state = of.store.view();
    let head = listing::head(&*state).unwrap();
    let mut index = KeyIndex::open(&*state).unwrap();
    index.advance(&*state, head.size).unwrap();
    assert_ne!(index.root(), Hash::ZERO, "there are keys");
    v1::StateCommitment { size: head.size.0, map_root: index.root().0.to_vec(), state_digest: head.state_digest.0.to_vec() }
}

async fn stops_at(false_one: impl FnOnce(v1::StateCommitment) -> v1::StateCommitment) -> Vec<(Failure, NotCosigned)> {
    let mut voters = three().await;
    voters.iter_mut().for_each(Voter::index);
    let first = leader(&voters.each_ref().map(|voter| &voter.node)).await;
    applied_everywhere(&voters, first).await;
    for voter in &voters {
        voter.cosign().await.expect("what is true so far is signed");
    }
    write(first, vec![Item::Commitment(false_one(truth(first)))]).await;
    applied_everywhere(&voters, first).await;
    let mut found = Vec::new();
    for voter in &voters {
        found.push((voter.failure().await, voter.cosign().await.unwrap_err()));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_lies_about_the_map_stops_every_node_and_gets_no_cosignature() {
    for (failure, refused) in stops_at(|truth| v1::StateCommitment { map_root: vec![9; 32], ..truth }).await {
        assert!(
            matches!(&failure, Failure::OtherMap { reason } if reason.contains("0909") && reason.contains("proofline replay")),
            "{failure}"
        );
        assert_eq!(ExitCode::from(&failure) as u8, 15);
        assert!(matches!(refused, NotCosigned::Unconfirmed { .. }), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_lies_about_the_state_stops_every_node_and_gets_no_cosignature() {
    for (failure, refused) in stops_at(|truth| v1::StateCommitment { state_digest: vec![9; 32], ..truth }).await {
        assert!(matches!(&failure, Failure::OtherState { reason } if reason.contains("0909")), "{failure}");
        assert_eq!(ExitCode::from(&failure) as u8, 16);
        assert!(matches!(refused, NotCosigned::Unconfirmed { .. }), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_commits_to_what_is_true_once_and_every_node_finds_it_so() {
    let mut voters = three().await;
    voters.iter_mut().for_each(Voter::index);
    let place = {
        let first = leader(&voters.each_ref().map(|voter| &voter.node)).await.id;
        voters.iter().position(|voter| voter.node.id == first).unwrap()
    };
    let mut proposals = voters[place].proposals.take().unwrap();
    voters[place].leadership.send_replace(Leadership::Here);
    let gathered = tokio::time::timeout(PATIENCE, proposals.group()).await.expect("it proposes").unwrap();
    let expected = truth(&voters[place].node);
    let Some(Item::Commitment(said)) = gathered.items[0].item.clone() else { panic!("{:?}", gathered.items) };
    assert_eq!(said, expected);
    write(&voters[place].node, vec![Item::Commitment(said)]).await;
    drop(gathered);
    applied_everywhere(&voters, &voters[place].node).await;
    let state = voters[place].node.store.view();
    let commitment = newest_commitment(&*state, TreeSize(u64::MAX)).unwrap().unwrap();
    for voter in &voters {
        voter.confirms(commitment).await;
        voter.cosign().await.unwrap();
        assert_eq!(indexed_commitment(&*voter.node.store.view()).unwrap(), None, "nothing is written before it is published");
        voter.publish().await;
        assert_eq!(indexed_commitment(&*voter.node.store.view()).unwrap(), Some(commitment));
        assert_eq!(KeyIndex::open(&*voter.node.store.view()).unwrap().root(), commitment.map_root);
    }
    // The commitment itself carries no key, so there is nothing to commit to.
    let silent = tokio::time::timeout(Duration::from_millis(500), proposals.group()).await;
    assert!(silent.is_err(), "the leader has nothing new to say");
    // Whoever asks looks through what no commitment covers: it does not become long.
    let asked = (0..1_000).map(|_| Item::Access(access())).collect();
    write(&voters[place].node, asked).await;
    let gathered = tokio::time::timeout(PATIENCE, proposals.group()).await.expect("it proposes").unwrap();
    let Some(Item::Commitment(again)) = gathered.items[0].item.clone() else { panic!("{:?}", gathered.items) };
    assert_eq!((again.map_root, again.size), (commitment.map_root.0.to_vec(), commitment.index.0 + 1 + 1_000));
}

/// The record of a question.
fn access() -> v1::AccessRecorded {
    let node = genesis().nodes.remove(0);
    let mut access = v1::AccessRecorded {
        kind: v1::AccessKind::Lineage.into(),
        reader: "spiffe://test/auditor".to_owned(),
        node_id: node.node_id,
        public_key: node.public_key,
        ..Default::default()
    };
    access.signature = key(20).sign(&signed::access(&genesis().origin, &access)).to_bytes().to_vec();
    access
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_snapshot_says_about_keys_is_computed_again_before_it_is_cosigned() {
    let (mut old, mut new) = (Voter::start(1).await, Voter::start(2).await);
    initialize(&old.node, &[&old.node]).await;
    leader(&[&old.node]).await;
    write(&old.node, vec![Item::Genesis(genesis())]).await;
    write(&old.node, vec![registration(), opening()]).await;
    write(&old.node, vec![Item::Commitment(truth(&old.node))]).await;
    old.index();
    let commitment = newest_commitment(&*old.node.store.view(), TreeSize(u64::MAX)).unwrap().unwrap();
    old.confirms(commitment).await;
    old.publish().await;
    let root_page = old.node.store.view().get(Table::KeyMap, &[0]).unwrap();
    assert!(root_page.is_some(), "the sender has a map to send");
    old.node.raft.trigger().snapshot().await.unwrap();
    old.node.raft.wait(Some(PATIENCE)).metrics(|metrics| metrics.purged.is_some(), "purged").await.unwrap();

    old.node.raft.add_learner(2, new.node.member.clone(), true).await.unwrap();
    new.node.applied(old.node.last_applied()).await;
    assert!(new.node.store.snapshot().is_some(), "it came as a snapshot");
    assert_eq!(new.node.store.view().get(Table::KeyMap, &[0]).unwrap(), None, "the sender's map is not taken over");
    assert_eq!(indexed_commitment(&*new.node.store.view()).unwrap(), None);
    assert!(matches!(new.cosign().await, Err(NotCosigned::Unconfirmed { .. })), "not before it is computed again");
    new.index();
    new.confirms(commitment).await;
    new.cosign().await.unwrap();
    new.publish().await;
    assert_eq!(new.node.store.view().get(Table::KeyMap, &[0]).unwrap(), root_page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_without_commitments_is_indexed_before_one_is_proposed() {
    let mut voter = Voter::start(1).await;
    initialize(&voter.node, &[&voter.node]).await;
    leader(&[&voter.node]).await;
    write(&voter.node, vec![Item::Genesis(genesis())]).await;
    write(&voter.node, vec![registration(), opening()]).await;
    let mut previous = BatchDigest::NONE;
    for sequence in 1..=50 {
        // No events, so the ledger rejects them: each carries the key of its collector.
        let (item, digest) = batch(sequence, &previous, vec![b"x".to_vec(); 4_096]);
        previous = digest;
        write(&voter.node, vec![item]).await;
    }
    let mut proposals = voter.proposals.take().unwrap();
    voter.leadership.send_replace(Leadership::Here);
    voter.index();
    let gathered = tokio::time::timeout(PATIENCE, proposals.group()).await.expect("it proposes").unwrap();
    let Some(Item::Commitment(said)) = gathered.items[0].item.clone() else { panic!("{:?}", gathered.items) };
    let state = voter.node.store.view();
    let size = listing::head(&*state).unwrap().size;
    let mut index = KeyIndex::open(&*state).unwrap();
    while index.size() < size {
        index.advance(&*state, size).unwrap();
    }
    assert_eq!((said.size, said.map_root), (204_803, index.root().0.to_vec()));
    assert_eq!(index.keys(), 1, "all of them are the collector's");
}

/// Three nodes of which the first leads, and what it would commit to is answered so by the others. Returns what it did.
async fn proposes_among(opinions: [Option<Opinion>; 2]) -> (Voter, Outbox) {
    let [mut first, second, third] = three().await;
    let answers = [second.node.id, third.node.id].into_iter().zip(opinions.map(Answer::Always));
    *first.others.0.lock().unwrap() = answers.collect();
    let proposals = first.proposals.take().unwrap();
    applied_everywhere(std::slice::from_ref(&first), &second.node).await;
    first.leadership.send_replace(Leadership::Here);
    first.index();
    (first, proposals)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whom_most_voters_contradict_ends_alone_and_commits_to_nothing() {
    for other in [Opinion::OtherMap, Opinion::OtherState] {
        let (first, mut proposals) = proposes_among([Some(other); 2]).await;
        let failure = first.failure().await;
        assert!(matches!(&failure, Failure::OtherState { reason } if reason.contains("Nothing was committed")), "{failure}");
        let proposed = tokio::time::timeout(Duration::from_millis(300), proposals.group()).await;
        assert!(proposed.is_err(), "nothing false went to the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_other_voter_who_computed_the_same_is_enough() {
    for silent in [None, Some(Opinion::OtherMap)] {
        let (_first, mut proposals) = proposes_among([silent, Some(Opinion::Same)]).await;
        let gathered = tokio::time::timeout(PATIENCE, proposals.group()).await.expect("it proposes").unwrap();
        assert!(matches!(gathered.items[0].item, Some(Item::Commitment(_))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_of_one_opinion_nothing_is_proposed_and_nobody_ends() {
    for opinions in [[None, None], [None, Some(Opinion::OtherMap)]] {
        let (first, mut proposals) = proposes_among(opinions).await;
        let proposed = tokio::time::timeout(Duration::from_secs(1), proposals.group()).await;
        assert!(proposed.is_err(), "{opinions:?}");
        // As soon as somebody agrees, it goes on.
        let id = first.others.others()[0];
        *first.others.0.lock().unwrap() = vec![(id, Answer::Always(Some(Opinion::Same)))];
        let gathered = tokio::time::timeout(PATIENCE, proposals.group()).await.expect("it proposes").unwrap();
        assert!(matches!(gathered.items[0].item, Some(Item::Commitment(_))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_for_what_will_never_be_hold_up_no_other() {
    let voters = three().await;
    let far = SignedTree { size: TreeSize(u64::MAX), root: Hash::ZERO };
    let mut endless: Vec<_> = (0..32)
        .map(|_| {
            tokio::spawn({
                let cosigner = voters[0].cosigner.clone();
                async move { cosigner.cosign(far).await }
            })
        })
        .collect();
    // Each of them is on its way before the one that can be answered.
    tokio::task::yield_now().await;
    voters[0].cosign().await.unwrap();
    assert!(endless.iter().all(|request| !request.is_finished()), "it was answered before any of them gave up");
    let refused = endless.remove(0).await.unwrap().unwrap_err();
    assert!(matches!(refused, NotCosigned::Behind { .. }), "{refused}");
}
