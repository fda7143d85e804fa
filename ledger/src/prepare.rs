//! Parses what a group carries and checks its signatures: what is a pure function of the bytes and dear, so that it can run in
//! parallel before the serial apply. Nothing here looks at replicated state.
//!
//! Events themselves are read by the apply that decides on them: read before, on another thread, they are cold when their turn
//! comes, and are given back to an allocator that another thread took them from.

use proofline_proto::{peer, v1};
use prost::Message;
use prost::bytes::Bytes;

use crate::completeness::check_question;
use crate::frontier::Frontier;
use crate::hash::{ContentHash, Hash, TreeHash, batch_digest};
use crate::ids::{Epoch, Lane, Sequence, UnixNanos};
use crate::limits::{
    ACCESS_QUESTION_BYTES_MAX, ACCESS_TEXT_BYTES_MAX, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, COMMAND_BYTES_MAX, DELIVERY_ERROR_BYTES_MAX,
    EVENT_BYTES_MAX, LANES_MAX, SIGNER_ID_BYTES_MAX,
};
use crate::refusal::Refusal;
use crate::signed::{self, Signed};

/// One Raft entry, parsed. Parsing is total: what cannot be read is an item that will be refused.
#[derive(Clone, Debug)]
pub struct PreparedGroup {
    /// The time that the leader proposed.
    pub proposed: UnixNanos,
    /// The items, in order.
    pub items: Vec<PreparedItem>,
}

/// One submission of a group.
#[derive(Clone, Debug)]
pub enum PreparedItem {
    /// A collector's batch.
    Batch(PreparedBatch),
    /// A collector opens a lane.
    OpenLane(PreparedOpenLane),
    /// An operator's command.
    Command(PreparedCommand),
    /// The first entry.
    Genesis(Box<v1::Genesis>),
    /// A signed note to publish.
    Checkpoint(Bytes),
    /// What became of a message.
    Delivery(PreparedDelivery),
    /// What the state is said to be.
    Commitment(PreparedCommitment),
    /// Somebody reads evidence.
    Access(PreparedAccess),
    /// Not readable, or not authentic: refused whatever the state is.
    Refused(Refusal),
}

/// A batch whose signature was checked.
#[derive(Clone, Debug)]
pub struct PreparedBatch {
    pub(crate) statement: v1::BatchStatement,
    pub(crate) lane: Lane,
    pub(crate) epoch: Epoch,
    pub(crate) sequence: Sequence,
    pub(crate) previous: Hash,
    pub(crate) digest: Hash,
    pub(crate) events: Vec<PreparedEvent>,
}

/// One event of a batch.
#[derive(Clone, Debug)]
pub(crate) struct PreparedEvent {
    pub(crate) leaf: Hash,
    pub(crate) bytes: u64,
    /// The exact bytes, or why it was rejected when it came first.
    pub(crate) exact: Result<Bytes, v1::RejectionReason>,
}

/// An opening whose signature was checked.
#[derive(Clone, Debug)]
pub struct PreparedOpenLane {
    pub(crate) request: v1::SignedOpenLane,
    pub(crate) lane: Lane,
}

/// A command whose signatures were checked.
#[derive(Clone, Debug)]
pub struct PreparedCommand {
    pub(crate) signed: v1::SignedCommand,
    pub(crate) action: v1::command::Action,
}

/// A delivery whose signature was checked.
#[derive(Clone, Debug)]
pub struct PreparedDelivery {
    pub(crate) delivery: v1::OutletDelivery,
}

/// A state commitment of the right form. Nobody signs it: it is true or it is not.
#[derive(Clone, Debug)]
pub struct PreparedCommitment {
    pub(crate) commitment: v1::StateCommitment,
}

/// An access whose signature was checked.
#[derive(Clone, Debug)]
pub struct PreparedAccess {
    pub(crate) access: v1::AccessRecorded,
}

