use ed25519_dalek::SigningKey;
use proofline_ledger::{EntryIndex, UnixNanos};
use proofline_proto::v1::{ContainmentAction, ContainmentChange};

use serde_json::Value;

use super::*;

fn stream(form: SubjectForm) -> SharedSignals {
    SharedSignals {
        issuer: "https://ledger.example.com/".to_owned(),
        audience: "https://idp.example.com/ssf".to_owned(),
        endpoint: "https://idp.example.com/ssf/push".to_owned(),
        algorithm: SigningAlgorithm::Eddsa.into(),
        key_id: "ssf-1".to_owned(),
        subject_form: form.into(),
        authorization: 1,
    }
}

fn target(kind: TargetKind, id: &str) -> Target {
    Target { kind: kind.into(), tenant_id: "acme".to_owned(), id: id.to_owned() }
}

fn change() -> Containment {
    Containment {
        change: ContainmentChange::Began.into(),
        containment_id: 42,
        action: ContainmentAction::RevokeSession.into(),
        targets: vec![target(TargetKind::Session, "run-42"), target(TargetKind::Credential, "tok-7")],
        cause_index: 918_272,
        reason: "reads the payroll".to_owned(),
        incident_id: "4711".to_owned(),
        incomplete: false,
    }
}

fn waiting(signal: Signal) -> Waiting {
    Waiting {
        jti: "756e69717565206964656e7469666965".to_owned(),
        entry: EntryIndex(918_273),
        ordinal: 0,
        containment: 42,
        committed: UnixNanos(1_763_690_000_123_456_789),
        signal,
        is_escalated: false,
        escalated_from: String::new(),
        escalates_at: None,
    }
}

/// A message about a session of a person.
fn of_session(kind: SignalKind, about: Target) -> Waiting {
    waiting(Signal {
        kind: kind.into(),
        target: Some(about),
        principal_issuer: "https://idp.example.com/".to_owned(),
        principal_subject: "00u1".to_owned(),
        session_id: "run-42".to_owned(),
        agent_id: "billing-01".to_owned(),
    })
}

/// A message about something that is nobody's session.
fn alone(kind: SignalKind, about: Target, agent: &str) -> Waiting {
    waiting(Signal { kind: kind.into(), target: Some(about), agent_id: agent.to_owned(), ..Default::default() })
}

/// The exact bytes, with line breaks between members.
fn in_lines(json: &str) -> String {
    json.replace(",\"", ",\n\"")
}

fn shown(form: SubjectForm, of: &Waiting) -> String {
    in_lines(&claims(&stream(form), of, &change(), Initiator::Admin).unwrap())
}

#[test]
fn a_verification_is_about_the_stream_itself() {
    let of = Waiting { containment: 0, ..waiting(Signal { kind: SignalKind::Verification.into(), ..Default::default() }) };
    let said = verification(&stream(SubjectForm::Complex), "idp", &of, "try-1 \"\u{e9}\"").unwrap();
    let expected = r#"{"iss":"https://ledger.example.com/",
"jti":"756e69717565206964656e7469666965",
"iat":1763690000,
"aud":"https://idp.example.com/ssf",
"sub_id":{"format":"opaque",
"id":"idp"},
"events":{"https://schemas.openid.net/secevent/ssf/event-type/verification":{"state":"try-1 \"é\""}}}"#;
    assert_eq!(in_lines(&said), expected);
    let as_change = claims(
        &stream(SubjectForm::Simple),
        &Waiting { signal: Signal { target: Some(target(TargetKind::Session, "s")), ..of.signal.clone() }, ..of },
        &change(),
        Initiator::Admin,
    );
    assert!(as_change.is_err(), "{as_change:?}");
}

#[test]
fn a_revoked_session_is_said_like_this() {
    let of = of_session(SignalKind::SessionRevoked, target(TargetKind::Session, "run-42"));
    // The bytes themselves: every leader must write the same.
    insta::assert_snapshot!("simple_bytes", claims(&stream(SubjectForm::Simple), &of, &change(), Initiator::Policy).unwrap());
    insta::assert_snapshot!("complex", shown(SubjectForm::Complex, &of));
}

#[test]
fn credentials_are_said_like_this() {
    let token = target(TargetKind::Credential, "tok-7");
    insta::assert_snapshot!("narrowed", shown(SubjectForm::Simple, &of_session(SignalKind::TokenClaimsChange, token.clone())));
    insta::assert_snapshot!(
        "revoked_with_its_session",
        shown(SubjectForm::Simple, &of_session(SignalKind::CredentialChange, token.clone()))
    );
    insta::assert_snapshot!("revoked_by_itself", shown(SubjectForm::Simple, &alone(SignalKind::CredentialChange, token, "")));
}

#[test]
fn agents_instances_and_tenants_are_said_like_this() {
    let form = SubjectForm::Complex;
    insta::assert_snapshot!(
        "agent",
        shown(form, &alone(SignalKind::SessionRevoked, target(TargetKind::Agent, "billing-01"), "billing-01"))
    );
    let instance = target(TargetKind::AgentInstance, "billing-01/pod-7");
    insta::assert_snapshot!("instance", shown(form, &alone(SignalKind::SessionRevoked, instance, "billing-01")));
    insta::assert_snapshot!("tenant", shown(form, &alone(SignalKind::SessionRevoked, target(TargetKind::Tenant, ""), "")));
}

#[test]
fn the_same_claims_get_the_same_token() {
    let key = OutletKey::Ed25519(Box::new(SigningKey::from_bytes(&[7; 32])));
    let token = |claims: &str| sign(&stream(SubjectForm::Simple), &key, claims).unwrap();
    assert_eq!(token("{}"), token("{}"));
    let parts: Vec<String> = token("{}").split('.').map(str::to_owned).collect();
    let header = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(&parts[0]).unwrap()).unwrap();
    assert_eq!(header, r#"{"typ":"secevent+jwt","alg":"EdDSA","kid":"ssf-1"}"#);
    assert_eq!(parts.len(), 3);
}

#[test]
fn a_webhook_says_the_whole_change_and_stays_short() {
    let payload = super::super::webhook::payload("ledger.example/log", &waiting(Signal::default()), &change()).unwrap();
    insta::assert_snapshot!("webhook", in_lines(&payload));
    let many = Containment { targets: vec![target(TargetKind::Credential, &"x".repeat(256)); 64], ..change() };
    let payload = super::super::webhook::payload("ledger.example/log", &waiting(Signal::default()), &many).unwrap();
    let value: Value = serde_json::from_str(&payload).unwrap();
    assert!(payload.len() < 20_000, "{}", payload.len());
    assert_eq!(value["data"]["targets"].as_array().unwrap().len() + value["data"]["targets_left_out"].as_u64().unwrap() as usize, 64);
}
