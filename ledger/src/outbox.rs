//! The outbox: what apply leaves for the leader to send, and the results that come back as entries.
//!
//! Always true: what stands in the outbox follows from the entries; a message leaves it with the entry that says what became
//! of it. Nothing is sent here.

use proofline_proto::v1;
use sha2::{Digest as _, Sha256};
use v1::entry_core::Body;
use v1::outlet::Kind;
use v1::{ContainmentAction, ContainmentChange, DeliveryResult, SignalKind, SubjectForm, TargetKind};

use crate::ids::{EntryIndex, UnixNanos};
use crate::key;
use crate::ledger::{Judged, Ledger};
use crate::limits::OUTBOX_MAX;
use crate::log::Draft;
use crate::outlet;
use crate::prepare::PreparedDelivery;
use crate::refusal::Refusal;
use crate::registry;
use crate::row::{CaseRow, OutboxRow, OutletRow};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// Returns the id of a message: the same whichever node sends it, and however often.
#[must_use]
pub fn message_id(origin: &str, entry: EntryIndex, outlet: &str, ordinal: u32) -> String {
    let mut input = key::text(origin);
    input.extend_from_slice(&key::entry(entry));
    key::push_text(&mut input, outlet);
    input.extend_from_slice(&ordinal.to_be_bytes());
    let digest = Sha256::digest(&input);
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Puts the messages about a change, which becomes entry `index`, where every outlet of the tenant will find them.
pub(crate) fn enqueue<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    change: &v1::Containment,
    index: EntryIndex,
) -> Result<(), StoreFault> {
    let case: CaseRow = writes.read(Table::ContainmentCases, &change.containment_id.to_be_bytes())?.unwrap_or_default();
    let Some(main) = case.targets.first() else { return Ok(()) };
    for (_, mut row) in outlet::all(writes)? {
        let Some(of) = row.outlet.clone().filter(|of| is_told(of, main)) else { continue };
        let before = row.clone();
        let about = About::new(ledger, writes, main)?;
        let waiting = OutboxRow {
            containment_id: change.containment_id,
            change: change.change,
            committed_unix_ns: ledger.log.now().0,
            ..OutboxRow::default()
        };
        for (ordinal, said) in (0..).zip(signals(&of, change, main, &about)) {
            let mut waiting = waiting.clone();
            match said {
                Said::Here(signal) => {
                    waiting.signal = Some(signal);
                    put(writes, &mut row, index, ordinal, &waiting);
                }
                Said::Elsewhere(signal) => {
                    waiting.signal = Some(signal);
                    row.not_addressable += 1;
                    if is_webhook(outlet::find(writes, &of.escalate_to)?.as_ref()) {
                        pass_on(writes, &of, index, ordinal, &waiting)?;
                    }
                }
            }
        }
        if row != before {
            writes.put(Table::Outlets, key::text(&of.outlet_id), &row);
            ledger.outlet_generation += 1;
        }
    }
    Ok(())
}

/// A webhook can speak of anything; another stream of the same form could not name the subject either.
fn is_webhook(row: Option<&OutletRow>) -> bool {
    matches!(row.and_then(|row| row.outlet.as_ref()).and_then(|outlet| outlet.kind.as_ref()), Some(Kind::Webhook(_)))
}

fn is_told(outlet: &v1::Outlet, main: &v1::Target) -> bool {
    !outlet.escalations_only && (outlet.tenant_id == "*" || main.tenant_id == "*" || outlet.tenant_id == main.tenant_id)
}

fn put<S: Store>(writes: &mut Writes<'_, S>, of: &mut OutletRow, index: EntryIndex, ordinal: u32, row: &OutboxRow) {
    if of.pending >= OUTBOX_MAX {
        of.dropped += 1;
        return;
    }
    of.pending += 1;
    writes.put(Table::Outbox, key::outbox(of.id(), index, ordinal), row);
}