impl PreparedGroup {
    /// Parses the exact bytes of a `Group` for the ledger `origin`.
    #[must_use]
    pub fn decode(bytes: &Bytes, origin: &str) -> Self {
        match peer::Group::decode(bytes.clone()) {
            Ok(group) => Self { proposed: UnixNanos(group.proposed_unix_ns), items: check_together(group.items, origin) },
            Err(_) => Self { proposed: UnixNanos(0), items: vec![PreparedItem::Refused(Refusal::Malformed("group"))] },
        }
    }
}

/// An item of a group on its way to be prepared.
enum Parsed {
    Done(PreparedItem),
    Signed(SignedBatch),
}

/// Parses the items of a group and checks the signatures of its batches together, which takes half the time of checking
/// each. When they do not hold together, each is checked by itself.
fn check_together(items: Vec<peer::Item>, origin: &str) -> Vec<PreparedItem> {
    let parsed: Vec<Parsed> = items.into_iter().map(|item| Parsed::new(item, origin)).collect();
    let claims = parsed.iter().filter_map(|parsed| match parsed {
        Parsed::Signed(batch) => Some(batch.claim()),
        Parsed::Done(_) => None,
    });
    let together = signed::check_together(&claims.collect::<Vec<_>>());
    let item = |parsed| match (parsed, together) {
        (Parsed::Done(item), _) => item,
        (Parsed::Signed(batch), Signed::Authentic) => PreparedItem::Batch(batch.authentic()),
        (Parsed::Signed(batch), Signed::Forged) => batch.check(origin).map_or_else(PreparedItem::Refused, PreparedItem::Batch),
    };
    parsed.into_iter().map(item).collect()
}

impl Parsed {
    fn new(item: peer::Item, origin: &str) -> Self {
        match item.item {
            Some(peer::item::Item::Batch(batch)) => {
                SignedBatch::parse(batch, origin).map_or_else(|refusal| Self::Done(PreparedItem::Refused(refusal)), Self::Signed)
            }
            other => Self::Done(PreparedItem::new(peer::Item { item: other }, origin)),
        }
    }
}

/// A batch that is well-formed, with what its signature covers.
struct SignedBatch {
    batch: PreparedBatch,
    message: Vec<u8>,
}

impl SignedBatch {
    fn parse(batch: v1::Batch, origin: &str) -> Result<Self, Refusal> {
        let size = batch.events.iter().map(Bytes::len).sum::<usize>();
        limit("events in the batch", batch.events.len(), BATCH_EVENTS_MAX)?;
        limit("bytes of events in the batch", size, BATCH_BYTES_MAX)?;
        let leaves = ContentHash::leaves(&batch.events);
        let events: Vec<_> = batch.events.into_iter().zip(leaves).map(|(exact, leaf)| PreparedEvent::of(exact, leaf)).collect();
        let event_count = u32::try_from(events.len()).map_err(|_| Refusal::Malformed("event count"))?;
        let statement = v1::BatchStatement {
            public_key: batch.public_key,
            collector_id: batch.collector_id,
            lane: batch.lane,
            epoch: batch.epoch,
            sequence: batch.sequence,
            previous: batch.previous,
            event_count,
            events_root: events_root(&events).0.to_vec(),
            signature: batch.signature,
        };
        Self::of(statement, events, origin)
    }

    fn of(statement: v1::BatchStatement, events: Vec<PreparedEvent>, origin: &str) -> Result<Self, Refusal> {
        let batch = PreparedBatch::unchecked(statement, events)?;
        let message = batch.signed_bytes(origin)?;
        Ok(Self { batch, message })
    }

    fn claim(&self) -> signed::Claim<'_> {
        let of = &self.batch.statement;
        signed::Claim { public_key: &of.public_key, message: &self.message, signature: &of.signature }
    }

    fn check(self, origin: &str) -> Result<PreparedBatch, Refusal> {
        match self.claim().check() {
            Signed::Authentic => Ok(self.authentic()),
            // Evil: a node takes its own forgeries.
            Signed::Forged if crate::evil!(crate::planted::takes_forgeries(), false) => Ok(self.authentic()),
            Signed::Forged => Err(Refusal::Forged { origin: origin.to_owned() }),
        }
    }

    fn authentic(self) -> PreparedBatch {
        PreparedBatch { digest: batch_digest(&self.message), ..self.batch }
    }
}

