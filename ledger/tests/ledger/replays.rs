use proofline_ledger::listing::{self, UnresolvedQuery};
use proofline_ledger::{Direction, Divergence, EntryIndex, KeyIndex, Ledger, MapStore, RecentKeys, Replay, TreeSize, Wanted};
use proofline_proto::{peer, v1};
use proptest::prelude::*;
use prost::Message;

use crate::outlets;
use crate::world::*;

/// One thing that happens to a ledger.
#[derive(Clone, Debug)]
pub enum Step {
    Append { lane: usize, events: Vec<Shape> },
    Repeat { lane: usize },
    Fork { lane: usize },
    Open { lane: usize },
    Close { lane: usize },
    RegisterAgent(u8),
    RevokeAgent(u8),
    Seal(u8),
    Contain(u8),
    Quarantine(u8),
    Release(u8),
    RegisterOutlet(u8),
    ResumeOutlet(u8),
    RemoveOutlet(u8),
    Settle { outlet: u8, result: i32 },
    Activate(u8),
    Answer(bool),
    Withdraw,
    Promote { agent: u8, signers: usize },
    Pin { digest: u8, beside_others: bool },
    Verify(u8),
    Place(u8),
    Hold(u8),
    ReleaseHold(u8),
    Erase(u8),
    Retain(u32),
    Commit,
    Wait(u32),
}

#[derive(Clone, Debug)]
pub enum Shape {
    Good { session: u8, agent: u8, parent: Option<u8>, credential: Option<u8> },
    Spawn { session: u8, agent: u8, child: u8, of: u8 },
    Act { session: u8, agent: u8, parent: Option<u8>, act: u8, resource: u8 },
    Payload { session: u8, agent: u8, of: u8 },
    Foreign,
    Unattributed,
    Garbage(Vec<u8>),
}

/// Rule sets that do everything a rule can do, and one that errs.
const RULES: [&str; 4] = [
    "",
    r#"@id("first") @containment("require_approval") @severity("high")
       forbid(principal, action in Action::"intent", resource) when { context.first_seen_resource };
       @id("wide") @containment("suspend_session") @severity("high")
       forbid(principal, action, resource) when { context.reach_resources > 3 };"#,
    r#"@id("taint") @containment("revoke_session") @severity("critical")
       forbid(principal, action in Action::"intent", resource) when { context.tainted && context.egress };
       @id("errs") @containment("deny") @severity("critical")
       forbid(principal, action == Action::"payment", resource) when { context.session_calls * 9223372036854775807 > 9 };
       @id("agent") @containment("quarantine_agent") @severity("high")
       forbid(principal, action, resource) when { context.agent_denied_hour > 6 };"#,
    r#"@id("leak") @containment("revoke_credential") @severity("high")
       forbid(principal, action in Action::"intent", resource) when { context.credential_replayed };
       @id("pay") @containment("require_approval") @severity("high")
       forbid(principal, action == Action::"payment", resource);
       @id("seen") @mode("observe") @containment("deny") @severity("low")
       forbid(principal, action, resource) when { context.refusals_here > 0 || context.mixed_owner };
       @id("drift") @containment("deny") @severity("low")
       forbid(principal, action, resource) when { context.tool_drift || context.purpose_changed };"#,
];

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        6 => (0..12_u8, 0..3_u8, prop::option::weighted(0.3, 0..12_u8), prop::option::weighted(0.3, 0..4_u8))
            .prop_map(|(session, agent, parent, credential)| Shape::Good { session, agent, parent, credential }),
        1 => (0..12_u8, 0..3_u8, 0..12_u8, 0..3_u8).prop_map(|(session, agent, child, of)| Shape::Spawn { session, agent, child, of }),
        6 => (0..12_u8, 0..3_u8, prop::option::weighted(0.3, 0..12_u8), 0..10_u8, 0..8_u8)
            .prop_map(|(session, agent, parent, act, resource)| Shape::Act { session, agent, parent, act, resource }),
        2 => (0..12_u8, 0..3_u8, 0..4_u8).prop_map(|(session, agent, of)| Shape::Payload { session, agent, of }),
        1 => Just(Shape::Foreign),
        1 => Just(Shape::Unattributed),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Shape::Garbage),
    ]
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_usize, prop::collection::vec(shape(), 1..6)).prop_map(|(lane, events)| Step::Append { lane, events }),
        1 => (0..3_usize).prop_map(|lane| Step::Repeat { lane }),
        1 => (0..3_usize).prop_map(|lane| Step::Fork { lane }),
        1 => (0..3_usize).prop_map(|lane| Step::Open { lane }),
        1 => (0..3_usize).prop_map(|lane| Step::Close { lane }),
        1 => (0..3_u8).prop_map(Step::RegisterAgent),
        1 => (0..3_u8).prop_map(Step::RevokeAgent),
        1 => (0..12_u8).prop_map(Step::Seal),
        2 => (0..12_u8).prop_map(Step::Contain),
        1 => (0..3_u8).prop_map(Step::Quarantine),
        1 => (1..4_u8).prop_map(Step::Release),
        2 => (0..4_u8).prop_map(Step::RegisterOutlet),
        1 => (0..4_u8).prop_map(Step::ResumeOutlet),
        1 => (0..4_u8).prop_map(Step::RemoveOutlet),
        3 => (0..4_u8, 0..6_i32).prop_map(|(outlet, result)| Step::Settle { outlet, result }),
        1 => (0..4_u8).prop_map(Step::Activate),
        1 => any::<bool>().prop_map(Step::Answer),
        1 => Just(Step::Withdraw),
        1 => (0..3_u8, 1..3_usize).prop_map(|(agent, signers)| Step::Promote { agent, signers }),
        1 => (0..8_u8, any::<bool>()).prop_map(|(digest, beside_others)| Step::Pin { digest, beside_others }),
        1 => (0..4_u8).prop_map(Step::Verify),
        1 => (0..3_u8).prop_map(Step::Place),
        2 => (0..16_u8).prop_map(Step::Hold),
        2 => (1..6_u8).prop_map(Step::ReleaseHold),
        2 => (0..4_u8).prop_map(Step::Erase),
        1 => (100..400_u32).prop_map(Step::Retain),
        2 => Just(Step::Commit),
        1 => (1..5_000_u32).prop_map(Step::Wait),
    ]
}