/// Puts a verification event, which says nothing but that the stream works, where its outlet will find it.
pub(crate) fn put_verification<S: Store>(ledger: &Ledger, writes: &mut Writes<'_, S>, of: &mut OutletRow, index: EntryIndex) {
    let signal = v1::Signal { kind: SignalKind::Verification.into(), ..v1::Signal::default() };
    let waiting = OutboxRow { committed_unix_ns: ledger.log.now().0, signal: Some(signal), ..OutboxRow::default() };
    put(writes, of, index, 0, &waiting);
}

/// Forgets what waits for an outlet.
pub(crate) fn forget<S: Store>(writes: &mut Writes<'_, S>, outlet: &str) -> Result<(), StoreFault> {
    let limit = usize::try_from(OUTBOX_MAX).unwrap_or(usize::MAX);
    for key in writes.below(Table::Outbox, &key::text(outlet), limit)?.into_keys() {
        writes.remove(Table::Outbox, key);
    }
    Ok(())
}

/// Whom a containment is about, as far as the ledger knows.
#[derive(Default)]
struct About {
    issuer: String,
    subject: String,
    session: String,
    agent: String,
}

impl About {
    fn new<S: Store>(ledger: &mut Ledger, writes: &Writes<'_, S>, main: &v1::Target) -> Result<Self, StoreFault> {
        Ok(match main.kind() {
            TargetKind::Session => {
                let session = ledger.sessions.find(writes, &key::scoped(&main.tenant_id, &main.id))?;
                let agent = session.as_ref().map_or_else(String::new, |session| session.agent().to_owned());
                let initiator = session.and_then(|session| session.initiator().cloned()).unwrap_or_default();
                Self { issuer: initiator.issuer, subject: initiator.subject, session: main.id.clone(), agent }
            }
            TargetKind::Agent => Self { agent: main.id.clone(), ..Self::default() },
            TargetKind::AgentInstance => {
                let agent = main.id.split_once('/').map_or("", |(agent, _)| agent);
                Self { agent: agent.to_owned(), ..Self::default() }
            }
            TargetKind::Credential | TargetKind::Server | TargetKind::Tenant | TargetKind::Unspecified => Self::default(),
        })
    }

    fn has_principal(&self) -> bool {
        !self.issuer.is_empty() && !self.subject.is_empty()
    }

    fn signal(&self, kind: SignalKind, target: Option<&v1::Target>) -> v1::Signal {
        v1::Signal {
            kind: kind.into(),
            target: target.cloned(),
            principal_issuer: self.issuer.clone(),
            principal_subject: self.subject.clone(),
            session_id: self.session.clone(),
            agent_id: self.agent.clone(),
        }
    }
}

/// Where something about a change can be said.
enum Said {
    /// By the outlet itself.
    Here(v1::Signal),
    /// Not in the form of the outlet: where it would escalate to.
    Elsewhere(v1::Signal),
}

/// Returns what is to be said of a change, in the order of its targets.
fn signals(outlet: &v1::Outlet, change: &v1::Containment, main: &v1::Target, about: &About) -> Vec<Said> {
    let form = match &outlet.kind {
        Some(Kind::Webhook(_)) => return vec![Said::Here(about.signal(SignalKind::ContainmentChange, None))],
        // What an identity provider revoked it does not give back by itself.
        Some(Kind::SharedSignals(_)) if change.change() == ContainmentChange::Released => return Vec::new(),
        Some(Kind::SharedSignals(stream)) => stream.subject_form(),
        None => return Vec::new(),
    };
    let said = change.targets.iter().filter_map(|target| {
        let signal = about.signal(signal_kind(change.action(), target, main)?, Some(target));
        Some(if is_addressable(form, target, main, about) { Said::Here(signal) } else { Said::Elsewhere(signal) })
    });
    said.collect()
}

