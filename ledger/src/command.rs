//! What operators change: every command is signed, fresh, used once, and stands in the log with its exact bytes.

use proofline_proto::v1;
use v1::command::Action;
use v1::entry_core::Body;

use crate::activation;
use crate::approvals;
use crate::containment;
use crate::erasure::{self, Asked};
use crate::event::{is_identifier, is_key_name};
use crate::facts;
use crate::ids::{EntryIndex, UnixNanos};
use crate::incidents;
use crate::key;
use crate::ledger::{Judged, Ledger};
use crate::lifecycle;
use crate::limits::{APPLY_VERSION, COMMAND_LIFE_MAX_NS, ORIGIN_BYTES_MAX, SIGNER_ID_BYTES_MAX};
use crate::log::{Draft, InSession};
use crate::outlet;
use crate::prepare::PreparedCommand;
use crate::refusal::Refusal;
use crate::registry;
use crate::row::{NodeRow, OperatorRow};
use crate::signed::is_strong_key;
use crate::store::{Direction, KeyRange, Store, StoreFault, Table};
use crate::writes::Writes;

/// Nonces that one command removes at most, once their commands have expired.
const EXPIRED_NONCES_MAX: usize = 256;

/// How many operators must sign a command, and in which role.
#[derive(Clone, Copy)]
pub(crate) struct Authority {
    role: v1::OperatorRole,
    signers: usize,
}

/// The authority that a command needs: two persons where the command decides who holds authority.
pub(crate) fn authority(action: &Action) -> Authority {
    use v1::OperatorRole::{Registrar, Responder};
    match action {
        Action::RegisterOperator(_)
        | Action::RevokeOperator(_)
        | Action::RegisterNode(_)
        | Action::RetireNode(_)
        | Action::ActivateRules(_) => Authority { role: Registrar, signers: 2 },
        // What leaves the ledger, and what stops to leave it.
        Action::RegisterOutlet(_) | Action::RemoveOutlet(_) => Authority { role: Registrar, signers: 2 },
        Action::ResumeOutlet(_) | Action::VerifyOutlet(_) => Authority { role: Registrar, signers: 1 },
        // What is gone for good, and what goes by itself.
        Action::EraseSubject(_) | Action::SetRetention(_) => Authority { role: Registrar, signers: 2 },
        Action::RegisterCollector(_)
        | Action::RevokeCollector(_)
        | Action::RegisterAgent(_)
        | Action::RevokeAgent(_)
        | Action::GrantRole(_)
        | Action::RevokeRole(_)
        | Action::DeclarePurpose(_)
        | Action::RegisterServer(_)
        | Action::PinTool(_)
        // Two, where the agent is suspended: its row knows.
        | Action::ChangeAgentState(_) => Authority { role: Registrar, signers: 1 },
        Action::SealSession(_)
        | Action::Contain(_)
        | Action::ResolveApproval(_)
        | Action::WithdrawApproval(_)
        | Action::OpenIncident(_)
        | Action::AdvanceIncident(_)
        | Action::PlaceHold(_) => Authority { role: Responder, signers: 1 },
        Action::Release(_) | Action::ReleaseHold(_) => Authority { role: Responder, signers: 2 },
    }
}

/// Returns the role that every signer of a command needs.
pub(crate) fn needed_role(action: &Action) -> v1::OperatorRole {
    authority(action).role
}