/// A body of some kind, about one of few resources.
fn body(act: u8, resource: u8) -> v1::event::Body {
    use v1::event::Body;
    let touched = v1::Resource {
        uri: format!("r/{resource}"),
        system: format!("x{}", resource % 3),
        kind: v1::ResourceKind::Record.into(),
        classification: i32::from(resource % 5),
        tags: vec![if resource == 7 { "untrusted".to_owned() } else { format!("owner:u-{}", resource % 2) }],
        ..Default::default()
    };
    let intent = |verb: v1::ActionVerb| v1::ActionIntent {
        verb: verb.into(),
        tool: Some(v1::Tool { name: format!("t{act}"), server_id: "m".to_owned(), ..Default::default() }),
        resources: vec![touched.clone()],
        action_digest: vec![resource; 32],
        egress: v1::Egress::External.into(),
        amount_minor: 500,
        ..Default::default()
    };
    match act {
        0 => Body::ActionIntent(intent(v1::ActionVerb::ResourceRead)),
        1 => Body::ActionIntent(intent(v1::ActionVerb::Payment)),
        2 => Body::ActionIntent(intent(v1::ActionVerb::ResourceWrite)),
        3 | 4 => Body::ActionOutcome(v1::ActionOutcome {
            intent_event_id: vec![resource; 16],
            status: if act == 3 { v1::OutcomeStatus::Succeeded } else { v1::OutcomeStatus::Failed }.into(),
            records: u64::MAX,
            ..Default::default()
        }),
        5 => Body::MemoryAccess(v1::MemoryAccess {
            store_id: "m".to_owned(),
            record_id: "1".to_owned(),
            verb: i32::from(resource % 6),
            records: 1,
        }),
        6 => Body::ModelCall(v1::ModelCall { finish_reasons: vec!["stop".to_owned()], input_tokens: u64::MAX, ..Default::default() }),
        7 => Body::ToolDefined(v1::ToolDefined {
            server_id: "m".to_owned(),
            name: "t".to_owned(),
            definition_sha256: vec![resource; 32],
            declared_hints: None,
        }),
        _ => Body::DataAccess(v1::DataAccess {
            resource: Some(touched),
            verb: v1::ActionVerb::ResourceRead.into(),
            records: 7,
            ..Default::default()
        }),
    }
}