/// Returns the event that says what a containment did to one of its targets; nothing for what identity providers do not know.
fn signal_kind(action: ContainmentAction, target: &v1::Target, main: &v1::Target) -> Option<SignalKind> {
    match target.kind() {
        // The same for a suspension: there is no event for one, and a session that is not ended goes on.
        TargetKind::Session | TargetKind::Agent | TargetKind::Tenant => Some(SignalKind::SessionRevoked),
        // Drawn in with its session, an instance is no more than its credentials are.
        TargetKind::AgentInstance => (target == main).then_some(SignalKind::SessionRevoked),
        TargetKind::Credential => Some(match action {
            // To be lifted again: the credential stays, and what it allows is nothing.
            ContainmentAction::SuspendSession => SignalKind::TokenClaimsChange,
            ContainmentAction::Unspecified
            | ContainmentAction::RevokeSession
            | ContainmentAction::RevokeCredential
            | ContainmentAction::QuarantineAgent
            | ContainmentAction::BlockServer
            | ContainmentAction::HaltAgents => SignalKind::CredentialChange,
        }),
        TargetKind::Server | TargetKind::Unspecified => None,
    }
}

fn is_addressable(form: SubjectForm, target: &v1::Target, main: &v1::Target, about: &About) -> bool {
    match form {
        SubjectForm::Complex => true,
        SubjectForm::Simple | SubjectForm::Unspecified => match target.kind() {
            // By its own name when it is not known whose it is.
            TargetKind::Credential => target == main || about.has_principal(),
            TargetKind::Session => about.has_principal(),
            TargetKind::Agent | TargetKind::AgentInstance | TargetKind::Server | TargetKind::Tenant | TargetKind::Unspecified => false,
        },
    }
}

/// Records what became of a message, once. A result that is recorded already changes nothing.
pub(crate) fn deliver<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, prepared: &PreparedDelivery) -> Judged<EntryIndex> {
    let it = &prepared.delivery;
    if let Err(refusal) = registry::check_node(writes, it.node_id, &it.public_key)? {
        return Ok(Err(refusal));
    }
    let Some(mut of) = outlet::find(writes, &it.outlet_id)? else { return Ok(Err(outlet::unknown(&it.outlet_id))) };
    let at = key::outbox(&it.outlet_id, EntryIndex(it.entry_index), it.ordinal);
    let Some(mut waiting) = writes.read::<OutboxRow>(Table::Outbox, &at)? else {
        return Ok(Err(Refusal::AlreadyDone { what: "message", name: it.jti.clone(), state: "settled" }));
    };
    let id = message_id(&ledger.log.origin, EntryIndex(it.entry_index), &it.outlet_id, it.ordinal);
    if it.jti != id || it.containment_id != waiting.containment_id {
        return Ok(Err(Refusal::Malformed("the delivery names another message")));
    }
    let index = ledger.log.next();
    if let Err(refusal) = settle(ledger, writes, it, &mut of, &mut waiting)? {
        return Ok(Err(refusal));
    }
    match it.result() {
        DeliveryResult::Delivered | DeliveryResult::DeadLetter => {
            of.pending = of.pending.saturating_sub(1);
            writes.remove(Table::Outbox, at);
        }
        DeliveryResult::Escalated => writes.put(Table::Outbox, at, &waiting),
        DeliveryResult::Paused | DeliveryResult::Disabled | DeliveryResult::Unspecified => (),
    }
    of.last_index = index.0;
    writes.put(Table::Outlets, key::text(&it.outlet_id), &of);
    if it.containment_id != 0 {
        writes.keep(Table::AfterContainment, key::after_containment(it.containment_id, index), Vec::new());
    }
    writes.keep(Table::Deliveries, key::delivery(&it.outlet_id, index), Vec::new());
    ledger.outlet_generation += 1;
    Ok(Ok(ledger.log.append(writes, Draft::of(Body::OutletDelivery(it.clone())))))
}

