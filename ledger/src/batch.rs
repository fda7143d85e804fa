//! Collector chains: each signed batch is taken once, in its place, whatever is retried, replayed or forked.

use std::borrow::Cow;

use proofline_proto::v1;
use prost::bytes::Bytes;
use v1::entry_core::Body;

use crate::containment;
use crate::decision;
use crate::entry::receipt_of;
use crate::facts;
use crate::hash::Hash;
use crate::holding;
use crate::ids::{EntryIndex, Epoch, Sequence};
use crate::key::{self, RowKey};
use crate::ledger::{Judged, Ledger};
use crate::limits::OPENINGS_KEPT;
use crate::log::{Decided, Draft, InSession, damaged};
use crate::prepare::{PreparedBatch, PreparedEvent, PreparedOpenLane};
use crate::quota;
use crate::refusal::Refusal;
use crate::row::{CollectorRow, LaneRow, OpeningRow, QuotaRow, StatementRow};
use crate::session::{Claim, NextSession, Slot};
use crate::store::{Store, StoreFault, Table};
use crate::writes::Writes;

/// Takes a batch, or answers why not. A batch that was taken before gets its first receipt again.
pub(crate) fn apply<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, batch: &PreparedBatch) -> Judged<v1::AppendResponse> {
    let Some(collector) = collector(writes, &batch.statement.collector_id)? else {
        return Ok(Err(Refusal::UnknownCollector(batch.statement.collector_id.clone())));
    };
    let lane_key = key::lane(&batch.statement.collector_id, batch.lane);
    let lane: LaneRow = writes.read(Table::Lanes, &lane_key)?.unwrap_or_default();
    if let Err(misplaced) = check_place(&lane, batch) {
        // Only a position that is not the next one can be taken already.
        return match held_position(writes, batch)? {
            Some(held) => repeated(ledger, writes, batch, &held),
            None => Ok(Err(check_key(&collector, &batch.statement.public_key).err().unwrap_or(misplaced))),
        };
    }
    if let Err(refusal) = check_key(&collector, &batch.statement.public_key) {
        return Ok(Err(refusal));
    }
    let hour = match quota::reserve(ledger, writes, &collector.registration, batch.events.len())? {
        Ok(hour) => hour,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let contents = read(batch);
    let quota = match hour.admit(ledger, writes, &contents)? {
        Ok(quota) => quota,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let taking = Taking { batch, collector: &collector, quota, lane, lane_key };
    Ok(Ok(taking.take(ledger, writes, &contents)?))
}

/// An event that is well-formed in itself, or why it is rejected.
pub(crate) type Content = Result<v1::Event, v1::RejectionReason>;

fn read(batch: &PreparedBatch) -> Vec<Content> {
    let mut encoded = Vec::new();
    batch.events.iter().map(|event| event.read(&mut encoded)).collect()
}

struct Registered {
    registration: v1::RegisterCollector,
    revoked_at: Option<u64>,
}

fn collector<S: Store>(writes: &Writes<'_, S>, id: &str) -> Result<Option<Registered>, StoreFault> {
    let row = writes.read::<CollectorRow>(Table::Collectors, &key::text(id))?;
    Ok(row.and_then(|row| row.registration.map(|registration| Registered { registration, revoked_at: row.revoked_at })))
}

fn held_position<S: Store>(writes: &Writes<'_, S>, batch: &PreparedBatch) -> Result<Option<StatementRow>, StoreFault> {
    let held = writes.read::<StatementRow>(Table::Statements, &statement_key(batch))?;
    // Planted: what was taken before this process began is not remembered.
    Ok(crate::planted!(DuplicatesForgotten, held.filter(|held| crate::planted::is_since_start(held.first_index)), held))
}

fn statement_key(batch: &PreparedBatch) -> RowKey {
    // Planted: positions of all epochs are one.
    let epoch = crate::planted!(ExactlyOnceWithoutEpoch, Epoch(0), batch.epoch);
    key::statement(&batch.statement.collector_id, batch.lane, epoch, batch.sequence)
}

fn check_key(collector: &Registered, public_key: &[u8]) -> Result<(), Refusal> {
    let name = &collector.registration.collector_id;
    match collector.revoked_at {
        Some(at) => Err(Refusal::CollectorRevoked { collector: name.clone(), at: EntryIndex(at) }),
        None if collector.registration.public_key != public_key => Err(Refusal::KeyNotRegistered(name.clone())),
        None => Ok(()),
    }
}

fn check_place(lane: &LaneRow, batch: &PreparedBatch) -> Result<(), Refusal> {
    let (epoch, current) = (batch.epoch, Epoch(lane.epoch));
    if epoch > current || epoch == Epoch(0) {
        return Err(Refusal::LaneNotOpen { epoch, current });
    }
    if epoch < current {
        return Err(Refusal::EpochFenced { epoch, current });
    }
    if lane.closed {
        return Err(Refusal::EpochClosed(current));
    }
    let previous = last_digest(lane);
    let expected = Sequence(lane.sequence.saturating_add(1));
    if batch.sequence != expected {
        return Err(Refusal::WrongSequence { sequence: batch.sequence, expected, previous });
    }
    if batch.previous != previous {
        return Err(Refusal::WrongPrevious { actual: batch.previous, expected: previous });
    }
    Ok(())
}

fn last_digest(lane: &LaneRow) -> Hash {
    lane.last.as_ref().and_then(|last| Hash::from_slice(&last.digest)).unwrap_or(Hash::ZERO)
}

/// An event that is recorded next, its exact bytes, and its session, which exists.
#[derive(Clone, Copy)]
struct Admitted<'a> {
    event: &'a v1::Event,
    exact: &'a Bytes,
    session: Option<Slot>,
}

/// A batch that is next in its lane.
struct Taking<'a> {
    batch: &'a PreparedBatch,
    collector: &'a Registered,
    quota: QuotaRow,
    lane: LaneRow,
    lane_key: RowKey,
}