fn bytes(shape: &Shape) -> prost::bytes::Bytes {
    match shape {
        Shape::Act { session, agent, parent, act, resource } => {
            let mut event = event(&format!("s{session}"), &format!("a{agent}"));
            event.event_id = vec![*resource; 16];
            event.body = Some(body(*act, *resource));
            let shown =
                v1::Credential { credential_id: format!("c{}", resource % 3), scopes: vec![format!("p{act}")], ..Default::default() };
            event.attribution.as_mut().unwrap().credential = Some(shown);
            event.attribution.as_mut().unwrap().purpose_id = if resource % 2 == 0 { String::new() } else { format!("u{}", resource % 3) };
            if let Some(parent) = parent {
                event.session.as_mut().unwrap().parent_session_id = format!("s{parent}");
            }
            event.encode_to_vec().into()
        }
        Shape::Spawn { session, agent, child, of } => {
            let mut event = event(&format!("s{session}"), &format!("a{agent}"));
            let (child_session_id, child_agent_id) = (format!("s{child}"), format!("a{of}"));
            let spawned = v1::SubAgentSpawned { child_session_id, child_agent_id, ..Default::default() };
            event.body = Some(v1::event::Body::SubAgentSpawned(spawned));
            event.encode_to_vec().into()
        }
        Shape::Good { session, agent, parent, credential } => {
            let mut event = event(&format!("s{session}"), &format!("a{agent}"));
            if let Some(credential) = credential {
                let shown = v1::Credential { credential_id: format!("c{credential}"), ..Default::default() };
                event.attribution.as_mut().unwrap().credential = Some(shown);
            }
            if let Some(parent) = parent {
                event.session.as_mut().unwrap().parent_session_id = format!("s{parent}");
            }
            event.encode_to_vec().into()
        }
        Shape::Payload { session, agent, of } => {
            // The fourth is whoever began the session.
            let key_ref = if *of == 3 { String::new() } else { format!("subject:https://idp.test p-{of}") };
            crate::forgetting::with_payload(&format!("s{session}"), &format!("a{agent}"), &key_ref).encode_to_vec().into()
        }
        Shape::Foreign => v1::Event { tenant_id: "other".to_owned(), ..event("s", "a") }.encode_to_vec().into(),
        Shape::Unattributed => v1::Event { attribution: None, ..event("s", "a") }.encode_to_vec().into(),
        Shape::Garbage(bytes) => bytes.clone().into(),
    }
}

/// Carries out the steps one by one, and keeps what was submitted: times and items.
pub fn live(steps: &[Step]) -> (World, Vec<(u64, peer::item::Item)>) {
    let mut script = Script::new();
    for step in steps {
        script.carry_out(step);
    }
    (script.world, script.log)
}

struct Script {
    world: World,
    lanes: Vec<Collector>,
    sent: Vec<Option<v1::Batch>>,
    log: Vec<(u64, peer::item::Item)>,
}

impl Script {
    fn new() -> Self {
        let mut world = World::empty();
        let collector = Collector::new("gateway-1", 50);
        let mut log = vec![(world.now, peer::item::Item::Genesis(genesis()))];
        world.apply(log[0].1.clone());
        log.push((world.now, peer::item::Item::Command(world.signed_command(&[ALICE], collector.registration()))));
        world.apply(log[1].1.clone());
        let lanes = (0..3).map(|lane| Collector { lane, nonce: lane as u8 * 80, ..collector.clone() }).collect();
        let mut script = Self { world, lanes, sent: vec![None; 3], log };
        (0..3).for_each(|lane| script.open(lane));
        script
    }

    fn submit(&mut self, item: peer::item::Item) -> proofline_ledger::Outcome {
        self.log.push((self.world.now, item.clone()));
        self.world.apply(item)
    }

    fn contain(&mut self, action: v1::ContainmentAction, kind: v1::TargetKind, id: String) {
        let target = Some(v1::Target { kind: kind.into(), tenant_id: TENANT.to_owned(), id });
        let reason = "a test".to_owned();
        let contain = v1::Contain { target, action: action.into(), reason, incident_id: String::new() };
        self.command(&[RESPONDER], v1::command::Action::Contain(contain));
    }

    fn open(&mut self, lane: usize) {
        let request = self.lanes[lane].open_request();
        if let proofline_ledger::Outcome::Opened(opened) = self.submit(peer::item::Item::OpenLane(request)) {
            self.lanes[lane].epoch = opened.epoch;
            self.lanes[lane].sequence = 0;
        }
    }