/// Does what a result means for its outlet and, when it goes on from there, for another one.
fn settle<S: Store>(
    ledger: &Ledger,
    writes: &mut Writes<'_, S>,
    it: &v1::OutletDelivery,
    of: &mut OutletRow,
    waiting: &mut OutboxRow,
) -> Judged<()> {
    let state = match it.result() {
        DeliveryResult::Delivered => return Ok(Ok(())),
        DeliveryResult::DeadLetter => {
            // Given up here: whoever is there for that case hears of it now, not when the time is over.
            escalate(writes, it, of, waiting)?;
            return Ok(Ok(()));
        }
        DeliveryResult::Escalated => return escalate_late(ledger, writes, it, of, waiting),
        DeliveryResult::Paused => v1::OutletState::Paused,
        DeliveryResult::Disabled => v1::OutletState::Disabled,
        DeliveryResult::Unspecified => return Ok(Err(Refusal::Malformed("the delivery has no result"))),
    };
    if of.state() != v1::OutletState::Active {
        return Ok(Err(Refusal::AlreadyDone { what: "outlet", name: it.outlet_id.clone(), state: "paused or disabled" }));
    }
    of.set_state(state);
    of.state_by = ledger.log.next().0;
    Ok(Ok(()))
}

/// Passes on what was not acknowledged in time.
fn escalate_late<S: Store>(
    ledger: &Ledger,
    writes: &mut Writes<'_, S>,
    it: &v1::OutletDelivery,
    of: &OutletRow,
    waiting: &mut OutboxRow,
) -> Judged<()> {
    let due = of.outlet.as_ref().and_then(|outlet| escalation_due(outlet, waiting));
    if waiting.escalated {
        return Ok(Err(Refusal::AlreadyDone { what: "message", name: it.jti.clone(), state: "escalated" }));
    }
    if due.is_none_or(|due| due > ledger.log.now()) {
        return Ok(Err(Refusal::Malformed("the message is not due to be escalated")));
    }
    Ok(match escalate(writes, it, of, waiting)? {
        Escalation::Passed => Ok(()),
        Escalation::Nowhere => Err(Refusal::Malformed("the outlet has nowhere to escalate to")),
    })
}

/// When a message is passed on unless it was acknowledged; never, where its outlet has nowhere to pass it on to, for releases,
/// and for verifications, which are about one stream.
pub(crate) fn escalation_due(outlet: &v1::Outlet, waiting: &OutboxRow) -> Option<UnixNanos> {
    let is_verification = waiting.signal.as_ref().is_some_and(|it| it.kind() == SignalKind::Verification);
    if outlet.escalate_to.is_empty() || waiting.escalated || is_verification || waiting.change() == ContainmentChange::Released {
        return None;
    }
    Some(UnixNanos(waiting.committed_unix_ns.saturating_add(u64::from(outlet.escalate_after_s) * 1_000_000_000)))
}

/// Whether a message went on to another outlet.
enum Escalation {
    Passed,
    Nowhere,
}

fn escalate<S: Store>(
    writes: &mut Writes<'_, S>,
    it: &v1::OutletDelivery,
    of: &OutletRow,
    waiting: &mut OutboxRow,
) -> Result<Escalation, StoreFault> {
    let Some(from) = of.outlet.as_ref().filter(|from| escalation_due(from, waiting).is_some()) else { return Ok(Escalation::Nowhere) };
    let passed = pass_on(writes, from, EntryIndex(it.entry_index), it.ordinal, waiting)?;
    waiting.escalated = matches!(passed, Escalation::Passed);
    Ok(passed)
}

/// Puts a message where its outlet escalates to, unless it is there already.
fn pass_on<S: Store>(
    writes: &mut Writes<'_, S>,
    from: &v1::Outlet,
    index: EntryIndex,
    ordinal: u32,
    waiting: &OutboxRow,
) -> Result<Escalation, StoreFault> {
    let to = if from.escalate_to.is_empty() { None } else { outlet::find(writes, &from.escalate_to)? };
    let Some(mut to) = to.filter(|to| to.outlet.as_ref().is_some_and(|target| outlet::can_take(target, from))) else {
        return Ok(Escalation::Nowhere);
    };
    if writes.bytes(Table::Outbox, &key::outbox(&from.escalate_to, index, ordinal))?.is_none() {
        let passed = OutboxRow { escalated_from: from.outlet_id.clone(), ..waiting.clone() };
        put(writes, &mut to, index, ordinal, &passed);
        writes.put(Table::Outlets, key::text(&from.escalate_to), &to);
    }
    Ok(Escalation::Passed)
}