impl Taking<'_> {
    fn take<S: Store>(
        mut self,
        ledger: &mut Ledger,
        writes: &mut Writes<'_, S>,
        contents: &[Content],
    ) -> Result<v1::AppendResponse, StoreFault> {
        let first_index = ledger.log.next();
        let mut events = Vec::with_capacity(self.batch.events.len());
        let last = self.batch.events.len().saturating_sub(1);
        for (offset, (prepared, content)) in self.batch.events.iter().zip(contents).enumerate() {
            let judged = self.judge(ledger, writes, prepared, content)?;
            // What is rejected commits to nothing, and entries do not show what it would have committed to.
            self.quota.payload_bytes += judged.map_or(0, |admitted| quota::payload_bytes(admitted.event));
            // The rows of the batch as a whole belong to its last entry, so that entries alone re-derive them.
            if offset == last {
                self.close_batch(writes, first_index);
            }
            events.push(self.append(ledger, writes, offset, prepared, judged)?);
            ledger.complete_many(writes);
        }
        if self.batch.events.is_empty() {
            self.lane.closed = true;
            self.close_batch(writes, first_index);
            let body = Body::LaneClosed(v1::LaneClosed { at: Some(self.place(0)) });
            ledger.log.append(writes, Draft::of(body));
        }
        Ok(v1::AppendResponse { epoch: self.batch.epoch.0, sequence: self.batch.sequence.0, first_index: first_index.0, events })
    }

    /// Decides whether an event is recorded or rejected, and opens its session.
    fn judge<'e, S: Store>(
        &mut self,
        ledger: &mut Ledger,
        writes: &mut Writes<'_, S>,
        prepared: &'e PreparedEvent,
        content: &'e Content,
    ) -> Result<Result<Admitted<'e>, v1::RejectionReason>, StoreFault> {
        let (event, exact) = match (content, &prepared.exact) {
            (Ok(event), Ok(exact)) => (event, exact),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Err(*reason)),
        };
        if let Err(reason) = check_scope(&self.collector.registration, event) {
            return Ok(Err(reason));
        }
        let Some(claim) = Claim::of(event) else { return Ok(Ok(Admitted { event, exact, session: None })) };
        if claim.agent.is_empty() && !self.may_write_for_agent_of(ledger, writes, claim)? {
            return Ok(Err(v1::RejectionReason::AgentOutOfScope));
        }
        let before = ledger.log.next_session;
        let mut next = NextSession { first_index: ledger.log.next(), ordinal: &mut ledger.log.next_session };
        let entered = ledger.sessions.enter(writes, claim, &mut next)?.map(|slot| Admitted { event, exact, session: Some(slot) });
        self.quota.sessions += ledger.log.next_session - before;
        Ok(entered)
    }

    /// Tells whether an event that names no agent may stand in its session: the session's agent speaks for it. A session
    /// without an agent, also one that is yet to begin, is open only to a collector of every agent.
    fn may_write_for_agent_of<S: Store>(&self, ledger: &mut Ledger, writes: &Writes<'_, S>, claim: Claim<'_>) -> Result<bool, StoreFault> {
        let session = ledger.sessions.find(writes, &key::scoped(claim.tenant, claim.id))?;
        let agent = session.map_or("", |session| session.agent());
        Ok(is_agent_in_scope(&self.collector.registration, agent))
    }

    fn append<S: Store>(
        &self,
        ledger: &mut Ledger,
        writes: &mut Writes<'_, S>,
        offset: usize,
        prepared: &PreparedEvent,
        judged: Result<Admitted<'_>, v1::RejectionReason>,
    ) -> Result<v1::EventReceipt, StoreFault> {
        let at = self.place(offset);
        let admitted = match judged {
            Ok(admitted) => admitted,
            Err(reason) => {
                let event_leaf = prepared.leaf.0.to_vec();
                let body = v1::Rejection { at: Some(at), event_leaf, event_bytes: prepared.bytes, reason: reason.into() };
                ledger.log.append(writes, Draft::of(Body::Rejection(body)));
                return Ok(v1::EventReceipt { rejection: reason.into(), ..Default::default() });
            }
        };
        let Admitted { event, exact, session } = admitted;
        let agent = agent_of(ledger, admitted);
        let cover = containment::cover(ledger, writes, event, &agent)?;
        containment::note(ledger, writes, event, &agent, &cover)?;
        if let Some(v1::event::Body::SubAgentSpawned(spawned)) = &event.body
            && is_agent_in_scope(&self.collector.registration, &spawned.child_agent_id)
        {
            containment::note_spawn(writes, event, spawned)?;
        }
        holding::note(writes, event, &agent)?;
        let observed = facts::observe(ledger, writes, event, &agent, session)?;
        let decision = decision::decide(ledger, writes, event, &agent, &cover, &observed)?;
        if let Some(kept) = &mut ledger.observed {
            kept.push((ledger.log.next(), (*observed.facts).clone()));
        }
        decision::note_agent(ledger, writes, &observed.scope, &agent)?;
        let contained = if cover.is_empty() { facts::Contained::No } else { facts::Contained::Yes };
        let facts = observed.settle(ledger, writes, decision.verdict(), contained)?;
        containment::note_covered(writes, &cover, ledger.log.next());
        // Planted: a spawn takes no position in its session.
        let is_left_out = crate::planted!(SpawnOutsideSession) && matches!(event.body, Some(v1::event::Body::SubAgentSpawned(_)));
        let grown = session.filter(|_| !is_left_out).and_then(|slot| ledger.sessions.grow_at(slot));
        let session = Claim::of(event).zip(grown).map(|(claim, session)| InSession { tenant: claim.tenant, id: claim.id, session });
        let receipt = v1::EventReceipt {
            verdict: decision.verdict,
            session_position: session.as_ref().map_or(0, |of| of.session.size()),
            rejection: 0,
            findings: decision.findings.clone(),
            action_digest: decision.action_digest.clone(),
        };
        let body = Body::Event(v1::RecordedEvent { at: Some(at), event: exact.clone() });
        ledger.log.append(writes, Draft { event: Some(event), body, decision: Some(Decided { decision, facts: &facts }), session });
        ledger.room.facts = Some(facts);
        Ok(receipt)
    }

    fn place(&self, offset: usize) -> v1::BatchPosition {
        let of = &self.batch.statement;
        v1::BatchPosition {
            collector_id: of.collector_id.clone(),
            lane: of.lane,
            epoch: of.epoch,
            sequence: of.sequence,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            count: of.event_count,
        }
    }

    fn close_batch<S: Store>(&mut self, writes: &mut Writes<'_, S>, first_index: EntryIndex) {
        let batch = self.batch;
        let digest = batch.digest.0.to_vec();
        self.lane.sequence = batch.sequence.0;
        self.lane.last = Some(v1::LaneHead { epoch: batch.epoch.0, sequence: batch.sequence.0, digest: digest.clone() });
        writes.put(Table::Lanes, &self.lane_key, &self.lane);
        writes.put(Table::Quotas, key::text(&batch.statement.collector_id), &self.quota);
        let row = StatementRow { statement: Some(batch.statement.clone()), digest, first_index: first_index.0 };
        let key = statement_key(batch);
        // Not digested: the signature is evidence beside the log, everything else follows from the entries.
        writes.keep(Table::Statements, key, prost::Message::encode_to_vec(&row));
    }
}

