//! The payloads of a file of evidence: what is given is what the entries promised, what is said to be erased was erased.

use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1;
use thiserror::Error;
use v1::command::Action;
use v1::disclosed_payload::State;
use v1::entry_core::Body;

use super::archive::ArchiveError;
use super::members::Members;
use crate::coordinate::EntryIndex;
use crate::entry::LogEntry;
use crate::evidence::{FormatError, decode_file};
use crate::payload::{DataSubject, PayloadMismatch, verify_payload};
use crate::report::{Fact, Outcome, Refusal};

/// Payloads that a report names one by one; the others are counted.
const NAMED_MAX: usize = 100;

/// Why the payloads of a file are not what its entries promised.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum PayloadError {
    #[error("payloads.binpb: {0}")]
    Format(#[from] FormatError),
    #[error(transparent)]
    Unpack(#[from] ArchiveError),
    #[error("payloads.binpb does not name each payload once, by entry and digest")]
    Order,
    #[error("entry {0}: a payload is named that no event of the answer commits to")]
    Stray(EntryIndex),
    #[error("{0:?} is the content of a payload that payloads.binpb does not name so")]
    StrayContent(String),
    #[error("entry {index}: the content of a payload is missing")]
    NoContent { index: EntryIndex },
    #[error("entry {index}: {source}")]
    Mismatch { index: EntryIndex, source: PayloadMismatch },
    #[error("entry {index}: a payload is said to be erased at index {by}, and the file holds no erasure there")]
    NoErasure { index: EntryIndex, by: EntryIndex },
    #[error("entry {index}: a payload is said to be erased at index {by}, and that erasure is about another subject or tenant")]
    OtherSubject { index: EntryIndex, by: EntryIndex },
    #[error("entry {index}: a payload is said to be erased at index {by}, before it was committed to")]
    ErasedBefore { index: EntryIndex, by: EntryIndex },
    #[error("entry {index}: the event does not say whose the payload is, so nobody can have erased it")]
    NoSubject { index: EntryIndex },
}

impl Refusal for PayloadError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Format(error) => error.outcome(),
            Self::Unpack(_) | Self::Mismatch { source: PayloadMismatch::Algorithm, .. } => Outcome::NotChecked,
            Self::Order
            | Self::Stray(_)
            | Self::StrayContent(_)
            | Self::NoContent { .. }
            | Self::Mismatch { .. }
            | Self::NoErasure { .. }
            | Self::OtherSubject { .. }
            | Self::ErasedBefore { .. }
            | Self::NoSubject { .. } => Outcome::Failed,
        }
    }
}

/// Entry and digest of a commitment.
type Place = (EntryIndex, Vec<u8>);

/// What a file says of payloads, on its way through the checks.
pub(super) struct Disclosed {
    said: BTreeMap<Place, State>,
    erasures: BTreeMap<EntryIndex, DataSubject>,
    named: Vec<Fact>,
    /// Payloads whose content is in the file.
    pub(super) given: u64,
    /// Payloads that were erased.
    pub(super) erased: u64,
    /// Payloads of which the file has neither.
    pub(super) missing: u64,
}

impl Disclosed {
    /// Reads what a file says, and the erasures among its proven commands.
    pub(super) fn open(members: &Members<'_>, commands: &[LogEntry]) -> Result<Self, PayloadError> {
        let list: v1::PayloadList = match members.read("payloads.binpb")? {
            Some(bytes) => decode_file("PayloadList", &bytes)?,
            None => v1::PayloadList::default(),
        };
        let mut said = BTreeMap::new();
        for one in list.payloads {
            let (place, state) = ((EntryIndex(one.index), one.digest), one.state.ok_or(PayloadError::Order)?);
            if said.last_key_value().is_some_and(|(last, _)| *last >= place) {
                return Err(PayloadError::Order);
            }
            said.insert(place, state);
        }
        let is_given = |place: &&Place| matches!(said.get(*place), Some(State::Salt(_)));
        if let Some(stray) = members.contents.iter().find(|place| !is_given(place)) {
            return Err(PayloadError::StrayContent(content_name(stray)));
        }
        let erasures = commands.iter().filter_map(|entry| Some((entry.index, erasure(entry)?))).collect();
        Ok(Self { said, erasures, named: Vec::new(), given: 0, erased: 0, missing: 0 })
    }

    /// Checks what the file says of the payloads of an entry of the answer.
    pub(super) fn check(&mut self, members: &Members<'_>, entry: &LogEntry) -> Result<(), PayloadError> {
        let Some(event) = &entry.event else { return Ok(()) };
        let index = entry.index;
        let mut digests = BTreeSet::new();
        for commitment in event.payloads.iter().filter(|it| digests.insert(it.digest.clone())) {
            let place = (index, commitment.digest.clone());
            let told = match self.said.remove(&place) {
                None => {
                    self.missing += 1;
                    continue;
                }
                Some(State::Salt(salt)) => {
                    let content = members.read(&content_name(&place))?.ok_or(PayloadError::NoContent { index })?;
                    verify_payload(commitment, &salt, &content).map_err(|source| PayloadError::Mismatch { index, source })?;
                    self.given += 1;
                    format!("{} bytes as committed", content.len())
                }
                Some(State::ErasedBy(by)) => {
                    self.check_erased(index, EntryIndex(by), DataSubject::of(event, commitment))?;
                    self.erased += 1;
                    format!("payload erased at index {by}")
                }
            };
            if self.named.len() < NAMED_MAX {
                self.named.push(Fact { name: "payload", value: format!("entry {index}, {:?}: {told}", commitment.name) });
            }
        }
        Ok(())
    }

    fn check_erased(&self, index: EntryIndex, by: EntryIndex, subject: Option<DataSubject>) -> Result<(), PayloadError> {
        let subject = subject.ok_or(PayloadError::NoSubject { index })?;
        let erased = self.erasures.get(&by).ok_or(PayloadError::NoErasure { index, by })?;
        if *erased != subject {
            return Err(PayloadError::OtherSubject { index, by });
        }
        if by > index { Ok(()) } else { Err(PayloadError::ErasedBefore { index, by }) }
    }

    /// Checks that every payload that the file names was met.
    pub(super) fn end(&self) -> Result<(), PayloadError> {
        self.said.first_key_value().map_or(Ok(()), |((index, _), _)| Err(PayloadError::Stray(*index)))
    }

    /// Returns what is to be said of single payloads.
    pub(super) fn facts(&self) -> Vec<Fact> {
        let more = (self.given + self.erased).saturating_sub(self.named.len() as u64);
        let more = (more > 0).then(|| Fact { name: "payload", value: format!("{more} more") });
        self.named.iter().cloned().chain(more).collect()
    }
}

/// Reads whom a proven command erased.
fn erasure(entry: &LogEntry) -> Option<DataSubject> {
    let Body::Command(signed) = &entry.body else { return None };
    let command: v1::Command = prost::Message::decode(&signed.command[..]).ok()?;
    match command.action? {
        Action::EraseSubject(it) => Some(DataSubject::erased_by(&it)),
        _ => None,
    }
}

/// Names the member that holds the content of a payload.
pub(super) fn content_name((index, digest): &Place) -> String {
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("payloads/{index}-{digest}")
}
