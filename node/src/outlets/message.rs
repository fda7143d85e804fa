//! A message on its way out: built from the log and the files of this node, each time it is sent.

use proofline_ledger::{EntryIndex, Store, StoreFault, Waiting, outlets};
use proofline_proto::v1::{Command, Containment, Outlet, SharedSignals, SignalKind, command::Action, entry_core::Body, outlet::Kind};
use prost::Message as _;
use thiserror::Error;

use super::{
    OutletSettings,
    security_event::{self, Initiator},
    webhook,
};
use crate::post::Message;

/// Why a message cannot be sent from this node.
#[derive(Debug, Error)]
pub(super) enum NotSendable {
    #[error("{0}")]
    Unable(String),
    #[error(transparent)]
    Store(#[from] StoreFault),
}

impl Message {
    /// Builds and signs what an outlet is to be told.
    pub(super) fn compose(
        store: &impl Store,
        origin: &str,
        settings: &OutletSettings,
        outlet: &Outlet,
        of: &Waiting,
        unix_s: u64,
    ) -> Result<Self, NotSendable> {
        settings.check(outlet).map_err(NotSendable::Unable)?;
        let keys = settings.keys().map_err(NotSendable::Unable)?;
        match &outlet.kind {
            Some(Kind::SharedSignals(stream)) => {
                let key = keys.signing(&stream.key_id, stream.algorithm()).map_err(NotSendable::Unable)?;
                let claims = claims(store, outlet, stream, of)?;
                let body = security_event::sign(stream, &key, &claims).map_err(NotSendable::Unable)?;
                let mut headers = vec![("content-type", "application/secevent+jwt".to_owned()), ("accept", "application/json".to_owned())];
                let token = keys.token(outlet).map_err(NotSendable::Unable)?;
                headers.extend(token.map(|token| ("authorization", format!("Bearer {}", token.as_str()))));
                Ok(Self { endpoint: stream.endpoint.clone(), headers, body })
            }
            Some(Kind::Webhook(it)) => {
                let key = keys.ed25519(&it.key_id).map_err(NotSendable::Unable)?;
                let body = webhook::payload(origin, of, &change(store, of.entry)?).map_err(NotSendable::Unable)?;
                let mut headers = vec![("content-type", "application/json".to_owned())];
                headers.extend(webhook::headers(&key, &of.jti, unix_s, &body));
                Ok(Self { endpoint: it.endpoint.clone(), headers, body })
            }
            None => Err(NotSendable::Unable("the outlet is of no kind".to_owned())),
        }
    }
}

/// Says what a stream is told: a change of what is contained, or nothing but that it works.
fn claims(store: &impl Store, outlet: &Outlet, stream: &SharedSignals, of: &Waiting) -> Result<String, NotSendable> {
    let claims = if of.signal.kind() == SignalKind::Verification {
        security_event::verification(stream, &outlet.outlet_id, of, &verification_state(store, of.entry)?)
    } else {
        let change = change(store, of.entry)?;
        let by = initiator(store, EntryIndex(change.cause_index))?;
        security_event::claims(stream, of, &change, by)
    };
    claims.map_err(NotSendable::Unable)
}

/// Returns what an operator asked to have sent back.
fn verification_state(store: &impl Store, index: EntryIndex) -> Result<String, NotSendable> {
    let action = match outlets::core(store, index)?.and_then(|core| core.body) {
        Some(Body::Command(signed)) => Command::decode(signed.command.as_slice()).ok().and_then(|command| command.action),
        Some(_) | None => None,
    };
    match action {
        Some(Action::VerifyOutlet(it)) => Ok(it.state),
        Some(_) | None => Err(NotSendable::Unable(format!("entry {index} asks for no verification"))),
    }
}

fn change(store: &impl Store, index: EntryIndex) -> Result<Containment, NotSendable> {
    match outlets::core(store, index)?.and_then(|core| core.body) {
        Some(Body::Containment(change)) => Ok(change),
        Some(_) | None => Err(NotSendable::Unable(format!("entry {index} is no change of what is contained"))),
    }
}

/// A command is given by somebody; whatever else causes a change, the ledger made it by itself.
fn initiator(store: &impl Store, cause: EntryIndex) -> Result<Initiator, NotSendable> {
    Ok(match outlets::core(store, cause)?.and_then(|core| core.body) {
        Some(Body::Command(_)) => Initiator::Admin,
        Some(_) | None => Initiator::Policy,
    })
}