fn check_scope(of: &v1::RegisterCollector, event: &v1::Event) -> Result<(), v1::RejectionReason> {
    if event.tenant_id != of.tenant_id {
        return Err(v1::RejectionReason::TenantOutOfScope);
    }
    if !of.vantages.contains(&event.vantage) {
        return Err(v1::RejectionReason::VantageOutOfScope);
    }
    let agent = named_agent(event);
    if agent.is_empty() || is_agent_in_scope(of, agent) { Ok(()) } else { Err(v1::RejectionReason::AgentOutOfScope) }
}

/// Returns the agent that an event is judged by: the event's, which is the session's, or else the session's.
fn agent_of<'a>(ledger: &Ledger, of: Admitted<'a>) -> Cow<'a, str> {
    let named = named_agent(of.event);
    let session = of.session.filter(|_| named.is_empty()).and_then(|slot| ledger.sessions.at(slot));
    session.map_or(Cow::Borrowed(named), |session| Cow::Owned(session.agent().to_owned()))
}

fn named_agent(event: &v1::Event) -> &str {
    event.attribution.as_ref().and_then(|it| it.agent.as_ref()).map_or("", |agent| &agent.agent_id)
}

fn is_agent_in_scope(of: &v1::RegisterCollector, agent: &str) -> bool {
    of.agents.iter().any(|allowed| allowed == "*" || allowed == agent)
}

