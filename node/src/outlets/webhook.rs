//! Standard Webhooks: the payload of a change, and its headers with an Ed25519 signature (`v1a`).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use proofline_ledger::Waiting;
use proofline_proto::v1::{Containment, Target};
use serde::Serialize;

/// Bytes of targets in one payload: receivers are asked to take about 20 kB.
const TARGETS_BYTES_MAX: usize = 12 << 10;
/// What the frame of a target takes beside its names.
const TARGET_FRAME_BYTES: usize = 48;

#[derive(Serialize)]
struct Payload<'a> {
    r#type: String,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    origin: &'a str,
    entry_index: String,
    containment_id: String,
    change: String,
    action: String,
    targets: Vec<Named<'a>>,
    /// More are in the entry.
    targets_left_out: usize,
    cause_index: String,
    reason: &'a str,
    incident_id: &'a str,
    incomplete: bool,
    /// The outlet that could not deliver it; empty in a message of this outlet's own.
    escalated_from: &'a str,
}

#[derive(Serialize)]
struct Named<'a> {
    kind: String,
    tenant_id: &'a str,
    id: &'a str,
}

/// Returns the payload of a change as JSON: the same bytes whoever sends it, and however often.
pub(super) fn payload(origin: &str, of: &Waiting, change: &Containment) -> Result<String, String> {
    let short = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_ascii_lowercase();
    let kind = short(change.change().as_str_name(), "CONTAINMENT_CHANGE_");
    // A message that another outlet could not deliver is about one target of the change, when it says so.
    let told: Vec<&Target> = match &of.signal.target {
        Some(target) => vec![target],
        None => change.targets.iter().collect(),
    };
    let mut bytes = 0;
    let fitting = told.iter().take_while(|target| {
        bytes += target.tenant_id.len() + target.id.len() + TARGET_FRAME_BYTES;
        bytes <= TARGETS_BYTES_MAX
    });
    let named = |of: &&'_ Target| (short(of.kind().as_str_name(), "TARGET_KIND_"), of.tenant_id.clone(), of.id.clone());
    let fitting: Vec<_> = fitting.map(named).collect();
    let payload = Payload {
        r#type: format!("containment.{kind}"),
        timestamp: proofline_verifier::rfc3339_of_nanoseconds(of.committed.0),
        data: Data {
            origin,
            entry_index: of.entry.to_string(),
            containment_id: of.containment.to_string(),
            change: kind,
            action: short(change.action().as_str_name(), "CONTAINMENT_ACTION_"),
            targets: fitting.iter().map(|(kind, tenant_id, id)| Named { kind: kind.clone(), tenant_id, id }).collect(),
            targets_left_out: told.len() - fitting.len(),
            cause_index: change.cause_index.to_string(),
            reason: &change.reason,
            incident_id: &change.incident_id,
            incomplete: change.incomplete,
            escalated_from: &of.escalated_from,
        },
    };
    serde_json::to_string(&payload).map_err(|error| error.to_string())
}

/// Returns the headers of one attempt. Receivers compare the time with their clock, so it is that of the attempt.
pub(super) fn headers(key: &SigningKey, id: &str, unix_s: u64, payload: &str) -> [(&'static str, String); 3] {
    let signature = key.sign(format!("{id}.{unix_s}.{payload}").as_bytes());
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", unix_s.to_string()),
        ("webhook-signature", format!("v1a,{}", BASE64_STANDARD.encode(signature.to_bytes()))),
    ]
}
