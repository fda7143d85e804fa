use proofline_proto::v1;
use proofline_verifier::{EntryIndex, LogEntry};
use prost::Message as _;
use v1::entry_core::Body as EntryBody;
use v1::event::Body;

use super::*;

/// Commits bodies as a session would have them, one nanosecond apart.
fn entries(bodies: Vec<Body>) -> Vec<LogEntry> {
    let place = |index| v1::BatchPosition { collector_id: "gw".into(), lane: 1, epoch: 1, sequence: index + 1, offset: 0, count: 1 };
    let at = |(index, body)| {
        entry(index, EntryBody::Event(v1::RecordedEvent { at: Some(place(index)), event: event(index, body).encode_to_vec().into() }))
    };
    (0..).zip(bodies).map(at).collect()
}

fn event(index: u64, body: Body) -> v1::Event {
    v1::Event {
        event_id: vec![u8::try_from(index).unwrap(); 16],
        tenant_id: "acme".into(),
        vantage: v1::Vantage::GatewayObserved.into(),
        session: Some(v1::SessionRef { session_id: "run".into(), ..Default::default() }),
        attribution: Some(v1::Attribution {
            initiator: Some(v1::Principal { subject: "ann".into(), ..Default::default() }),
            agent: Some(v1::Agent { agent_id: "bot".into(), ..Default::default() }),
            credential: Some(credential("tok-1", &["mail.read"])),
            purpose_id: "refunds".into(),
            ..Default::default()
        }),
        body: Some(body),
        ..Default::default()
    }
}

fn entry(index: u64, body: EntryBody) -> LogEntry {
    let is_event = matches!(body, EntryBody::Event(_));
    let core = v1::EntryCore {
        index,
        committed_unix_ns: index,
        session: is_event.then(|| v1::SessionPosition { tenant_id: "acme".into(), session_id: "run".into(), position: index }),
        decision: is_event.then(|| v1::Decision { verdict: v1::Verdict::Allow.into(), rule_set_digest: vec![7; 32], ..Default::default() }),
        body: Some(body),
    };
    let session_root = if is_event { vec![1; 32] } else { Vec::new() };
    LogEntry::parse(&v1::Entry { core: core.encode_to_vec().into(), session_root }.encode_to_vec()).unwrap()
}

fn credential(id: &str, scopes: &[&str]) -> v1::Credential {
    v1::Credential {
        credential_id: id.into(),
        audience: format!("{id}.example"),
        scopes: scopes.iter().map(|it| (*it).to_owned()).collect(),
        ..Default::default()
    }
}

fn intent(tool: &str, uri: &str, tier: v1::RiskTier) -> Body {
    Body::ActionIntent(v1::ActionIntent {
        verb: v1::ActionVerb::ToolCall.into(),
        tool: Some(v1::Tool { name: tool.into(), tier: tier.into(), ..Default::default() }),
        resources: vec![v1::Resource { uri: uri.into(), system: "crm".into(), ..Default::default() }],
        ..Default::default()
    })
}

fn outcome(of: u8) -> Body {
    Body::ActionOutcome(v1::ActionOutcome {
        intent_event_id: vec![of; 16],
        status: v1::OutcomeStatus::Succeeded.into(),
        records: 3,
        ..Default::default()
    })
}

#[test]
fn an_explanation_has_every_link_or_names_the_absent_ones() {
    let session = entries(vec![
        Body::RunStarted(v1::RunStarted::default()),
        Body::IntentDeclared(v1::IntentDeclared { template: "refund the customer".into(), ..Default::default() }),
        Body::CredentialIssued(v1::CredentialIssued { credential: Some(credential("tok-1", &[])), ..Default::default() }),
        intent("refund", "crm://7", v1::RiskTier::Write),
        intent("lookup", "crm://8", v1::RiskTier::Read),
        outcome(3),
    ]);
    for asked in [3, 5] {
        let explained = explain(&session, EntryIndex(asked)).unwrap();
        let at: Vec<_> = explained.links.iter().map(|(name, found)| (*name, found.as_ref().map(|it| it.index.0))).collect();
        let whole = [
            (LinkName::Intent, Some(1)),
            (LinkName::PolicyDecision, Some(3)),
            (LinkName::Credential, Some(2)),
            (LinkName::Session, Some(0)),
            (LinkName::Action, Some(3)),
            (LinkName::Outcome, Some(5)),
        ];
        assert_eq!(at, whole, "asked about entry {asked}");
        assert_eq!(explained.absent().count(), 0);
    }
    let without: Vec<_> = explain(&session, EntryIndex(4)).unwrap().absent().collect();
    assert_eq!(without, [LinkName::Outcome]);
    let late: Vec<_> = explain(&session[3..], EntryIndex(3)).unwrap().absent().collect();
    assert_eq!(late, [LinkName::Intent], "no prompt stands before it");
    assert_eq!(explain(&session, EntryIndex(0)), Err(NotAnAction(EntryIndex(0))));
    assert_eq!(explain(&session, EntryIndex(99)), Err(NotAnAction(EntryIndex(99))));
}