/// Answers a batch whose position is taken: the first receipt for the same batch, a recorded conflict for another.
fn repeated<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    batch: &PreparedBatch,
    held: &StatementRow,
) -> Judged<v1::AppendResponse> {
    let held_key = held.statement.as_ref().map(|statement| &statement.public_key);
    if held_key != Some(&batch.statement.public_key) {
        return Ok(Err(Refusal::KeyNotRegistered(batch.statement.collector_id.clone())));
    }
    if held.digest == batch.digest.0 {
        return Ok(Ok(first_receipt(ledger, writes, batch, EntryIndex(held.first_index))?));
    }
    // Planted: who signed twice is told so, and nothing is kept of it.
    let recorded = crate::planted!(EquivocationUnrecorded, EntryIndex(held.first_index), record_equivocation(ledger, writes, batch, held)?);
    Ok(Err(Refusal::Equivocation { epoch: batch.epoch, sequence: batch.sequence, recorded }))
}

fn record_equivocation<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    batch: &PreparedBatch,
    held: &StatementRow,
) -> Result<EntryIndex, StoreFault> {
    let key = key::lane_epoch(&batch.statement.collector_id, batch.lane, batch.epoch);
    if let Some(recorded) = writes.bytes(Table::Equivocations, &key)? {
        let index = recorded.as_slice().try_into().map(u64::from_be_bytes);
        return index.map(EntryIndex).map_err(|_| StoreFault::Damaged { table: Table::Equivocations, key: key.to_vec() });
    }
    let index = ledger.log.next();
    writes.put_bytes(Table::Equivocations, key, index.0.to_be_bytes().to_vec());
    let body = v1::Equivocation { second: Some(batch.statement.clone()), first_digest: held.digest.clone() };
    Ok(ledger.log.append(writes, Draft::of(Body::Equivocation(body))))
}