impl PreparedItem {
    /// Parses one item for the ledger `origin`.
    #[must_use]
    pub fn new(item: peer::Item, origin: &str) -> Self {
        use peer::item::Item;
        match item.item {
            Some(Item::Batch(batch)) => PreparedBatch::new(batch, origin).map_or_else(Self::Refused, Self::Batch),
            Some(Item::OpenLane(open)) => PreparedOpenLane::new(open, origin).map_or_else(Self::Refused, Self::OpenLane),
            Some(Item::Command(command)) => PreparedCommand::new(command, origin).map_or_else(Self::Refused, Self::Command),
            Some(Item::Genesis(genesis)) => Self::Genesis(Box::new(genesis)),
            Some(Item::Checkpoint(note)) => Self::Checkpoint(note.into()),
            Some(Item::Delivery(it)) => PreparedDelivery::new(it, origin).map_or_else(Self::Refused, Self::Delivery),
            Some(Item::Commitment(it)) => PreparedCommitment::new(it).map_or_else(Self::Refused, Self::Commitment),
            Some(Item::Access(it)) => PreparedAccess::new(it, origin).map_or_else(Self::Refused, Self::Access),
            None => Self::Refused(Refusal::Malformed("empty item")),
        }
    }
}

impl PreparedBatch {
    /// Parses a batch and checks its signature.
    ///
    /// # Errors
    /// [`Refusal`] when the batch is malformed, too large, or not authentic.
    pub fn new(batch: v1::Batch, origin: &str) -> Result<Self, Refusal> {
        SignedBatch::parse(batch, origin)?.check(origin)
    }

    /// Checks a statement whose events are given apart, or not at hand (`events` empty).
    pub(crate) fn with_statement(statement: v1::BatchStatement, events: Vec<PreparedEvent>, origin: &str) -> Result<Self, Refusal> {
        SignedBatch::of(statement, events, origin)?.check(origin)
    }

    /// Rebuilds a batch from committed entries: its signature was checked before it was committed.
    pub(crate) fn committed(statement: v1::BatchStatement, events: Vec<PreparedEvent>, origin: &str) -> Result<Self, Refusal> {
        Ok(SignedBatch::of(statement, events, origin)?.authentic())
    }

    fn unchecked(statement: v1::BatchStatement, events: Vec<PreparedEvent>) -> Result<Self, Refusal> {
        signer_id(&statement.collector_id)?;
        Ok(Self {
            lane: lane(statement.lane)?,
            epoch: Epoch(statement.epoch),
            sequence: Sequence(statement.sequence),
            previous: Hash::from_slice(&statement.previous).ok_or(Refusal::Malformed("previous is not 32 bytes"))?,
            digest: Hash::ZERO,
            statement,
            events,
        })
    }

    fn signed_bytes(&self, origin: &str) -> Result<Vec<u8>, Refusal> {
        let of = &self.statement;
        Ok(signed::batch(
            origin,
            &signed::StatementFields {
                public_key: &of.public_key,
                collector_id: &of.collector_id,
                lane: of.lane,
                epoch: of.epoch,
                sequence: of.sequence,
                previous: &of.previous,
                event_count: of.event_count,
                events_root: Hash::from_slice(&of.events_root).ok_or(Refusal::Malformed("events_root is not 32 bytes"))?,
            },
        ))
    }
}

/// Returns the root of the tree over a batch's events.
pub(crate) fn events_root(events: &[PreparedEvent]) -> Hash {
    let mut tree = Frontier::<ContentHash>::default();
    tree.extend(events.iter().map(|event| event.leaf).collect(), |_, _, _| ());
    tree.root()
}