/// Carries out a command, or answers why not. A refused command changes nothing.
pub(crate) fn apply<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, command: &PreparedCommand) -> Judged<EntryIndex> {
    let signed = &command.signed;
    let now = ledger.log.now();
    let nonce = key::command_nonce(UnixNanos(signed.expires_unix_ns), &signed.nonce);
    if let Some(at) = writes.bytes(Table::CommandNonces, &nonce)? {
        let at = at.as_slice().try_into().map(u64::from_be_bytes);
        let at = at.map(EntryIndex).map_err(|_| StoreFault::Damaged { table: Table::CommandNonces, key: nonce })?;
        let deferred = erasure::deferred_by(ledger, writes, &command.action, at)?;
        return Ok(Err(deferred.unwrap_or(Refusal::CommandReplayed { at })));
    }
    if let Err(refusal) = check_life(now, signed.expires_unix_ns) {
        return Ok(Err(refusal));
    }
    let signers = match check_authority(writes, command)? {
        Ok(signers) => signers,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let index = ledger.log.next();
    let effect = match &command.action {
        Action::SealSession(seal) => return seal_session(ledger, writes, command, seal, nonce),
        Action::Contain(it) => containment::contain(ledger, writes, it, index)?,
        Action::Release(it) => containment::release(ledger, writes, it, index)?,
        Action::RegisterOutlet(it) => outlet::register(ledger, writes, it.outlet.as_ref(), index)?,
        Action::RemoveOutlet(it) => outlet::remove(ledger, writes, it)?,
        Action::ResumeOutlet(it) => outlet::resume(ledger, writes, it, index)?,
        Action::VerifyOutlet(it) => outlet::verify(ledger, writes, it, index)?,
        Action::ActivateRules(it) => activation::activate(ledger, writes, it, index),
        Action::OpenIncident(it) => incidents::open(writes, it, index, now)?,
        Action::AdvanceIncident(it) => incidents::advance(writes, it, index, now)?,
        Action::PlaceHold(it) => incidents::place(ledger, writes, it, index),
        Action::ReleaseHold(it) => incidents::release(writes, it, index)?,
        Action::ChangeAgentState(it) => lifecycle::change(ledger, writes, it, signers)?,
        Action::EraseSubject(it) => match erasure::erase(ledger, writes, it, index, now)? {
            Ok(Asked::Granted) => Ok(()),
            Ok(Asked::Deferred(hold)) => {
                record(writes, command, index, nonce, now)?;
                return Ok(Err(erasure::defer(ledger, writes, command, hold)));
            }
            Err(refusal) => Err(refusal),
        },
        Action::SetRetention(it) => erasure::retain(writes, it, index),
        Action::ResolveApproval(it) => approvals::resolve(writes, it, signed, index, now)?,
        Action::WithdrawApproval(it) => approvals::withdraw(writes, it, index, now)?,
        Action::PinTool(it) => facts::pin(writes, it)?,
        action => registry::apply(writes, action, index, now)?,
    };
    if let Err(refusal) = effect {
        return Ok(Err(refusal));
    }
    record(writes, command, index, nonce, now)?;
    let body = Body::Command(signed.clone());
    Ok(Ok(ledger.log.append(writes, Draft::of(body))))
}

fn check_life(now: UnixNanos, expires: u64) -> Result<(), Refusal> {
    if expires <= now.0 {
        Err(Refusal::CommandExpired)
    } else if expires - now.0 > COMMAND_LIFE_MAX_NS {
        Err(Refusal::CommandLivesTooLong)
    } else {
        Ok(())
    }
}

/// Checks who signed, and returns how many different keys did.
fn check_authority<S: Store>(writes: &Writes<'_, S>, command: &PreparedCommand) -> Judged<usize> {
    let needed = authority(&command.action);
    let mut signers = std::collections::BTreeSet::new();
    for one in &command.signed.signatures {
        let row = writes.read::<OperatorRow>(Table::Operators, &key::text(&one.operator_id))?;
        let key = row.filter(|row| row.revoked_at.is_none()).and_then(|row| row.key);
        let Some(key) = key.filter(|key| key.public_key == one.public_key) else {
            return Ok(Err(Refusal::UnknownOperator(one.operator_id.clone())));
        };
        if !key.roles.contains(&needed.role.into()) {
            return Ok(Err(Refusal::OperatorLacksRole { operator: one.operator_id.clone() }));
        }
        signers.insert(key.public_key);
    }
    Ok(if signers.len() < needed.signers { Err(Refusal::SecondOperatorNeeded) } else { Ok(signers.len()) })
}

/// Takes note of the nonce and of what the command is about, and forgets nonces that can no longer be used.
fn record<S: Store>(
    writes: &mut Writes<'_, S>,
    command: &PreparedCommand,
    index: EntryIndex,
    nonce: Vec<u8>,
    now: UnixNanos,
) -> Result<(), StoreFault> {
    forget_expired(writes, now)?;
    writes.put_bytes(Table::CommandNonces, nonce, index.0.to_be_bytes().to_vec());
    if let Some(subject) = registry::subject(&command.action) {
        writes.keep(Table::Commands, key::command(&subject, index), Vec::new());
    }
    Ok(())
}

/// Removes nonces of commands that have expired: the oldest first, and the same ones however commands are grouped.
fn forget_expired<S: Store>(writes: &mut Writes<'_, S>, now: UnixNanos) -> Result<(), StoreFault> {
    let range = KeyRange { from: &[], to: &key::command_nonce(UnixNanos(now.0.saturating_add(1)), &[]) };
    let removed = writes.removed(Table::CommandNonces);
    let rows = writes.store().scan(Table::CommandNonces, range, Direction::Ascending, EXPIRED_NONCES_MAX + removed.len())?;
    for row in rows.into_iter().filter(|row| !removed.contains(&row.key)).take(EXPIRED_NONCES_MAX) {
        writes.remove(Table::CommandNonces, row.key);
    }
    Ok(())
}

/// Seals a session: the seal is its last entry, and its position is the number of entries before it.
fn seal_session<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    command: &PreparedCommand,
    seal: &v1::SealSession,
    nonce: Vec<u8>,
) -> Judged<EntryIndex> {
    let (index, now) = (ledger.log.next(), ledger.log.now());
    let Some(session) = ledger.sessions.grow(writes, &key::scoped(&seal.tenant_id, &seal.session_id))? else {
        return Ok(Err(Refusal::UnknownSubject { what: "session", name: seal.session_id.clone() }));
    };
    if session.is_sealed() {
        return Ok(Err(Refusal::AlreadyDone { what: "session", name: seal.session_id.clone(), state: "sealed" }));
    }
    session.seal(index);
    record(writes, command, index, nonce, now)?;
    let session = InSession { tenant: &seal.tenant_id, id: &seal.session_id, session };
    let body = Body::Command(command.signed.clone());
    Ok(Ok(ledger.log.append(writes, Draft { session: Some(session), ..Draft::of(body) })))
}