/// Re-derives a receipt from the entries that the batch became.
fn first_receipt<S: Store>(
    ledger: &Ledger,
    writes: &Writes<'_, S>,
    batch: &PreparedBatch,
    first: EntryIndex,
) -> Result<v1::AppendResponse, StoreFault> {
    let mut events = Vec::with_capacity(batch.events.len());
    for index in (first.0..).take(batch.statement.event_count as usize).map(EntryIndex) {
        let receipt = ledger.log.core(writes, index)?.and_then(|core| receipt_of(core.into_owned()));
        events.push(receipt.ok_or_else(|| damaged(index))?);
    }
    Ok(v1::AppendResponse { epoch: batch.epoch.0, sequence: batch.sequence.0, first_index: first.0, events })
}

/// Opens a lane: assigns the next epoch and so fences the one before. The same nonce gets its first answer again, for as
/// long as it is among the newest of the lane.
pub(crate) fn open_lane<S: Store>(
    ledger: &mut Ledger,
    writes: &mut Writes<'_, S>,
    open: &PreparedOpenLane,
) -> Judged<v1::OpenLaneResponse> {
    let Some(collector) = collector(writes, open.collector())? else {
        return Ok(Err(Refusal::UnknownCollector(open.collector().to_owned())));
    };
    if let Err(refusal) = check_key(&collector, &open.request.public_key) {
        return Ok(Err(refusal));
    }
    let lane_key = key::lane(open.collector(), open.lane);
    let lane: LaneRow = writes.read(Table::Lanes, &lane_key)?.unwrap_or_default();
    if let Some(answer) = first_answer(writes, open, Epoch(lane.epoch))? {
        return Ok(Ok(answer));
    }
    let quota = match quota::reserve_opening(ledger, writes, &collector.registration)? {
        Ok(quota) => quota,
        Err(refusal) => return Ok(Err(refusal)),
    };
    // Planted: who opens a lane is not told what is in it.
    let last = lane
        .last
        .clone()
        .filter(|_| !crate::planted!(OpeningForgetsHead))
        .unwrap_or_else(|| v1::LaneHead { digest: Hash::ZERO.0.to_vec(), ..Default::default() });
    let answer = v1::OpenLaneResponse { epoch: lane.epoch + 1, last: Some(last) };
    writes.put(Table::Lanes, lane_key, &LaneRow { epoch: answer.epoch, sequence: 0, closed: false, last: lane.last });
    writes.put(Table::Quotas, key::text(open.collector()), &quota);
    remember_opening(writes, open, &answer);
    let body = v1::LaneOpened { request: Some(open.request.clone()), epoch: answer.epoch };
    ledger.log.append(writes, Draft::of(Body::LaneOpened(body)));
    Ok(Ok(answer))
}

/// Looks for the nonce among the newest openings of the lane.
fn first_answer<S: Store>(
    writes: &Writes<'_, S>,
    open: &PreparedOpenLane,
    current: Epoch,
) -> Result<Option<v1::OpenLaneResponse>, StoreFault> {
    for epoch in (current.0.saturating_sub(OPENINGS_KEPT - 1)..=current.0).rev() {
        let key = key::lane_epoch(open.collector(), open.lane, Epoch(epoch));
        let row: Option<OpeningRow> = writes.read(Table::LaneNonces, &key)?;
        if let Some(row) = row.filter(|row| row.nonce == open.request.nonce) {
            return Ok(row.answer);
        }
    }
    Ok(None)
}

/// Keeps the answer beside its nonce, in the place of the one that is too old now.
fn remember_opening<S: Store>(writes: &mut Writes<'_, S>, open: &PreparedOpenLane, answer: &v1::OpenLaneResponse) {
    let key = |epoch| key::lane_epoch(open.collector(), open.lane, Epoch(epoch));
    let row = OpeningRow { nonce: open.request.nonce.clone(), answer: Some(answer.clone()) };
    writes.put(Table::LaneNonces, key(answer.epoch), &row);
    if let Some(old @ 1..) = answer.epoch.checked_sub(OPENINGS_KEPT) {
        writes.remove(Table::LaneNonces, key(old));
    }
}