    fn send(&mut self, lane: usize, events: Vec<prost::bytes::Bytes>) {
        let batch = self.lanes[lane].batch(events);
        if let proofline_ledger::Outcome::Appended(_) = self.submit(peer::item::Item::Batch(batch.clone())) {
            self.lanes[lane].advance(&batch);
            self.sent[lane] = Some(batch);
        }
    }

    fn carry_out(&mut self, step: &Step) {
        match step {
            Step::Append { lane, events } => self.send(*lane, events.iter().map(bytes).collect()),
            Step::Close { lane } => self.send(*lane, Vec::new()),
            Step::Open { lane } => self.open(*lane),
            Step::Repeat { lane } => {
                if let Some(batch) = self.sent[*lane].clone() {
                    self.submit(peer::item::Item::Batch(batch));
                }
            }
            Step::Fork { lane } => {
                if let Some(batch) = self.sent[*lane].clone() {
                    let previous = proofline_ledger::Hash::from_slice(&batch.previous).unwrap();
                    let fork = self.lanes[*lane].batch_at(batch.epoch, batch.sequence, previous, vec![vec![0xaa].into()]);
                    self.submit(peer::item::Item::Batch(fork));
                }
            }
            Step::RegisterAgent(agent) => self.command(&[ALICE], agent_action(*agent)),
            Step::RevokeAgent(agent) => {
                let revoke = v1::RevokeAgent { tenant_id: TENANT.to_owned(), agent_id: format!("a{agent}"), reason: String::new() };
                self.command(&[ALICE], v1::command::Action::RevokeAgent(revoke));
            }
            Step::Seal(session) => {
                let session_id = format!("s{session}");
                let seal = v1::SealSession { tenant_id: TENANT.to_owned(), session_id, reason: String::new() };
                self.command(&[RESPONDER], v1::command::Action::SealSession(seal));
            }
            Step::Contain(session) => {
                self.contain(v1::ContainmentAction::RevokeSession, v1::TargetKind::Session, format!("s{session}"));
            }
            Step::Quarantine(agent) => {
                self.contain(v1::ContainmentAction::QuarantineAgent, v1::TargetKind::Agent, format!("a{agent}"));
            }
            Step::Release(id) => {
                let release = v1::Release { containment_id: u64::from(*id), reason: "looked into".to_owned(), incident_id: String::new() };
                self.command(&[RESPONDER, SECOND_RESPONDER], v1::command::Action::Release(release));
            }
            Step::RegisterOutlet(outlet) => self.command(&[ALICE, BOB], outlets::register(outlet_of(*outlet))),
            Step::ResumeOutlet(outlet) => {
                let resume = v1::ResumeOutlet { outlet_id: format!("o{outlet}"), reason: "mended".to_owned() };
                self.command(&[ALICE], v1::command::Action::ResumeOutlet(resume));
            }
            Step::RemoveOutlet(outlet) => {
                let remove = v1::RemoveOutlet { outlet_id: format!("o{outlet}"), reason: "gone".to_owned() };
                self.command(&[ALICE, BOB], v1::command::Action::RemoveOutlet(remove));
            }
            Step::Settle { outlet, result } => self.settle(&format!("o{outlet}"), *result),
            Step::Activate(set) => {
                self.command(&[ALICE, BOB], v1::command::Action::ActivateRules(crate::deciding::activation(RULES[usize::from(*set)])));
            }
            Step::Answer(yes) => self.answer(*yes),
            Step::Withdraw => self.withdraw(),
            Step::Pin { digest, beside_others } => {
                let pin = v1::PinTool {
                    tenant_id: TENANT.to_owned(),
                    server_id: "m".to_owned(),
                    tool_name: "t".to_owned(),
                    definition_sha256: vec![*digest; 32],
                    beside_others: *beside_others,
                    reason: "a test".to_owned(),
                };
                self.command(&[ALICE], v1::command::Action::PinTool(pin));
            }
            Step::Verify(outlet) => {
                let (outlet_id, state, reason) = (format!("o{outlet}"), format!("at {}", self.world.now), "a test".to_owned());
                self.command(&[ALICE], v1::command::Action::VerifyOutlet(v1::VerifyOutlet { outlet_id, state, reason }));
            }
            Step::Place(session) => {
                let target =
                    Some(v1::Target { kind: v1::TargetKind::Session.into(), tenant_id: TENANT.to_owned(), id: format!("s{session}") });
                let (matter, authority) = ("a case".to_owned(), "a court".to_owned());
                self.command(&[RESPONDER], v1::command::Action::PlaceHold(v1::PlaceHold { target, matter, authority }));
                let release = v1::ReleaseHold { hold_id: u64::from(*session), reason: "settled".to_owned() };
                self.command(&[RESPONDER, SECOND_RESPONDER], v1::command::Action::ReleaseHold(release));
            }
            Step::Promote { agent, signers } => {
                let (tenant_id, agent_id) = (TENANT.to_owned(), format!("a{agent}"));
                let state = if self.world.now.is_multiple_of(2) { v1::AgentState::Approved } else { v1::AgentState::Suspended }.into();
                let change = v1::ChangeAgentState { tenant_id, agent_id, state, reason: "a test".to_owned() };
                self.command(&[ALICE, BOB][..*signers], v1::command::Action::ChangeAgentState(change));
            }
            Step::Hold(what) => {
                let (kind, id) = match what {
                    0..12 => (v1::TargetKind::Session, format!("s{what}")),
                    12..15 => (v1::TargetKind::Agent, format!("a{}", what - 12)),
                    _ => (v1::TargetKind::Tenant, String::new()),
                };
                self.command(&[RESPONDER], crate::forgetting::hold(kind, TENANT, &id));
            }
            Step::ReleaseHold(hold) => self.command(&[RESPONDER, SECOND_RESPONDER], crate::forgetting::release(u64::from(*hold))),
            Step::Erase(of) => {
                let subject = if *of == 3 { "u-1".to_owned() } else { format!("p-{of}") };
                self.command(&[ALICE, BOB], crate::forgetting::erase(&subject));
            }
            Step::Retain(days) => self.command(&[ALICE, BOB], crate::forgetting::retain(*days)),
            Step::Commit => {
                let said = crate::completeness::commitment(&self.world);
                self.submit(peer::item::Item::Commitment(said));
            }
            Step::Wait(seconds) => self.world.now += u64::from(*seconds) * SECOND_NS,
        }
    }

