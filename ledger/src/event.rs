//! What makes an event well-formed in itself, before any state is looked at.

mod lists;

use std::collections::BTreeSet;

use proofline_proto::v1;

use crate::limits::{ID_BYTES_MAX, KEY_NAME_BYTES_MAX};

/// Tells whether a text may name something: not empty, without control characters.
#[must_use]
pub(crate) fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID_BYTES_MAX && !has_control(text)
}

fn has_control(text: &str) -> bool {
    // Nearly every name is ASCII, where a control character is a byte.
    if text.is_ascii() { text.bytes().any(|byte| byte.is_ascii_control()) } else { text.chars().any(char::is_control) }
}

/// Tells whether a text may name a key of a log or of a node: as the verifier and C2SP have it, so that what is registered
/// can stand in a policy.
#[must_use]
pub(crate) fn is_key_name(text: &str) -> bool {
    let is_forbidden = |it: char| it.is_whitespace() || it.is_control() || it == '+';
    !text.is_empty() && text.len() <= KEY_NAME_BYTES_MAX && !text.contains(is_forbidden)
}

fn is_optional_identifier(text: &str) -> bool {
    text.is_empty() || is_identifier(text)
}

/// Checks that the lists of an event are short enough to be kept in memory.
///
/// # Errors
/// `TooManyValues`.
pub(crate) fn check_lists(event: &v1::Event) -> Result<(), v1::RejectionReason> {
    if lists::are_short(event) { Ok(()) } else { Err(v1::RejectionReason::TooManyValues) }
}

/// Checks form and attribution of an event.
///
/// # Errors
/// `Malformed` or `Unattributed`, as the entry of the refusal will say.
pub(crate) fn check(event: &v1::Event) -> Result<(), v1::RejectionReason> {
    if misformed(event).is_none() { check_attribution(event) } else { Err(v1::RejectionReason::Malformed) }
}

/// Names the first part of an event that is not formed as the contract says, with what it should be; `None` when all are. An id is
/// 1 to 256 bytes without control characters. The ledger records such an event as rejected, and says no more than that.
#[must_use]
pub fn misformed(event: &v1::Event) -> Option<&'static str> {
    let attribution = event.attribution.as_ref();
    let vantage = v1::Vantage::try_from(event.vantage);
    let parts = [
        ("event_id: 16 bytes", event.event_id.len() == 16),
        ("tenant_id: an id", is_identifier(&event.tenant_id)),
        ("vantage: one of the contract's", vantage.is_ok_and(|vantage| vantage != v1::Vantage::Unspecified)),
        ("the body: exactly one", event.body.is_some()),
        ("session: ids, and a parent event of 16 bytes or none", event.session.as_ref().is_none_or(is_well_formed_session)),
        ("payloads: a digest of 32 bytes and an algorithm each", event.payloads.iter().all(is_well_formed_commitment)),
        ("payloads: each digest once", is_each_content_named_once(&event.payloads)),
        (
            "attribution: ids of agent, instance and credential; initiator and delegation of known kinds",
            attribution.is_none_or(is_well_formed_attribution),
        ),
        ("ids in the body", event.body.as_ref().is_none_or(|body| names(body).into_iter().flatten().all(is_optional_identifier))),
    ];
    parts.into_iter().find(|(_, is_right)| !is_right).map(|(part, _)| part)
}

/// Returns what a body says of things that can be contained.
fn names(body: &v1::event::Body) -> [Option<&str>; 3] {
    use v1::event::Body;
    let one = |name| [name, None, None];
    match body {
        Body::ActionIntent(it) => one(it.tool.as_ref().map(|tool| tool.server_id.as_str())),
        Body::McpConnected(it) => one(Some(&it.server_id)),
        Body::ToolDefined(it) => one(Some(&it.server_id)),
        Body::CredentialUsed(it) => one(credential_id(it.credential.as_ref())),
        Body::CredentialIssued(it) => one(credential_id(it.credential.as_ref())),
        Body::SubAgentSpawned(it) => [Some(&it.child_session_id), Some(&it.child_agent_id), credential_id(it.child_credential.as_ref())],
        _ => one(None),
    }
}

fn credential_id(of: Option<&v1::Credential>) -> Option<&str> {
    of.map(|it| it.credential_id.as_str())
}

fn is_well_formed_session(session: &v1::SessionRef) -> bool {
    is_identifier(&session.session_id)
        && is_optional_identifier(&session.parent_session_id)
        && matches!(session.parent_event_id.len(), 0 | 16)
}

fn is_well_formed_commitment(payload: &v1::Commitment) -> bool {
    payload.digest.len() == 32
        && v1::CommitmentAlgorithm::try_from(payload.algorithm).is_ok_and(|it| it != v1::CommitmentAlgorithm::Unspecified)
}

/// A payload is found by entry and digest: committed to twice, for two subjects, it would outlive the erasure of one of them.
fn is_each_content_named_once(of: &[v1::Commitment]) -> bool {
    let mut seen = BTreeSet::new();
    of.len() < 2 || of.iter().all(|commitment| seen.insert(&commitment.digest))
}

fn is_well_formed_attribution(of: &v1::Attribution) -> bool {
    v1::UnattributedReason::try_from(of.unattributed).is_ok()
        && of.agent.as_ref().is_none_or(|agent| is_optional_identifier(&agent.agent_id) && is_optional_identifier(&agent.instance_id))
        && of.credential.as_ref().is_none_or(|it| is_optional_identifier(&it.credential_id))
        && of.initiator.as_ref().is_none_or(is_well_formed_principal)
        && of.delegation.iter().all(is_well_formed_hop)
}

fn is_well_formed_principal(principal: &v1::Principal) -> bool {
    v1::PrincipalKind::try_from(principal.kind).is_ok_and(|kind| kind != v1::PrincipalKind::Unspecified)
        && is_identifier(&principal.subject)
        && is_optional_identifier(&principal.issuer)
}

/// A hop that claims to be verified must name the recorded event that shows it.
fn is_well_formed_hop(hop: &v1::DelegationHop) -> bool {
    match v1::HopProof::try_from(hop.proof) {
        Ok(v1::HopProof::Verified) => hop.evidence_event_id.len() == 16,
        Ok(v1::HopProof::Asserted) => matches!(hop.evidence_event_id.len(), 0 | 16),
        Ok(v1::HopProof::Unspecified) | Err(_) => false,
    }
}

fn check_attribution(event: &v1::Event) -> Result<(), v1::RejectionReason> {
    let attribution = event.attribution.as_ref();
    if attribution.is_some_and(|it| it.unattributed() != v1::UnattributedReason::Unspecified) {
        return Ok(());
    }
    let is_attributed = event.session.is_some()
        && attribution.is_some_and(|it| it.initiator.is_some() && it.agent.as_ref().is_some_and(|agent| !agent.agent_id.is_empty()));
    if is_attributed { Ok(()) } else { Err(v1::RejectionReason::Unattributed) }
}