/// Checks the first entry: a name, strong keys that differ, two registrars, and at least one node.
///
/// # Errors
/// [`Refusal`]: what is wrong with it. No ledger begins with it.
pub fn check_genesis(genesis: &v1::Genesis) -> Result<(), Refusal> {
    if !is_key_name(&genesis.origin) || genesis.origin.len() > ORIGIN_BYTES_MAX {
        return Err(Refusal::Malformed("the origin is empty or too long, or has white space, a plus sign or control characters"));
    }
    if genesis.apply_version != APPLY_VERSION {
        return Err(Refusal::Malformed("the genesis names another apply version"));
    }
    let registrars = genesis.operators.iter().filter(|it| it.roles.contains(&v1::OperatorRole::Registrar.into())).count();
    if registrars < 2 {
        return Err(Refusal::LastRegistrars);
    }
    if genesis.nodes.is_empty() || genesis.nodes.len() > 16 || genesis.operators.len() > 64 || genesis.grants.len() > 64 {
        return Err(Refusal::Malformed("the genesis names no node, or too many nodes, operators or grants"));
    }
    check_genesis_names(genesis)
}

fn check_genesis_names(genesis: &v1::Genesis) -> Result<(), Refusal> {
    let operators = genesis.operators.iter().map(|it| (&it.operator_id, &it.public_key));
    let nodes = genesis.nodes.iter().map(|it| (&it.name, &it.public_key));
    if !genesis.operators.iter().all(|it| is_identifier(&it.operator_id) && it.operator_id.len() <= SIGNER_ID_BYTES_MAX) {
        return Err(Refusal::Malformed("an operator has no proper name"));
    }
    if !genesis.nodes.iter().all(|it| is_key_name(&it.name)) {
        return Err(Refusal::Malformed("the name of a node is empty or too long, or has white space, a plus sign or control characters"));
    }
    let mut keys = std::collections::BTreeSet::new();
    for (name, key) in operators.chain(nodes).chain([(&genesis.origin, &genesis.log_public_key)]) {
        if !is_strong_key(key) {
            return Err(Refusal::WeakKey(name.clone()));
        }
        if !keys.insert(key) {
            return Err(Refusal::KeyInUse(name.clone()));
        }
    }
    let operator_ids: std::collections::BTreeSet<_> = genesis.operators.iter().map(|it| &it.operator_id).collect();
    let node_ids: std::collections::BTreeSet<_> = genesis.nodes.iter().map(|it| it.node_id).collect();
    let node_names: std::collections::BTreeSet<_> = genesis.nodes.iter().map(|it| &it.name).collect();
    let are_nodes_apart = node_ids.len() == genesis.nodes.len() && node_names.len() == genesis.nodes.len();
    if operator_ids.len() != genesis.operators.len() || !are_nodes_apart || node_ids.contains(&0) {
        return Err(Refusal::Malformed("two operators or two nodes share an id or a name, or a node has id 0"));
    }
    let is_grant = |it: &v1::RoleGrant| is_identifier(&it.spiffe_id) && is_identifier(&it.tenant_id);
    if genesis.grants.iter().all(is_grant) { Ok(()) } else { Err(Refusal::Malformed("a role grant names no identity or no tenant")) }
}

/// Writes what the first entry registers.
pub(crate) fn write_genesis<S: Store>(writes: &mut Writes<'_, S>, genesis: &v1::Genesis) {
    for operator in &genesis.operators {
        let row = OperatorRow { key: Some(operator.clone()), revoked_at: None };
        writes.put(Table::Operators, key::text(&operator.operator_id), &row);
    }
    for node in &genesis.nodes {
        let row = NodeRow { key: Some(node.clone()), retired_at: None };
        writes.put(Table::Nodes, node.node_id.to_be_bytes(), &row);
    }
    for grant in &genesis.grants {
        writes.put_bytes(Table::Grants, key::grant(&grant.spiffe_id, grant.role, &grant.tenant_id), Vec::new());
    }
}