    /// Says what became of the oldest message that waits for an outlet, and says it again.
    fn settle(&mut self, outlet: &str, result: i32) {
        let known = proofline_ledger::outlets::all(&self.world.store).unwrap();
        let Some(it) = known.into_iter().find(|it| it.outlet.outlet_id == outlet) else { return };
        let waiting = proofline_ledger::outlets::waiting(&self.world.store, ORIGIN, &it.outlet, Direction::Ascending, 1).unwrap();
        let Some(oldest) = waiting.first() else { return };
        let result = v1::DeliveryResult::try_from(result).unwrap();
        let delivery = outlets::delivery(outlet, oldest.containment, oldest.entry.0, oldest.ordinal, result);
        for _ in 0..2 {
            self.submit(peer::item::Item::Delivery(delivery.clone()));
        }
    }

    /// Answers the first action that waits for it.
    fn answer(&mut self, yes: bool) {
        let waiting = listing::approvals(&self.world.store, TENANT, Wanted::Open, EntryIndex(0), 1).unwrap();
        let Some(asked) = waiting.into_iter().next() else { return };
        let approval = v1::ResolveApproval {
            tenant_id: asked.tenant_id,
            session_id: asked.session_id,
            intent_index: asked.intent_index,
            action_digest: asked.action_digest,
            verdict: if yes { v1::Verdict::Allow } else { v1::Verdict::Deny }.into(),
            expires_unix_ns: self.world.now + 600 * SECOND_NS,
            reason: "a test".to_owned(),
        };
        self.command(&[RESPONDER], v1::command::Action::ResolveApproval(approval));
    }

    /// Takes back the newest answer, whatever it was and whatever became of it.
    fn withdraw(&mut self) {
        let answered = listing::approvals(&self.world.store, TENANT, Wanted::Everything, EntryIndex(0), 1_000).unwrap();
        let Some(of) = answered.into_iter().max_by_key(|it| it.resolved_index) else { return };
        let withdrawal = v1::WithdrawApproval {
            tenant_id: of.tenant_id,
            session_id: of.session_id,
            intent_index: of.intent_index,
            action_digest: of.action_digest,
            reason: "a test".to_owned(),
        };
        self.command(&[RESPONDER], v1::command::Action::WithdrawApproval(withdrawal));
    }