impl PreparedEvent {
    pub(crate) fn new(exact: Bytes) -> Self {
        let leaf = ContentHash::leaf(&exact);
        Self::of(exact, leaf)
    }

    fn of(exact: Bytes, leaf: Hash) -> Self {
        Self { leaf, bytes: exact.len() as u64, exact: Ok(exact) }
    }

    /// Reads an event that is well-formed in itself, or says why it is none. `encoded` is room.
    pub(crate) fn read(&self, encoded: &mut Vec<u8>) -> Result<v1::Event, v1::RejectionReason> {
        let exact = self.exact.as_ref().map_err(|reason| *reason)?;
        if exact.len() > EVENT_BYTES_MAX {
            return Err(v1::RejectionReason::Oversize);
        }
        if exact.is_empty() {
            return Err(v1::RejectionReason::Malformed);
        }
        let event = v1::Event::decode(&**exact).map_err(|_| v1::RejectionReason::Malformed)?;
        crate::event::check_lists(&event)?;
        // Protobuf has many encodings of one message; the ledger takes exactly one, and no unknown fields.
        encoded.clear();
        event.encode_raw(encoded);
        if *encoded != *exact {
            return Err(v1::RejectionReason::Malformed);
        }
        crate::event::check(&event)?;
        Ok(event)
    }
}

impl PreparedOpenLane {
    /// Parses an opening and checks its signature.
    ///
    /// # Errors
    /// [`Refusal`] when it is malformed or not authentic.
    pub fn new(request: v1::SignedOpenLane, origin: &str) -> Result<Self, Refusal> {
        signer_id(&request.collector_id)?;
        let lane = lane(request.lane)?;
        if request.nonce.len() != 16 {
            return Err(Refusal::Malformed("nonce is not 16 bytes"));
        }
        match signed::check(&request.public_key, &signed::open_lane(origin, &request), &request.signature) {
            Signed::Authentic => Ok(Self { request, lane }),
            Signed::Forged => Err(Refusal::Forged { origin: origin.to_owned() }),
        }
    }
}

impl PreparedCommand {
    /// Parses a command and checks its signatures.
    ///
    /// # Errors
    /// [`Refusal`] when it is malformed, unsigned, or not authentic.
    pub fn new(signed: v1::SignedCommand, origin: &str) -> Result<Self, Refusal> {
        limit("bytes of the command", signed.command.len(), COMMAND_BYTES_MAX)?;
        limit("signatures of the command", signed.signatures.len(), 8)?;
        if signed.origin != origin {
            return Err(Refusal::Forged { origin: origin.to_owned() });
        }
        if signed.nonce.len() != 16 {
            return Err(Refusal::Malformed("nonce is not 16 bytes"));
        }
        let command = v1::Command::decode(&signed.command[..]).map_err(|_| Refusal::Malformed("command"))?;
        if command.encode_to_vec() != signed.command {
            return Err(Refusal::Malformed("the command is not in its canonical encoding"));
        }
        let action = command.action.ok_or(Refusal::Malformed("the command names no action"))?;
        check_signatures(&signed, origin)?;
        Ok(Self { signed, action })
    }
}

impl PreparedDelivery {
    /// Parses what a node says became of a message, and checks its signature.
    ///
    /// # Errors
    /// [`Refusal`] when it is malformed or not authentic.
    pub fn new(delivery: v1::OutletDelivery, origin: &str) -> Result<Self, Refusal> {
        let is_code = |code: &str| code.is_empty() || (code.len() <= DELIVERY_ERROR_BYTES_MAX && crate::event::is_identifier(code));
        let is_id = delivery.jti.len() == 32 && delivery.jti.bytes().all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it));
        if !crate::outlet::is_outlet_name(&delivery.outlet_id) || !is_id || !is_code(&delivery.error) {
            return Err(Refusal::Malformed("the delivery names no outlet or no message, or its error is no code"));
        }
        if delivery.result() == v1::DeliveryResult::Unspecified {
            return Err(Refusal::Malformed("the delivery has no result"));
        }
        match signed::check(&delivery.public_key, &signed::outlet_delivery(origin, &delivery), &delivery.signature) {
            Signed::Authentic => Ok(Self { delivery }),
            Signed::Forged => Err(Refusal::Forged { origin: origin.to_owned() }),
        }
    }
}