#[test]
fn authority_adds_up_over_credentials_scopes_and_reach() {
    let session = entries(vec![
        Body::CredentialIssued(v1::CredentialIssued {
            credential: Some(credential("tok-2", &["mail.send", "files.read"])),
            ..Default::default()
        }),
        intent("refund", "crm://7", v1::RiskTier::Write),
        Body::SubAgentSpawned(v1::SubAgentSpawned { child_session_id: "child".into(), ..Default::default() }),
    ]);
    let authority = authority_of(&session);
    assert_eq!(authority.scopes.iter().map(String::as_str).collect::<Vec<_>>(), ["files.read", "mail.read", "mail.send"]);
    assert_eq!(authority.audiences.len(), 2);
    assert_eq!(authority.credentials["tok-1"].used, Some((EntryIndex(0), EntryIndex(2))));
    assert_eq!((authority.credentials["tok-2"].issued, authority.credentials["tok-2"].used), (Some(EntryIndex(0)), None));
    assert_eq!((authority.tools.len(), authority.systems.len(), authority.resources.len(), authority.spawned.len()), (1, 1, 1, 1));
}

#[test]
fn a_review_sets_granted_against_used() {
    let run = entries(vec![
        intent("refund", "crm://7", v1::RiskTier::Write),
        intent("wipe", "disk://1", v1::RiskTier::Destructive),
        intent("peek", "crm://9", v1::RiskTier::Read),
        Body::CredentialIssued(v1::CredentialIssued { credential: Some(credential("spare", &[])), ..Default::default() }),
    ]);
    let purpose = |id: &str, tools: &[&str], uris: &[&str]| v1::DeclarePurpose {
        purpose_id: id.into(),
        allowed_tools: tools.iter().map(|it| (*it).to_owned()).collect(),
        allowed_resources: uris.iter().map(|it| (*it).to_owned()).collect(),
        ..Default::default()
    };
    let declared = [purpose("refunds", &["refund", "mail"], &["crm://*", "mail://*"]), purpose("another", &["wipe"], &[])];
    let review = review_access(&run, &declared);
    assert_eq!(review.purposes, [("refunds".to_owned(), Declared::Yes)].into());
    assert_eq!(review.tools_not_used, ["mail".to_owned()].into());
    assert_eq!(review.resources_not_used, ["mail://*".to_owned()].into());
    assert_eq!(review.tools_not_granted, ["wipe", "peek"], "the riskiest first");
    assert_eq!(review.resources_not_granted, ["disk://1"]);
    assert_eq!(review.tools["wipe"].last, (EntryIndex(1), 1));
    assert_eq!(review.credentials_not_used, ["spare".to_owned()].into());
    let undeclared = review_access(&run, &[]);
    assert_eq!(undeclared.purposes, [("refunds".to_owned(), Declared::No)].into());
    assert_eq!(undeclared.tools_not_granted.len(), 3, "what nobody declared grants nothing");
}

#[test]
fn coverage_counts_what_is_attributed() {
    let mut nameless = event(1, Body::AgentSeen(v1::AgentSeen::default()));
    nameless.attribution = Some(v1::Attribution { unattributed: v1::UnattributedReason::IdentityWithheld.into(), ..Default::default() });
    let mut hops = event(2, outcome(9));
    hops.attribution.as_mut().unwrap().delegation = vec![v1::DelegationHop { proof: v1::HopProof::Asserted.into(), ..Default::default() }];
    let at =
        |(index, of): (u64, v1::Event)| entry(index, EntryBody::Event(v1::RecordedEvent { at: None, event: of.encode_to_vec().into() }));
    let mut log: Vec<_> = [(0, event(0, outcome(1))), (1, nameless), (2, hops)].into_iter().map(at).collect();
    log.push(entry(3, EntryBody::Rejection(v1::Rejection::default())));
    let coverage = coverage_of(&log);
    assert_eq!((coverage.events, coverage.attributed, coverage.with_credential, coverage.rejected), (3, 2, 2, 1));
    assert_eq!((coverage.delegation_asserted, coverage.delegation_verified), (1, 0));
    assert_eq!(coverage.unattributed, [(v1::UnattributedReason::IdentityWithheld, 1)].into());
}

#[test]
fn numbering_shows_gaps_silences_drops_and_miscounts() {
    let opened = EntryBody::LaneOpened(v1::LaneOpened { request: Some(v1::SignedOpenLane { lane: 1, ..Default::default() }), epoch: 1 });
    let at = |sequence| v1::BatchPosition { collector_id: "gw".into(), lane: 1, epoch: 1, sequence, offset: 0, count: 1 };
    let sent = |index, sequence, body| {
        entry(index, EntryBody::Event(v1::RecordedEvent { at: Some(at(sequence)), event: event(1, body).encode_to_vec().into() }))
    };
    let beat = |events, dropped| Body::Heartbeat(v1::Heartbeat { events_since_last: events, dropped_since_last: dropped });
    let log = vec![
        entry(0, opened),
        sent(1, 1, beat(0, 0)),
        sent(2, 2, outcome(1)),
        sent(3, 5, outcome(1)),
        sent(1_000, 6, beat(7, 4)),
        entry(1_001, EntryBody::LaneClosed(v1::LaneClosed { at: Some(v1::BatchPosition { count: 0, ..at(7) }) })),
    ];
    let numbering = numbering_of(&log, 500);
    let epoch = &numbering.epochs[&(1, 1)];
    assert_eq!((epoch.opened, epoch.batches, epoch.events, epoch.closed), (Some(EntryIndex(0)), 7, 4, true));
    assert_eq!(epoch.missing, [3, 4]);
    assert_eq!((numbering.heartbeats, numbering.dropped), (2, 4));
    assert_eq!(numbering.miscounted, [(EntryIndex(1_000), 7, 2)]);
    assert_eq!(numbering.silences, [(EntryIndex(3), EntryIndex(1_000), 997)]);
    let later = numbering_of(&log[3..4], 500);
    assert!(later.epochs[&(1, 1)].missing.is_empty(), "what came before the first entry is not missing");
}