    fn command(&mut self, signers: &[(&str, u8)], action: v1::command::Action) {
        let command = self.world.signed_command(signers, action);
        self.submit(peer::item::Item::Command(command));
    }
}

/// The last one is where the others escalate to, once it is there.
fn outlet_of(number: u8) -> v1::Outlet {
    let id = format!("o{number}");
    match number {
        0 => outlets::webhook(&id),
        1 => outlets::stream(&id, v1::SubjectForm::Complex),
        2 => v1::Outlet { escalate_to: "o3".to_owned(), escalate_after_s: 60, ..outlets::stream(&id, v1::SubjectForm::Simple) },
        _ => v1::Outlet { escalations_only: true, ..outlets::webhook(&id) },
    }
}

fn agent_action(agent: u8) -> v1::command::Action {
    v1::command::Action::RegisterAgent(v1::RegisterAgent {
        tenant_id: TENANT.to_owned(),
        agent_id: format!("a{agent}"),
        ..Default::default()
    })
}

/// What no decision reads and lists show all the same: every place of it follows from the entries.
fn listed(store: &MapStore) -> impl PartialEq + std::fmt::Debug {
    let query = UnresolvedQuery { tenant: None, after: None, before: None, limit: 10_000 };
    (
        listing::approvals(store, TENANT, Wanted::Everything, EntryIndex(0), 10_000).unwrap(),
        listing::approvals(store, TENANT, Wanted::Open, EntryIndex(0), 10_000).unwrap(),
        listing::holds(store, TENANT, Wanted::Open, 0, 10_000).unwrap(),
        listing::holds(store, TENANT, Wanted::Everything, 0, 10_000).unwrap(),
        listing::tools(store, TENANT, &[], 10_000).unwrap(),
        listing::unresolved(store, &query).unwrap(),
    )
}

