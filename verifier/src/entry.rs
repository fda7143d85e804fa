//! Entries as they lie in the log: parsed once, in their one encoding.

use proofline_proto::v1;
use thiserror::Error;
use v1::entry_core::Body;

use crate::canonical::{CanonicalError, decode_canonical};
use crate::coordinate::{EntryIndex, SessionPosition};
use crate::hash::{ContentHash, TreeHash};
use crate::report::{Outcome, Refusal};
use crate::tree::{TreeError, parse_hash};

/// Longest entry, in bytes: entry bundles of tlog-tiles carry 16-bit lengths.
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// Why bytes are not the entry that they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// Longer than [`ENTRY_BYTES_MAX`].
    #[error("the entry has {bytes} bytes, the limit is {ENTRY_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not the canonical encoding of a message of this version.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// No body that this version knows.
    #[error("the entry has no body of this version")]
    NoBody,
    /// The entry names another index than the one that it stands at.
    #[error("the entry names index {named}, it stands at {actual}")]
    Index {
        /// In the entry.
        named: EntryIndex,
        /// Where it stands.
        actual: EntryIndex,
    },
    /// A session without a session root, or the reverse.
    #[error("the entry has a session without a root of it, or a root without a session")]
    SessionRootPresence,
    /// The session root is malformed.
    #[error("the session root: {0}")]
    SessionRoot(#[source] TreeError),
}

impl Refusal for EntryError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::TooLong { .. } | Self::Canonical(_) | Self::NoBody => Outcome::NotChecked,
            Self::Index { .. } | Self::SessionRootPresence | Self::SessionRoot(_) => Outcome::Failed,
        }
    }
}

/// Where an entry stands in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPlace {
    /// Tenant of the session.
    pub tenant_id: String,
    /// The session, within its tenant.
    pub session_id: String,
    /// Place of the entry, from 0.
    pub position: SessionPosition,
    /// Root of the session tree after this entry, as the entry says.
    pub root: ContentHash,
}

/// An entry, parsed. Says nothing about whether it is in any log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Index that the entry names.
    pub index: EntryIndex,
    /// Time of the commit, in nanoseconds since the Unix epoch.
    pub committed_unix_ns: u64,
    /// Where it stands in its session, if it has one.
    pub session: Option<SessionPlace>,
    /// Leaf of the entry in the session tree.
    pub session_leaf: ContentHash,
    /// What the ledger decided about an event.
    pub decision: Option<v1::Decision>,
    /// What was committed.
    pub body: Body,
    /// The recorded event, when the body is one.
    pub event: Option<v1::Event>,
}

impl LogEntry {
    /// Parses the exact bytes of an entry, of its core, and of the event in it.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLong { bytes: bytes.len() });
        }
        let entry: v1::Entry = decode_canonical("Entry", bytes)?;
        let core: v1::EntryCore = decode_canonical("EntryCore", &entry.core)?;
        let body = core.body.ok_or(EntryError::NoBody)?;
        let event = match &body {
            Body::Event(recorded) => Some(decode_canonical("Event", &recorded.event)?),
            Body::Genesis(_)
            | Body::Command(_)
            | Body::Rejection(_)
            | Body::Equivocation(_)
            | Body::LaneOpened(_)
            | Body::LaneClosed(_)
            | Body::Containment(_)
            | Body::OutletDelivery(_)
            | Body::StateCommitment(_)
            | Body::AccessRecorded(_)
            | Body::ErasureDeferred(_) => None,
        };
        Ok(Self {
            index: EntryIndex(core.index),
            committed_unix_ns: core.committed_unix_ns,
            session: parse_session(core.session, &entry.session_root)?,
            session_leaf: ContentHash::leaf(&entry.core),
            decision: core.decision,
            body,
            event,
        })
    }

    /// Parses an entry that should stand at an index.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn parse_at(bytes: &[u8], index: EntryIndex) -> Result<Self, EntryError> {
        let entry = Self::parse(bytes)?;
        if entry.index == index { Ok(entry) } else { Err(EntryError::Index { named: entry.index, actual: index }) }
    }
}

fn parse_session(session: Option<v1::SessionPosition>, root: &[u8]) -> Result<Option<SessionPlace>, EntryError> {
    match session {
        None if root.is_empty() => Ok(None),
        Some(session) if !root.is_empty() => Ok(Some(SessionPlace {
            tenant_id: session.tenant_id,
            session_id: session.session_id,
            position: SessionPosition(session.position),
            root: parse_hash(root).map_err(EntryError::SessionRoot)?,
        })),
        None | Some(_) => Err(EntryError::SessionRootPresence),
    }
}
