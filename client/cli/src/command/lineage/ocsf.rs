//! Entries as events of the Open Cybersecurity Schema Framework: API Activity (6003) for what agents did, Detection Finding
//! (2004) for each finding. Other entries have no class there and are left out.

use proofline_proto::v1::{self, ActionVerb, event};
use proofline_verifier::FoundEntry;
use serde_json::{Value, json};

use crate::describe::{Described, verdict};

const OCSF_VERSION: &str = "1.6.0";
const API_ACTIVITY: u32 = 6003;
const DETECTION_FINDING: u32 = 2004;

/// Returns the events that one entry makes.
pub(super) fn events(of: &FoundEntry, described: &Described, origin: &str) -> Vec<Value> {
    let Some(event) = &of.entry.event else { return Vec::new() };
    let mut events = vec![activity(of, event, described, origin)];
    let decision = of.entry.decision.clone().unwrap_or_default();
    events.extend(decision.findings.iter().map(|finding| detection(of, event, &decision, finding, origin)));
    events
}

fn activity(of: &FoundEntry, event: &v1::Event, described: &Described, origin: &str) -> Value {
    let activity_id = activity_id(event);
    let decision = of.entry.decision.as_ref().map_or("-", |it| verdict(it.verdict()));
    let mut document = base(of, event, API_ACTIVITY, 6, activity_id, origin);
    let extra = json!({
        "severity_id": 1,
        "api": { "operation": described.kind(), "service": { "name": described.what() } },
        "resources": resources(event).iter().map(|it| json!({ "uid": it.uri, "name": it.system })).collect::<Vec<_>>(),
        "action": decision,
        "action_id": if decision == "DENY" { 2 } else { 1 },
        "status_id": if decision == "DENY" { 2 } else { 1 },
    });
    merge(&mut document, extra);
    document
}

fn detection(of: &FoundEntry, event: &v1::Event, decision: &v1::Decision, finding: &v1::Finding, origin: &str) -> Value {
    let mut document = base(of, event, DETECTION_FINDING, 2, 1, origin);
    let extra = json!({
        "severity_id": severity_id(finding.severity),
        "finding_info": {
            "uid": format!("{}:{}", of.entry.index, finding.rule_id),
            "title": finding.rule_id,
            "analytic": { "uid": finding.rule_id, "type_id": 1, "type": "Rule" },
            "created_time": of.entry.committed_unix_ns / 1_000_000,
        },
        "action": verdict(decision.verdict()),
        "evidences": [{ "data": { "entry_index": of.entry.index.to_string(), "leaf": of.leaf.to_string() } }],
    });
    merge(&mut document, extra);
    document
}

/// What both classes have.
fn base(of: &FoundEntry, event: &v1::Event, class_uid: u32, category_uid: u32, activity_id: u32, origin: &str) -> Value {
    let attribution = event.attribution.clone().unwrap_or_default();
    let (agent, initiator) = (attribution.agent.unwrap_or_default(), attribution.initiator.unwrap_or_default());
    let session = event.session.clone().unwrap_or_default();
    json!({
        "class_uid": class_uid,
        "category_uid": category_uid,
        "activity_id": activity_id,
        "type_uid": class_uid * 100 + activity_id,
        "time": of.entry.committed_unix_ns / 1_000_000,
        "metadata": {
            "version": OCSF_VERSION,
            "profiles": ["ai_operation"],
            "product": { "name": "Proofline", "vendor_name": "Proofline" },
            "log_name": origin,
            "uid": hex::encode(&event.event_id),
            "sequence": of.entry.index.to_string(),
            "tenant_uid": event.tenant_id,
        },
        "actor": { "user": { "uid": initiator.subject, "domain": initiator.issuer }, "session": { "uid": session.session_id } },
        "src_endpoint": { "name": agent.agent_id },
        "ai_agent": { "uid": agent.agent_id, "name": agent.name, "version": agent.version, "instance_uid": agent.instance_id },
        "unmapped": { "leaf": of.leaf.to_string(), "parent_session_id": session.parent_session_id },
    })
}

fn merge(document: &mut Value, extra: Value) {
    if let (Some(document), Value::Object(extra)) = (document.as_object_mut(), extra) {
        document.extend(extra);
    }
}

fn resources(of: &v1::Event) -> Vec<&v1::Resource> {
    match &of.body {
        Some(event::Body::ActionIntent(it)) => it.resources.iter().collect(),
        Some(event::Body::ActionOutcome(it)) => it.accesses.iter().filter_map(|access| access.resource.as_ref()).collect(),
        Some(event::Body::DataAccess(it)) => it.resource.iter().collect(),
        Some(event::Body::CredentialUsed(it)) => it.target.iter().collect(),
        _ => Vec::new(),
    }
}

/// 1 create, 2 read, 3 update, 4 delete, 99 other.
fn activity_id(of: &v1::Event) -> u32 {
    let verb = match &of.body {
        Some(event::Body::ActionIntent(it)) => it.verb(),
        Some(event::Body::DataAccess(it)) => it.verb(),
        _ => ActionVerb::Unspecified,
    };
    match verb {
        ActionVerb::Spawn => 1,
        ActionVerb::ResourceRead => 2,
        ActionVerb::ResourceWrite | ActionVerb::ConfigChange => 3,
        ActionVerb::ResourceDelete => 4,
        _ => 99,
    }
}

fn severity_id(of: i32) -> u32 {
    u32::try_from(of).ok().filter(|it| (1..=5).contains(it)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proofline_verifier::{LogEntry, LogHash, TreeHash as _};
    use prost::Message as _;

    #[test]
    fn an_event_with_a_finding_is_an_activity_and_a_detection() {
        let resource = v1::Resource { uri: "crm://7".to_owned(), ..Default::default() };
        let intent = v1::ActionIntent { verb: ActionVerb::ResourceDelete.into(), resources: vec![resource], ..Default::default() };
        let event = v1::Event { tenant_id: "acme".to_owned(), body: Some(event::Body::ActionIntent(intent)), ..Default::default() };
        let finding = v1::Finding { rule_id: "D02".to_owned(), severity: 4, ..Default::default() };
        let decision = v1::Decision { verdict: v1::Verdict::Deny.into(), findings: vec![finding], ..Default::default() };
        let recorded = v1::RecordedEvent { at: None, event: event.encode_to_vec().into() };
        let core = v1::EntryCore {
            index: 7,
            committed_unix_ns: 1_700_000_000_123_456_789,
            decision: Some(decision),
            body: Some(v1::entry_core::Body::Event(recorded)),
            ..Default::default()
        };
        let bytes = v1::Entry { core: core.encode_to_vec().into(), session_root: Vec::new() }.encode_to_vec();
        let found = FoundEntry { entry: LogEntry::parse(&bytes).unwrap(), leaf: LogHash::leaf(&bytes) };
        let events = events(&found, &Described::new(&bytes).unwrap(), "ledger.example/agents");
        assert_eq!(events.len(), 2);
        assert_eq!((&events[0]["type_uid"], &events[0]["time"]), (&600_304.into(), &1_700_000_000_123_u64.into()));
        assert_eq!(events[0]["resources"][0]["uid"], "crm://7");
        assert_eq!((&events[1]["class_uid"], &events[1]["severity_id"]), (&2004.into(), &4.into()));
        assert_eq!(events[1]["finding_info"]["title"], "D02");
    }
}
