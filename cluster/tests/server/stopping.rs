//! What is stopped stays stopped, with the shipped rules in force: by operators and by rules, while writers write through every
//! node, and leaders are killed. Asked of every answer as it comes, and of the whole log afterwards.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use proofline_cluster::{TENANT, Tls};
use proofline_proto::v1::{self, ContainmentAction, TargetKind, Verdict, command::Action, entry_core::Body, ingest_client::IngestClient};
use prost::Message as _;
use tokio::sync::watch;
use tonic::{Status, transport::Channel};

use crate::containment::{command_through, contain, pause};
use crate::world::{Collector, World, event};

const WITHIN: Duration = Duration::from_secs(40);
const NODES: usize = 3;
/// Answers of one kind that each writer must have got about a subject.
const ENOUGH: u64 = 3;

/// What is stopped, one after the other. Its sessions and agents begin with its name.
struct Subject {
    name: &'static str,
    by: By,
    kill: Kill,
}

enum By {
    /// An operator's command.
    Hand(ContainmentAction, TargetKind, &'static str),
    /// A rule that one batch of events fires.
    Rule(fn() -> Vec<v1::Event>, &'static str),
    /// Nobody: it goes on to the end.
    Nobody,
}

/// When the leader is killed.
#[derive(Clone, Copy, PartialEq)]
enum Kill {
    Before,
    Behind,
    No,
}

const SUBJECTS: [Subject; 8] = [
    Subject { name: "session", by: By::Hand(ContainmentAction::RevokeSession, TargetKind::Session, "session/only"), kill: Kill::Before },
    Subject { name: "ancestor", by: By::Hand(ContainmentAction::RevokeSession, TargetKind::Session, "ancestor/root"), kill: Kill::Behind },
    Subject { name: "agent", by: By::Hand(ContainmentAction::QuarantineAgent, TargetKind::Agent, "agent"), kill: Kill::No },
    Subject {
        name: "credential",
        by: By::Hand(ContainmentAction::RevokeCredential, TargetKind::Credential, "token-1"),
        kill: Kill::Before,
    },
    Subject { name: "rule-session", by: By::Rule(leak_of_session, "D07-taint-then-egress"), kill: Kill::Behind },
    Subject { name: "rule-ancestor", by: By::Rule(leak_of_root, "D07-taint-then-egress"), kill: Kill::Before },
    Subject { name: "rule-agent", by: By::Rule(failures, "D10-agent-keeps-failing"), kill: Kill::No },
    Subject { name: "free", by: By::Nobody, kill: Kill::No },
];

fn intent(session: &str, agent: &str) -> v1::Event {
    let mut event = v1::Event::decode(event(session).as_slice()).unwrap();
    event.observed_unix_ns = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    agent.clone_into(&mut event.attribution.as_mut().unwrap().agent.as_mut().unwrap().agent_id);
    let tool = Some(v1::Tool { name: "query".to_owned(), ..Default::default() });
    event.body =
        Some(v1::event::Body::ActionIntent(v1::ActionIntent { verb: v1::ActionVerb::ToolCall.into(), tool, ..Default::default() }));
    event
}

/// What the writer through one node does about a subject: its own session where there are many, below a root where there is
/// one, and now and then a session that begins only now.
fn act(subject: &str, place: usize, turn: u64) -> v1::Event {
    let below = |session: &str, parent: &str| {
        let mut event = intent(&format!("{subject}/{session}"), subject);
        event.session.as_mut().unwrap().parent_session_id = format!("{subject}/{parent}");
        event
    };
    match subject {
        "session" | "rule-session" => intent(&format!("{subject}/only"), subject),
        "ancestor" | "rule-ancestor" => match turn % 4 {
            0 => below(&format!("late-{place}-{turn}"), &format!("child-{place}")),
            1 => below(&format!("grandchild-{place}"), &format!("child-{place}")),
            _ => below(&format!("child-{place}"), "root"),
        },
        "credential" => {
            let mut event = intent(&format!("{subject}/{place}-{}", turn % 3), &format!("{subject}-{place}"));
            let shown = v1::Credential { credential_id: "token-1".to_owned(), ..Default::default() };
            event.attribution.as_mut().unwrap().credential = Some(shown);
            event
        }
        _ => intent(&format!("{subject}/{place}-{}", turn % 3), subject),
    }
}

/// Something untrusted and confidential is read, and then something leaves.
fn leak(session: &str, agent: &str) -> Vec<v1::Event> {
    let resource = v1::Resource {
        uri: "https://forum.example/1".to_owned(),
        system: "forum".to_owned(),
        classification: v1::Classification::Confidential.into(),
        tags: vec!["untrusted".to_owned()],
        ..Default::default()
    };
    let (verb, status) = (v1::ActionVerb::ResourceRead.into(), v1::OutcomeStatus::Succeeded.into());
    let read = v1::DataAccess { resource: Some(resource), verb, records: 1, status, ..Default::default() };
    let mut send = intent(session, agent);
    if let Some(v1::event::Body::ActionIntent(it)) = &mut send.body {
        it.egress = v1::Egress::External.into();
    }
    vec![v1::Event { body: Some(v1::event::Body::DataAccess(read)), ..intent(session, agent) }, send]
}

fn leak_of_session() -> Vec<v1::Event> {
    leak("rule-session/only", "rule-session")
}

fn leak_of_root() -> Vec<v1::Event> {
    leak("rule-ancestor/root", "rule-ancestor")
}

/// One agent is denied in as many sessions as the rule looks for, and once more.
fn failures() -> Vec<v1::Event> {
    let failing = |number: usize| {
        let mut event = intent(&format!("rule-agent/failing-{number}"), "rule-agent");
        let ended = v1::Credential { credential_id: "old".to_owned(), not_before_unix_ns: 1, not_after_unix_ns: 2, ..Default::default() };
        event.attribution.as_mut().unwrap().credential = Some(ended);
        event
    };
    (0..=50).map(failing).collect()
}

/// What one writer got: allowed and denied answers for each subject, and calls that failed.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answers {
    of: [(u64, u64); SUBJECTS.len()],
    failed: u64,
}

impl Answers {
    fn total(&self) -> u64 {
        self.of.iter().map(|(allowed, denied)| allowed + denied).sum()
    }
}

struct Writer {
    place: usize,
    collector: Collector,
    ingest: IngestClient<Channel>,
    stopped: Arc<[AtomicBool; SUBJECTS.len()]>,
    answers: watch::Sender<Answers>,
}

impl Writer {
    /// Writes a batch with an event about every subject, again and again, until nobody listens any more.
    ///
    /// Panics when an event is allowed that was first sent after its subject was stopped, or denied where nobody stopped it.
    async fn run(mut self) {
        let mut turn = 0;
        while !self.answers.is_closed() {
            let events = SUBJECTS.iter().map(|subject| act(subject.name, self.place, turn).encode_to_vec()).collect();
            let request = self.collector.sign(events);
            let stopped: Vec<bool> = self.stopped.iter().map(|it| it.load(Ordering::SeqCst)).collect();
            if let Some(receipt) = self.acknowledged(&request).await {
                self.check(&receipt, &stopped);
            }
            turn += 1;
        }
    }