fn replay(world: &World) -> (Ledger, proofline_ledger::MapStore) {
    let mut replay = Replay::new().unwrap();
    for entry in world.entries() {
        replay.push(entry.into()).unwrap();
    }
    replay.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_entries_alone_re_derive_entries_and_state(steps in prop::collection::vec(step(), 1..40)) {
        let (world, _) = live(&steps);
        let (ledger, store) = replay(&world);
        prop_assert_eq!(ledger.state_digest(), world.ledger.state_digest());
        prop_assert_eq!(ledger.log_root(), world.ledger.log_root());
        prop_assert_eq!(listed(&store), listed(&world.store));
        let erasures = |store| proofline_ledger::payloads::erasures(store, 0, 1_000).unwrap();
        prop_assert_eq!(erasures(&store), erasures(&world.store));
        let outlets = proofline_ledger::outlets::all(&store).unwrap();
        prop_assert_eq!(&outlets, &proofline_ledger::outlets::all(&world.store).unwrap());
        for it in outlets {
            let waiting = |store| proofline_ledger::outlets::waiting(store, ORIGIN, &it.outlet, Direction::Ascending, 10_000).unwrap();
            prop_assert_eq!(waiting(&store), waiting(&world.store));
        }
    }

    #[test]
    fn grouping_restarts_and_snapshots_change_nothing(
        steps in prop::collection::vec(step(), 1..40),
        cuts in any::<u64>(),
        (restart, snapshot) in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let (world, log) = live(&steps);
        let (restart, snapshot) = (restart.index(log.len()), snapshot.index(log.len()));
        let mut other = World::empty();
        let mut group: Vec<peer::item::Item> = Vec::new();
        let mut time = 0;
        for (n, (at, item)) in log.into_iter().enumerate() {
            // Items share a group only when they share a time, as a leader's groups do.
            if !group.is_empty() && (at != time || cuts >> (n % 64) & 1 == 1) {
                other.now = time;
                other.apply_group(std::mem::take(&mut group));
            }
            if n == restart {
                other.reopen();
            }
            if n == snapshot {
                other = other.through_snapshot();
            }
            time = at;
            group.push(item);
        }
        other.now = time;
        other.apply_group(group);
        prop_assert_eq!(other.entries(), world.entries());
        prop_assert_eq!(other.ledger.state_digest(), world.ledger.state_digest());
        prop_assert_eq!(listed(&other.store), listed(&world.store));
    }

    #[test]
    fn what_applies_find_of_keys_is_what_the_entries_carry(
        steps in prop::collection::vec(step(), 1..40),
        (kept, asked, grouped) in any::<(u64, u64, u64)>(),
        (within, restart) in any::<(prop::sample::Index, prop::sample::Index)>(),
    ) {
        let (_, log) = live(&steps);
        let (mut world, recent) = (World::empty(), RecentKeys::default());
        world.ledger.note_keys();
        let mut index = KeyIndex::open(&world.store).unwrap();
        let advance = |index: &mut KeyIndex, world: &World, to: TreeSize| {
            while index.size() < to {
                index.advance_with(&world.store, &recent, to).unwrap();
            }
        };
        let mut log = log.into_iter().enumerate().peekable();
        let mut group = Vec::new();
        while let Some((n, (at, item))) = log.next() {
            group.push(item);
            if log.peek().is_some_and(|(_, (next, _))| *next == at) && grouped >> (n % 64) & 1 == 1 {
                continue;
            }
            world.now = at;
            world.apply_group(std::mem::take(&mut group));
            // What there was no room for is read out of the entries.
            let found = world.ledger.take_keys().filter(|_| kept >> (n % 64) & 1 == 1);
            found.into_iter().for_each(|found| recent.push(found));
            if n == restart.index(40) {
                world.reopen();
                world.ledger.note_keys();
            }
            if asked >> (n % 64) & 1 == 1 {
                let new = world.ledger.tree_size().0 - index.size().0;
                let to = TreeSize(index.size().0 + within.index(usize::try_from(new).unwrap() + 1) as u64);
                advance(&mut index, &world, to);
            }
        }
        advance(&mut index, &world, world.ledger.tree_size());
        let mut from_entries = KeyIndex::open(&world.store).unwrap();
        while from_entries.size() < index.size() {
            from_entries.advance(&world.store, index.size()).unwrap();
        }
        prop_assert_eq!((index.root(), index.keys()), (from_entries.root(), from_entries.keys()));
    }

    #[test]
    fn the_size_of_the_stack_changes_nothing(steps in prop::collection::vec(step(), 1..40), stack in prop::sample::select(vec![512_usize << 10, 1 << 20, 32 << 20])) {
        let (world, log) = live(&steps);
        let replayed = std::thread::Builder::new().stack_size(stack).spawn(move || {
            let mut other = World::empty();
            for (at, item) in log {
                other.now = at;
                other.apply(item);
            }
            (other.entries(), other.ledger.state_digest())
        });
        let (entries, digest) = replayed.unwrap().join().unwrap();
        prop_assert_eq!(entries, world.entries());
        prop_assert_eq!(digest, world.ledger.state_digest());
    }

    #[test]
    fn an_altered_entry_is_refused_or_leads_to_another_root(steps in prop::collection::vec(step(), 5..20), pick in any::<u64>(), bit in any::<u64>()) {
        let (world, _) = live(&steps);
        let mut entries = world.entries();
        let victim = 1 + (pick as usize) % (entries.len() - 1);
        let bits = entries[victim].len() * 8;
        let bit = bit as usize % bits;
        entries[victim][bit / 8] ^= 1 << (bit % 8);
        let mut replay = Replay::new().unwrap();
        let outcome = entries.into_iter().try_for_each(|entry| replay.push(entry.into())).and_then(|()| replay.finish());
        // What an event says is the collector's own: replay cannot know it, but the root does.
        if let Ok((ledger, _)) = outcome {
            prop_assert_ne!(ledger.log_root(), world.ledger.log_root());
            prop_assert_ne!(ledger.state_digest(), world.ledger.state_digest());
        }
    }
}

#[test]
fn a_log_that_ends_inside_a_batch_is_incomplete() {
    let (mut world, mut collector) = World::with_collector();
    let receipt = collector.append(&mut world, vec![event("s", "a"), event("s", "a")]).unwrap();
    let mut entries = world.entries();
    entries.pop();
    let mut replay = Replay::new().unwrap();
    entries.into_iter().for_each(|entry| replay.push(entry.into()).unwrap());
    let Err(Divergence::Incomplete(first)) = replay.finish() else { panic!() };
    assert_eq!(first, EntryIndex(receipt.first_index));
}
