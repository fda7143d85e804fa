//! Security event tokens: what a message says in the terms of CAEP 1.0, and its signed form (RFC 8417, RFC 7515).

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use proofline_ledger::Waiting;
use proofline_proto::v1::{Containment, SharedSignals, Signal, SignalKind, SigningAlgorithm, SubjectForm, Target, TargetKind};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::keys::OutletKey;

const CAEP_EVENT_TYPES: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const SSF_EVENT_TYPES: &str = "https://schemas.openid.net/secevent/ssf/event-type/";
/// CAEP names no kind of credential that software has; transmitter and receiver may agree on one.
const CREDENTIAL_TYPE: &str = "agent-credential";

/// Who began a change, in the terms of CAEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Initiator {
    /// An operator's command.
    Admin,
    /// The ledger itself, by a rule or because a contained session showed something.
    Policy,
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    kid: &'a str,
}

/// The claims, in the order in which they are written: the bytes are the same whoever sends them.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    jti: &'a str,
    iat: u64,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    txn: Option<String>,
    sub_id: Subject<'a>,
    events: Events<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Subject<'a> {
    Simple(Member<'a>),
    Complex(Complex<'a>),
}

#[derive(Serialize)]
#[serde(tag = "format", rename_all = "snake_case")]
enum Member<'a> {
    IssSub { iss: &'a str, sub: &'a str },
    Opaque { id: String },
}

/// Its members name one subject together: a session of a principal, carried on by an application.
#[derive(Serialize)]
struct Complex<'a> {
    format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Member<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Member<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<Member<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Member<'a>>,
    tenant: Member<'a>,
}

/// Exactly one event, under its type.
struct Events<'a> {
    types: &'static str,
    name: &'static str,
    event: Said<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Change(Caep<'a>),
    /// Only that the stream works.
    Verification {
        state: &'a str,
    },
}

impl Serialize for Events<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut events = serializer.serialize_map(Some(1))?;
        events.serialize_entry(&format!("{}{}", self.types, self.name), &self.event)?;
        events.end()
    }
}

#[derive(Serialize)]
struct Reason {
    en: String,
}

/// What of a token has other values now, and which one it is.
#[derive(Serialize)]
struct TokenClaims<'a> {
    jti: &'a str,
    scope: &'static str,
}

#[derive(Serialize)]
struct Caep<'a> {
    event_timestamp: u64,
    initiating_entity: &'static str,
    reason_admin: Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<TokenClaims<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    change_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    friendly_name: Option<&'a str>,
}

/// Returns the claims of a message as JSON.
pub(super) fn claims(stream: &SharedSignals, of: &Waiting, change: &Containment, by: Initiator) -> Result<String, String> {
    let signal = &of.signal;
    let target = signal.target.as_ref().ok_or("the message is about nothing that a stream can name")?;
    let seconds = of.committed.0 / 1_000_000_000;
    let events = events(signal, target, of, change, by, seconds)?;
    let claims = Claims {
        iss: &stream.issuer,
        jti: &of.jti,
        iat: seconds,
        aud: &stream.audience,
        txn: Some(format!("ctn-{:012}", of.containment)),
        sub_id: subject(stream.subject_form(), signal, target),
        events,
    };
    serde_json::to_string(&claims).map_err(|error| error.to_string())
}

/// Returns the claims of a verification event of the framework (SSF 1.0): it is about the stream itself.
pub(super) fn verification(stream: &SharedSignals, stream_id: &str, of: &Waiting, state: &str) -> Result<String, String> {
    let claims = Claims {
        iss: &stream.issuer,
        jti: &of.jti,
        iat: of.committed.0 / 1_000_000_000,
        aud: &stream.audience,
        txn: None,
        sub_id: Subject::Simple(Member::Opaque { id: stream_id.to_owned() }),
        events: Events { types: SSF_EVENT_TYPES, name: "verification", event: Said::Verification { state } },
    };
    serde_json::to_string(&claims).map_err(|error| error.to_string())
}

fn events<'a>(
    signal: &Signal,
    target: &'a Target,
    of: &Waiting,
    change: &Containment,
    by: Initiator,
    event_timestamp: u64,
) -> Result<Events<'a>, String> {
    let bare = Caep {
        event_timestamp,
        initiating_entity: match by {
            Initiator::Admin => "admin",
            Initiator::Policy => "policy",
        },
        reason_admin: Reason { en: format!("{} (containment {}, entry {})", change.reason, of.containment, of.entry) },
        claims: None,
        credential_type: None,
        change_type: None,
        friendly_name: None,
    };
    let (name, event) = match signal.kind() {
        SignalKind::SessionRevoked => ("session-revoked", bare),
        // The token of that id is good for nothing while its session is suspended.
        SignalKind::TokenClaimsChange => {
            let claims = Some(TokenClaims { jti: &target.id, scope: "" });
            ("token-claims-change", Caep { claims, ..bare })
        }
        SignalKind::CredentialChange => {
            let (credential_type, change_type) = (Some(CREDENTIAL_TYPE), Some("revoke"));
            ("credential-change", Caep { credential_type, change_type, friendly_name: Some(&target.id), ..bare })
        }
        SignalKind::ContainmentChange | SignalKind::Verification | SignalKind::Unspecified => {
            return Err("the message is about no change that a stream is told of".to_owned());
        }
    };
    Ok(Events { types: CAEP_EVENT_TYPES, name, event: Said::Change(event) })
}

fn subject<'a>(form: SubjectForm, signal: &'a Signal, target: &'a Target) -> Subject<'a> {
    let opaque = |id: &str| Member::Opaque { id: id.to_owned() };
    let user = (!signal.principal_issuer.is_empty() && !signal.principal_subject.is_empty())
        .then(|| Member::IssSub { iss: &signal.principal_issuer, sub: &signal.principal_subject });
    let is_of_session = !signal.session_id.is_empty();
    match (form, user) {
        // Nobody knows whose it is: it is named by its own id.
        _ if target.kind() == TargetKind::Credential && !is_of_session => Subject::Simple(opaque(&target.id)),
        (SubjectForm::Simple, Some(user)) => Subject::Simple(user),
        (SubjectForm::Simple | SubjectForm::Complex | SubjectForm::Unspecified, user) => Subject::Complex(Complex {
            format: "complex",
            session: is_of_session.then(|| opaque(&signal.session_id)),
            user,
            application: (!signal.agent_id.is_empty()).then(|| opaque(&format!("agent:{}", signal.agent_id))),
            device: (target.kind() == TargetKind::AgentInstance).then(|| opaque(&target.id)),
            tenant: opaque(&target.tenant_id),
        }),
    }
}

/// Signs claims as a compact JWS.
pub(super) fn sign(stream: &SharedSignals, key: &OutletKey, claims: &str) -> Result<String, String> {
    let alg = match stream.algorithm() {
        SigningAlgorithm::Rs256 => "RS256",
        SigningAlgorithm::Eddsa => "EdDSA",
        SigningAlgorithm::Unspecified => return Err("the stream names no algorithm".to_owned()),
    };
    let header = Header { typ: "secevent+jwt", alg, kid: &stream.key_id };
    let header = serde_json::to_string(&header).map_err(|error| error.to_string())?;
    let signed = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}

#[cfg(test)]
mod tests;