impl PreparedCommitment {
    /// Takes what a leader says of the state.
    ///
    /// # Errors
    /// [`Refusal`] when it is malformed.
    pub fn new(commitment: v1::StateCommitment) -> Result<Self, Refusal> {
        if commitment.map_root.len() != 32 || commitment.state_digest.len() != 32 {
            return Err(Refusal::Malformed("the state commitment has a hash that is not 32 bytes"));
        }
        Ok(Self { commitment })
    }
}

impl PreparedAccess {
    /// Parses what a node says of a reader, and checks its signature.
    ///
    /// # Errors
    /// [`Refusal`] when it is malformed or not authentic.
    pub fn new(access: v1::AccessRecorded, origin: &str) -> Result<Self, Refusal> {
        limit("bytes of the reader's name", access.reader.len(), ACCESS_TEXT_BYTES_MAX)?;
        limit("bytes of the purpose", access.purpose.len(), ACCESS_TEXT_BYTES_MAX)?;
        limit("bytes of the question", access.question.len(), ACCESS_QUESTION_BYTES_MAX)?;
        if !crate::event::is_identifier(&access.reader) || access.purpose.chars().any(char::is_control) {
            return Err(Refusal::Malformed("the access names no reader, or its purpose has control characters"));
        }
        let is_question = match access.kind() {
            v1::AccessKind::Lineage | v1::AccessKind::EvidenceExport => is_canonical_question(&access.question),
            v1::AccessKind::PayloadRead => access.question.len() == 32,
            v1::AccessKind::Unspecified => false,
        };
        if !is_question {
            return Err(Refusal::Malformed("the access has no kind, or its question is not what that kind asks"));
        }
        match signed::check(&access.public_key, &signed::access(origin, &access), &access.signature) {
            Signed::Authentic => Ok(Self { access }),
            Signed::Forged => Err(Refusal::Forged { origin: origin.to_owned() }),
        }
    }
}

fn is_canonical_question(bytes: &[u8]) -> bool {
    v1::LineageQuestion::decode(bytes).is_ok_and(|question| question.encode_to_vec() == bytes && check_question(&question).is_ok())
}

fn check_signatures(of: &v1::SignedCommand, origin: &str) -> Result<(), Refusal> {
    let message = signed::command(of);
    for one in &of.signatures {
        signer_id(&one.operator_id)?;
        if signed::check(&one.public_key, &message, &one.signature) == Signed::Forged {
            return Err(Refusal::Forged { origin: origin.to_owned() });
        }
    }
    if of.signatures.is_empty() {
        return Err(Refusal::Malformed("the command is not signed"));
    }
    Ok(())
}

fn lane(number: u32) -> Result<Lane, Refusal> {
    if number < LANES_MAX {
        Ok(Lane(number))
    } else {
        Err(Refusal::TooLarge { what: "lane", actual: number.into(), limit: u64::from(LANES_MAX) - 1 })
    }
}

fn signer_id(id: &str) -> Result<(), Refusal> {
    limit("bytes of the signer's id", id.len(), SIGNER_ID_BYTES_MAX)?;
    if crate::event::is_identifier(id) { Ok(()) } else { Err(Refusal::Malformed("the signer's id is empty or has control characters")) }
}

fn limit(what: &'static str, actual: usize, limit: usize) -> Result<(), Refusal> {
    if actual <= limit { Ok(()) } else { Err(Refusal::TooLarge { what, actual: actual as u64, limit: limit as u64 }) }
}