    async fn acknowledged(&mut self, request: &v1::AppendRequest) -> Option<v1::AppendResponse> {
        let until = Instant::now() + WITHIN;
        loop {
            match self.ingest.append(request.clone()).await {
                Ok(receipt) => return Some(receipt.into_inner()),
                Err(status) => {
                    self.answers.send_modify(|answers| answers.failed += 1);
                    pause(&status, until).await;
                }
            }
        }
    }

    fn check(&self, receipt: &v1::AppendResponse, stopped: &[bool]) {
        for ((subject, got), stopped) in SUBJECTS.iter().zip(&receipt.events).zip(stopped) {
            let verdict = got.verdict();
            let (name, place, findings) = (subject.name, self.place, &got.findings);
            assert!(matches!(verdict, Verdict::Allow | Verdict::Deny), "{verdict:?} for {name}: {findings:?}");
            assert!(!stopped || verdict == Verdict::Deny, "{name} is allowed through node {place} after it was stopped");
            assert!(verdict == Verdict::Allow || !matches!(subject.by, By::Nobody), "{name} is denied: {findings:?}");
        }
        self.answers.send_modify(|answers| {
            for (got, (allowed, denied)) in receipt.events.iter().zip(&mut answers.of) {
                *(if got.verdict() == Verdict::Deny { denied } else { allowed }) += 1;
            }
        });
    }
}

/// Waits until a writer has got so many answers.
async fn until(writer: &mut watch::Receiver<Answers>, enough: impl FnMut(&Answers) -> bool) {
    let waited = tokio::time::timeout(WITHIN, writer.wait_for(enough)).await;
    let has_enough = waited.is_ok_and(|seen| seen.is_ok());
    assert!(has_enough, "in time, and while the writer lives; so far {:?}", writer.borrow());
}

/// Returns the place of the leader, once nodes that run agree on one that runs.
async fn leader(world: &World) -> usize {
    let until = Instant::now() + WITHIN;
    for place in (0..NODES).cycle() {
        if let Ok(status) = world.control(place, "admin").cluster_status(v1::ClusterStatusRequest {}).await {
            let id = status.into_inner().leader_id;
            let led = world.plan().nodes.iter().position(|node| node.node_id == id);
            if let Some(led) = led.filter(|led| world.cluster.process_id(*led).is_some()) {
                return led;
            }
        }
        assert!(Instant::now() < until, "a leader in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!("there is a node to ask")
}

/// Stops a subject, and returns the entry from which on it is stopped, once that is acknowledged.
async fn stop(world: &World, trigger: &mut Collector, by: &By) -> u64 {
    match by {
        By::Hand(action, kind, id) => command_through(world, &["rita"], contain(*action, *kind, id)).await,
        By::Rule(events, rule) => {
            let events = events();
            let request = trigger.sign(events.iter().map(prost::Message::encode_to_vec).collect());
            let receipt = append_through_any(world, &trigger.id, request).await;
            let last = receipt.events.last().unwrap();
            let fired = last.findings.iter().find(|it| it.rule_id == *rule).unwrap_or_else(|| panic!("{rule}: {last:?}"));
            assert!(fired.containment_id != 0 && last.verdict() == Verdict::Deny, "{last:?}");
            receipt.first_index + events.len() as u64 - 1
        }
        By::Nobody => unreachable!("nobody stops it"),
    }
}

async fn append_through_any(world: &World, collector: &str, request: v1::AppendRequest) -> v1::AppendResponse {
    let until = Instant::now() + WITHIN;
    for place in (0..NODES).cycle() {
        match world.ingest(place, collector).append(request.clone()).await {
            Ok(receipt) => return receipt.into_inner(),
            Err(status) => pause(&status, until).await,
        }
    }
    unreachable!("there is a node to ask")
}

/// Puts the shipped rules in force.
async fn activate(world: &World) -> Result<u64, Status> {
    let file = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).parent().unwrap().join("client/rules/proofline.cedar");
    let known = world.control(0, "admin").get_rules(v1::GetRulesRequest::default()).await?.into_inner();
    let activate = v1::ActivateRules {
        rules: std::fs::read_to_string(file).unwrap(),
        engine: known.engine,
        simulation_digest: vec![5; 32],
        denies_everything: false,
        reason: "a test".to_owned(),
    };
    world.command(&["alice", "bob"], Action::ActivateRules(activate)).await
}

#[tokio::test]
async fn what_operators_and_rules_stopped_is_allowed_by_no_node_while_leaders_are_killed() {
    let mut world = World::found(NODES as u64, Tls::Mutual).await;
    let activated = activate(&world).await.unwrap();
    let mut trigger = world.collector("trigger").await;
    let stopped = Arc::new(std::array::from_fn(|_| AtomicBool::new(false)));
    let (mut writers, mut tasks) = (Vec::new(), tokio::task::JoinSet::new());
    for place in 0..NODES {
        let collector = world.collector(&format!("gateway-{place}")).await;
        let (answers, seen) = watch::channel(Answers::default());
        let ingest = world.ingest(place, &collector.id);
        tasks.spawn(Writer { place, collector, ingest, stopped: Arc::clone(&stopped), answers }.run());
        writers.push(seen);
    }

    let (mut causes, mut kills) = (BTreeMap::new(), 0);
    for (number, subject) in SUBJECTS.iter().enumerate().filter(|(_, subject)| !matches!(subject.by, By::Nobody)) {
        for writer in &mut writers {
            until(writer, |answers| answers.of[number].0 >= ENOUGH).await;
        }
        let led = leader(&world).await;
        let before: Vec<Answers> = writers.iter().map(|writer| writer.borrow().clone()).collect();
        if subject.kill == Kill::Before {
            world.cluster.kill(led).unwrap();
        }
        causes.insert(subject.name, stop(&world, &mut trigger, &subject.by).await);
        stopped[number].store(true, Ordering::SeqCst);
        if subject.kill == Kill::Behind {
            world.cluster.kill(led).unwrap();
        }
        for (place, writer) in writers.iter_mut().enumerate().filter(|(place, _)| subject.kill == Kill::No || *place != led) {
            let denied = before[place].of[number].1;
            until(writer, |answers| answers.of[number].1 >= denied + ENOUGH).await;
        }
        if subject.kill != Kill::No {
            // The writer at the node that was killed was writing, and has heard nothing from it since.
            until(&mut writers[led], |answers| answers.failed > before[led].failed).await;
            assert!(before[led].total() > 0);
            world.cluster.start(led).unwrap();
            world.cluster.ready(led).await.unwrap();
            until(&mut writers[led], |answers| answers.of[number].1 >= ENOUGH).await;
            kills += 1;
        }
    }
    // And those that were stopped first are so still, through every node that came back.
    for writer in &mut writers {
        let before = writer.borrow().total();
        until(writer, |answers| answers.total() >= before + SUBJECTS.len() as u64 * ENOUGH).await;
    }
    drop(writers);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    assert_eq!(kills, 5, "leaders were killed while writers wrote");
    check_log(&world, activated, &causes).await;
}

/// Reads the whole log: above the entry that stopped a subject nothing of it is allowed, below it something was.
async fn check_log(world: &World, activated: u64, causes: &BTreeMap<&str, u64>) {
    // Whoever answers has the newest entry published: an entry of its own says how many there are.
    let last = world.command(
        &["alice"],
        Action::RegisterServer(v1::RegisterServer { tenant_id: TENANT.to_owned(), server_id: "last".to_owned(), ..Default::default() }),
    );
    let size = last.await.unwrap() + 1;
    world.published(0, size).await;
    let (mut counts, mut began) = (BTreeMap::<&str, (u64, u64)>::new(), Vec::new());
    let request = v1::ReadEntriesRequest { from_index: 0, limit: size, follow: false };
    let mut entries = world.audit(0, "auditor").read_entries(request).await.unwrap().into_inner();
    while let Some(page) = entries.message().await.unwrap() {
        for exact in page.entries {
            let core = v1::EntryCore::decode(v1::Entry::decode(exact).unwrap().core).unwrap();
            match &core.body {
                Some(Body::Containment(it)) if it.change() == v1::ContainmentChange::Began => began.push(it.cause_index),
                Some(Body::Event(_)) => {
                    let decision = core.decision.as_ref().unwrap();
                    assert!(core.index > activated && decision.rule_set_digest.len() == 32, "rules were in force");
                    let session = &core.session.as_ref().unwrap().session_id;
                    let name = SUBJECTS.iter().map(|it| it.name).find(|name| session.split('/').next() == Some(name)).unwrap();
                    let is_above = causes.get(name).is_some_and(|cause| core.index > *cause);
                    let is_allowed = decision.verdict() == Verdict::Allow;
                    assert!(!(is_above && is_allowed), "entry {} of {session} is allowed above {causes:?}", core.index);
                    let (allowed, denied) = counts.entry(name).or_default();
                    *allowed += u64::from(is_allowed);
                    *denied += u64::from(is_above);
                }
                _ => (),
            }
        }
    }
    for (name, cause) in causes {
        assert!(began.contains(cause), "a containment of {name} begins by entry {cause}");
        let (allowed, denied) = counts[name];
        assert!(allowed >= ENOUGH * NODES as u64 && denied >= ENOUGH * NODES as u64, "{name}: {allowed} allowed, {denied} denied above");
    }
    assert!(counts["free"].0 > 0 && counts["free"].1 == 0, "{counts:?}");
}
