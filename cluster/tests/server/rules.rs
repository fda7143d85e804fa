//! Rules on a real cluster, from the command line: tested, simulated, put in force by two persons; what they do to proposals,
//! and how somebody else's yes lets one action through.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use proofline_cluster::{Binaries, TENANT, Tls};
use proofline_proto::v1;
use prost::Message as _;
use serde_json::Value;
use v1::event::Body;

use crate::world::{Collector, World, event};

const RULES: &str = r#"
@id("drops") @containment("revoke_session") @severity("critical")
forbid(principal, action == Action::"resource_delete", resource);

@id("pays") @containment("require_approval") @severity("high")
forbid(principal, action == Action::"payment", resource) when { context.amount > 1000 };
"#;

/// A cluster, and who governs it with the command line.
struct Governed {
    world: World,
    rules: PathBuf,
}

impl Governed {
    async fn found() -> Self {
        let world = World::found(3, Tls::Mutual).await;
        let rules = world.plan().root.join("rules.cedar");
        fs::write(&rules, RULES).unwrap();
        Self { world, rules }
    }

    fn proofline(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(Binaries::beside_current().unwrap().path("proofline"));
        command.arg("--profile").arg(self.world.plan().profile("admin")).args(["--output", "json"]).args(arguments).output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> Value {
        let output = self.proofline(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?} ended with {}: {said}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn signer(&self, operator: &str) -> String {
        format!("{operator}={}", self.world.plan().operator_key(operator).display())
    }

    /// Simulates and activates, as two persons would.
    fn activate(&self) -> u64 {
        let (rules, report) = (self.rules.display().to_string(), self.world.plan().root.join("simulation.json").display().to_string());
        self.done(&["rules", "simulate", &rules, "--out", &report]);
        let activate = ["rules", "activate", &rules, "--simulation", &report, "--reason", "a test"];
        let one = self.proofline(&[&activate[..], &["--signer", &self.signer("alice")]].concat());
        assert_eq!(one.status.code(), Some(6), "one registrar is not enough");
        let signers = ["--signer", &self.signer("alice"), "--signer", &self.signer("bob")];
        let committed = self.done(&[&activate[..], &signers].concat());
        committed["index"].as_str().unwrap().parse().unwrap()
    }

    async fn propose(&self, place: usize, collector: &mut Collector, event: v1::Event) -> v1::ProposeResponse {
        let batch = collector.sign(vec![event.encode_to_vec()]).batch;
        self.world.ingest(place, &collector.id).propose(v1::ProposeRequest { batch }).await.unwrap().into_inner()
    }
}

fn fresh_id() -> Vec<u8> {
    let mut id = vec![0; 16];
    getrandom::fill(&mut id).unwrap();
    id
}

fn intent(session: &str, verb: v1::ActionVerb, amount_minor: u64) -> v1::Event {
    let mut event = v1::Event::decode(event(session).as_slice()).unwrap();
    event.event_id = fresh_id();
    event.body = Some(Body::ActionIntent(v1::ActionIntent {
        verb: verb.into(),
        tool: Some(v1::Tool { name: "books".to_owned(), ..Default::default() }),
        action_digest: vec![4; 32],
        amount_minor,
        ..Default::default()
    }));
    event
}

fn outcome(of: &v1::Event) -> v1::Event {
    let body =
        v1::ActionOutcome { intent_event_id: of.event_id.clone(), status: v1::OutcomeStatus::Succeeded.into(), ..Default::default() };
    v1::Event { event_id: fresh_id(), body: Some(Body::ActionOutcome(body)), ..of.clone() }
}

#[tokio::test]
async fn rules_that_two_persons_activated_decide_what_a_gateway_proposes() {
    let governed = Governed::found().await;
    let mut gateway = governed.world.collector("gateway").await;
    let allowed = governed.propose(0, &mut gateway, intent("s-1", v1::ActionVerb::ResourceDelete, 0)).await;
    assert_eq!(allowed.verdict(), v1::Verdict::Allow, "no rules are in force");
    let activated = governed.activate();
    let shown = governed.done(&["rules", "show"]);
    assert_eq!(shown["rule_set"]["activated_index"], activated.to_string());
    assert_eq!(shown["rules"], RULES);

    let ran = governed.propose(1, &mut gateway, intent("s-1", v1::ActionVerb::ToolCall, 0)).await;
    assert_eq!(ran.verdict(), v1::Verdict::Allow);
    let dropped = governed.propose(2, &mut gateway, intent("s-1", v1::ActionVerb::ResourceDelete, 0)).await;
    assert_eq!(dropped.verdict(), v1::Verdict::Deny);
    let contained = governed.propose(1, &mut gateway, intent("s-1", v1::ActionVerb::ToolCall, 0)).await;
    assert_eq!(contained.verdict(), v1::Verdict::Deny, "the session is revoked");

    let list = governed.done(&["containment", "list", "--tenant", TENANT]);
    assert_eq!(list["containments"][0]["reason"], "rule drops");
    assert_eq!(list["containments"][0]["cause_index"], dropped.index.to_string());
    let holds = governed.done(&["hold", "list", "--tenant", TENANT]);
    assert_eq!(holds["holds"][0]["matter"], "containment 1");
    let replayed = governed.done(&["replay"]);
    assert_eq!(replayed["divergence"], Value::Null);
}

#[tokio::test]
async fn the_facts_of_a_decision_are_those_that_its_entry_commits_to() {
    let governed = Governed::found().await;
    let mut gateway = governed.world.collector("gateway").await;
    governed.activate();
    let denied = governed.propose(0, &mut gateway, intent("s-1", v1::ActionVerb::ResourceDelete, 0)).await;
    governed.world.published(1, denied.index + 1).await;
    let mut audit = governed.world.audit(1, "admin");
    let exact = audit.get_facts(v1::GetFactsRequest { index: denied.index }).await.unwrap().into_inner().facts;
    let entry = audit.get_entry(v1::GetEntryRequest { index: denied.index }).await.unwrap().into_inner().entry;
    let entry = v1::Entry::decode(entry.as_slice()).unwrap();
    let decision = v1::EntryCore::decode(entry.core).unwrap().decision.unwrap();
    assert_eq!(blake3::derive_key("proofline/v1 facts", &exact).as_slice(), decision.facts_digest);
    let (file, policy) = (governed.world.plan().root.join("one.decision"), governed.world.plan().policy());
    governed.done(&["decision", "export", &denied.index.to_string(), "--out", file.to_str().unwrap()]);
    let again = governed.done(&["decision", "check", file.to_str().unwrap(), "--policy", policy.to_str().unwrap()]);
    assert_eq!((&again["recorded"][0], &again["again"][0]), (&Value::from("drops"), &Value::from("drops")));
    let forged = fs::read_to_string(&file).unwrap().replace("resource_delete", "resource_write");
    fs::write(&file, forged).unwrap();
    let wrong = governed.proofline(&["decision", "check", file.to_str().unwrap(), "--policy", policy.to_str().unwrap()]);
    assert_eq!(wrong.status.code(), Some(3), "these are other rules");
    let facts = v1::Facts::decode(exact.as_slice()).unwrap();
    assert_eq!((facts.action.as_str(), facts.session_calls), ("resource_delete", 1));
}

#[tokio::test]
async fn a_payment_waits_for_a_yes_that_is_good_once() {
    let governed = Governed::found().await;
    let mut gateway = governed.world.collector("gateway").await;
    governed.activate();
    let payment = || intent("s-1", v1::ActionVerb::Payment, 5_000);
    let asked = governed.propose(0, &mut gateway, payment()).await;
    assert_eq!((asked.verdict(), asked.action_digest.len()), (v1::Verdict::RequireApproval, 32));
    let waiting = governed.done(&["approval", "list", "--tenant", TENANT]);
    assert_eq!(waiting["approvals"][0]["intent_index"], asked.index.to_string());
    let (index, signer) = (asked.index.to_string(), governed.signer("rita"));
    let grant = ["approval", "grant", &index, "--tenant", TENANT, "--reason", "called the customer", "--signer", &signer];
    governed.done(&grant);
    assert!(!governed.proofline(&grant).status.success(), "it was answered already");
    let paid = payment();
    let approved = governed.propose(1, &mut gateway, paid.clone()).await;
    assert_eq!(approved.verdict(), v1::Verdict::Allow);
    let again = governed.propose(2, &mut gateway, payment()).await;
    assert_eq!(again.verdict(), v1::Verdict::RequireApproval, "the approval was used up");

    for place in 0..3 {
        governed.world.published(place, again.index + 1).await;
    }
    let unresolved = |governed: &Governed| governed.done(&["unresolved", "--tenant", TENANT])["intents"].as_array().unwrap().len();
    assert_eq!(unresolved(&governed), 1, "allowed, and nobody said what came of it");
    let batch = gateway.sign(vec![outcome(&paid).encode_to_vec()]);
    let resolved = governed.world.ingest(0, "gateway").append(batch).await.unwrap().into_inner().first_index;
    for place in 0..3 {
        governed.world.published(place, resolved + 1).await;
    }
    assert_eq!(unresolved(&governed), 0);
}

#[tokio::test]
async fn a_yes_that_was_taken_back_lets_nothing_through_and_lists_go_page_by_page() {
    let governed = Governed::found().await;
    let mut gateway = governed.world.collector("gateway").await;
    governed.activate();
    let payment = |session: &str| intent(session, v1::ActionVerb::Payment, 5_000);
    let mut asked = Vec::new();
    for session in ["s-1", "s-2", "s-3"] {
        let answer = governed.propose(0, &mut gateway, payment(session)).await;
        assert_eq!(answer.verdict(), v1::Verdict::RequireApproval);
        asked.push(answer.index);
    }
    let (index, signer) = (asked[1].to_string(), governed.signer("rita"));
    let by = |what: &str| {
        let given = ["approval", what, &index, "--tenant", TENANT, "--reason", "a test", "--signer", &signer];
        governed.proofline(&given)
    };
    assert!(!by("withdraw").status.success(), "nobody answered");
    assert!(by("grant").status.success());
    assert!(by("withdraw").status.success());
    assert!(!by("withdraw").status.success(), "it was taken back already");
    let again = governed.propose(1, &mut gateway, payment("s-2")).await;
    assert_eq!(again.verdict(), v1::Verdict::RequireApproval);
    let waiting = governed.done(&["approval", "list", "--tenant", TENANT]);
    let intents: Vec<&str> = waiting["approvals"].as_array().unwrap().iter().map(|it| it["intent_index"].as_str().unwrap()).collect();
    assert_eq!(intents, [asked[0].to_string(), asked[2].to_string(), again.index.to_string()], "the withdrawn one is asked anew");

    let (mut pages, mut after_intent_index) = (Vec::new(), 0);
    loop {
        let request = v1::ListApprovalsRequest { tenant_id: TENANT.to_owned(), answered: false, page_size: 2, after_intent_index };
        let page = governed.world.control(2, "auditor").list_approvals(request).await.unwrap().into_inner();
        pages.push(page.approvals.iter().map(|it| it.intent_index).collect::<Vec<_>>());
        after_intent_index = page.next_after;
        if after_intent_index == 0 {
            break;
        }
    }
    assert_eq!(pages, [vec![asked[0], asked[2]], vec![again.index]]);
    // Of every tenant, one intent on a page.
    for session in ["s-4", "s-5"] {
        governed.propose(0, &mut gateway, intent(session, v1::ActionVerb::ToolCall, 0)).await;
    }
    let first = v1::ListUnresolvedRequest { tenant_id: "*".to_owned(), page_size: 1, ..Default::default() };
    let page = governed.world.control(0, "auditor").list_unresolved(first.clone()).await.unwrap().into_inner();
    let halfway = v1::ListUnresolvedRequest { after_index: page.next_after, ..first.clone() };
    let refused = governed.world.control(0, "auditor").list_unresolved(halfway).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "it would begin anew: {refused:?}");
    let next = v1::ListUnresolvedRequest { after_index: page.next_after, after_tenant_id: page.next_after_tenant_id, ..first };
    let second = governed.world.control(0, "auditor").list_unresolved(next).await.unwrap().into_inner();
    assert_eq!([&page.intents[0].session_id, &second.intents[0].session_id], ["s-4", "s-5"]);
    assert_eq!(governed.done(&["unresolved", "--tenant", "*"])["intents"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn another_definition_of_a_tool_drifts_until_an_operator_accepts_it() {
    let governed = Governed::found().await;
    let mut gateway = governed.world.collector("gateway").await;
    let drift =
        "@id(\"drift\") @containment(\"deny\") @severity(\"high\") forbid(principal, action, resource) when { context.tool_drift };";
    fs::write(&governed.rules, drift).unwrap();
    governed.activate();
    let call = |digest: u8| {
        let mut event = intent("s-1", v1::ActionVerb::ToolCall, 0);
        if let Some(Body::ActionIntent(intent)) = &mut event.body {
            intent.tool.as_mut().unwrap().definition_sha256 = vec![digest; 32];
        }
        event
    };
    assert_eq!(governed.propose(0, &mut gateway, call(1)).await.verdict(), v1::Verdict::Allow);
    assert_eq!(governed.propose(1, &mut gateway, call(2)).await.verdict(), v1::Verdict::Deny);
    let drifted = governed.done(&["tool", "list", "--tenant", TENANT, "--drifted"]);
    let newest = drifted["tools"][0]["newest_sha256"].as_str().unwrap();
    assert_eq!((&drifted["tools"][0]["tool_name"], newest), (&Value::from("books"), "02".repeat(32).as_str()));
    let signer = governed.signer("alice");
    let pin = |how: &str, digest: &str| {
        governed.done(&["tool", how, "books", digest, "--tenant", TENANT, "--reason", "reviewed", "--signer", &signer]);
    };
    pin("accept", newest);
    for (digest, verdict) in [(2, v1::Verdict::Allow), (1, v1::Verdict::Allow), (3, v1::Verdict::Deny)] {
        assert_eq!(governed.propose(2, &mut gateway, call(digest)).await.verdict(), verdict, "{digest}");
    }
    pin("pin", newest);
    for (digest, verdict) in [(1, v1::Verdict::Deny), (2, v1::Verdict::Allow)] {
        assert_eq!(governed.propose(0, &mut gateway, call(digest)).await.verdict(), verdict, "{digest}");
    }
    let none = governed.done(&["tool", "list", "--tenant", TENANT, "--drifted"]);
    assert_eq!(none["tools"].as_array().unwrap().len(), 0);
    assert_eq!(governed.done(&["replay"])["divergence"], Value::Null);
}

#[tokio::test]
async fn only_a_single_intent_can_be_proposed() {
    let governed = Governed::found().await;
    let mut gateway = governed.world.collector("gateway").await;
    let two = gateway.sign(vec![intent("s-1", v1::ActionVerb::ToolCall, 0).encode_to_vec(); 2]);
    let refused = governed.world.ingest(0, "gateway").propose(v1::ProposeRequest { batch: two.batch }).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("exactly one event"), "{}", refused.message());
}

#[test]
fn the_shipped_pack_does_what_its_scenarios_say() {
    let root = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).parent().unwrap().join("client/rules");
    let mut scenarios: Vec<_> = fs::read_dir(root.join("scenarios")).unwrap().map(|file| file.unwrap().path()).collect();
    scenarios.sort();
    let mut command = Command::new(Binaries::beside_current().unwrap().path("proofline"));
    let output = command.args(["--output", "json", "rules", "test"]).arg(root.join("proofline.cedar")).args(&scenarios).output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["failed"], 0, "{said:#}");
    // Each rule has a scenario that fires it and one that does not.
    let check = Command::new(Binaries::beside_current().unwrap().path("proofline"))
        .args(["--output", "json", "rules", "check"])
        .arg(root.join("proofline.cedar"))
        .output()
        .unwrap();
    let rules: Value = serde_json::from_slice(&check.stdout).unwrap();
    let names: Vec<String> = said["scenarios"].as_array().unwrap().iter().map(|it| it["scenario"].to_string()).collect();
    for rule in rules["rules"].as_array().unwrap() {
        let id = rule["id"].as_str().unwrap();
        for kind in ["fires", "stays quiet"] {
            assert!(names.iter().any(|name| name.contains(&format!("{id} {kind}"))), "no scenario for: {id} {kind}");
        }
    }
}
