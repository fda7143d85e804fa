//! Entries of the log, as far as they are looked at.

use proofline_proto::v1::{self, command::Action, entry_core::Body as Recorded};
use proofline_verifier::{ContentHash, TreeHash as _};
use prost::{Message, bytes::Bytes};

use crate::history::{BatchId, Digest, EventId, LaneId, Nonce, Ruling};

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Index that it names.
    pub index: u64,
    /// When it was committed, as the entry says.
    pub committed_unix_ns: u64,
    /// Its session, its position there, the leaf it is, and the root that it names.
    pub session: Option<SessionPlace>,
    /// What it records.
    pub body: Body,
}

/// Where an entry stands in its session.
#[derive(Clone, Debug)]
pub struct SessionPlace {
    /// Which session.
    pub session: String,
    /// From 0.
    pub position: u64,
    pub(super) leaf: ContentHash,
    pub(super) root: Vec<u8>,
}

/// What an entry records.
#[derive(Clone, Debug)]
pub enum Body {
    /// An event.
    Event {
        /// Its place in the chain.
        batch: BatchId,
        /// Its place in the batch.
        offset: u32,
        /// Events of the batch.
        count: u32,
        /// Its own name.
        id: EventId,
        /// SHA-256 of its exact bytes.
        digest: Digest,
        /// What was decided.
        ruling: Ruling,
        /// The session that it names as its parent.
        parent: Option<String>,
        /// The session that it says it spawned.
        spawned: Option<String>,
    },
    /// An event that was refused.
    Rejected {
        /// Its place in the chain.
        batch: BatchId,
        /// Its place in the batch.
        offset: u32,
        /// Events of the batch.
        count: u32,
    },
    /// A session is revoked.
    Revoke {
        /// Of the command.
        nonce: Nonce,
        /// Which session.
        session: String,
    },
    /// A containment is released.
    Release {
        /// Of the command.
        nonce: Nonce,
        /// Its number.
        containment: u64,
    },
    /// Another command.
    Command {
        /// Its nonce.
        nonce: Nonce,
        /// Whether it registers a collector.
        registers: bool,
    },
    /// A lane was opened.
    Opened {
        /// Which.
        lane: LaneId,
        /// Its new epoch.
        epoch: u64,
        /// Of the opening.
        nonce: Nonce,
    },
    /// An epoch was closed.
    Closed {
        /// The closing batch.
        batch: BatchId,
    },
    /// Two batches were signed at one place.
    Equivocation {
        /// The place.
        batch: BatchId,
    },
    /// What is contained changed.
    Containment {
        /// Began, extended or released.
        change: v1::ContainmentChange,
        /// Number.
        id: u64,
        /// The entry that caused it.
        cause: u64,
        /// Sessions that it names.
        sessions: Vec<String>,
    },
    /// Anything else.
    Other,
}

impl Entry {
    /// Parses exact bytes; `None` when they are no entry.
    #[must_use]
    pub fn parse(exact: &Bytes) -> Option<Self> {
        // Parts of the bytes are shared, not copied.
        let entry = v1::Entry::decode(exact.clone()).ok()?;
        let core = v1::EntryCore::decode(entry.core.clone()).ok()?;
        let session = core.session.map(|at| SessionPlace {
            session: at.session_id,
            position: at.position,
            leaf: ContentHash::leaf(&entry.core),
            root: entry.session_root.to_vec(),
        });
        let ruling = core.decision.as_ref().map_or(Ruling::Rejected, |decision| decision.verdict().into());
        Some(Self { index: core.index, committed_unix_ns: core.committed_unix_ns, session, body: body(core.body?, ruling)? })
    }

    /// Returns the batch that it is of.
    #[must_use]
    pub const fn batch(&self) -> Option<&BatchId> {
        match &self.body {
            Body::Event { batch, .. } | Body::Rejected { batch, .. } | Body::Closed { batch } => Some(batch),
            _ => None,
        }
    }

    /// Returns the nonce of a command or an opening.
    #[must_use]
    pub const fn nonce(&self) -> Option<Nonce> {
        match &self.body {
            Body::Revoke { nonce, .. } | Body::Release { nonce, .. } | Body::Command { nonce, .. } | Body::Opened { nonce, .. } => {
                Some(*nonce)
            }
            Body::Event { .. }
            | Body::Rejected { .. }
            | Body::Closed { .. }
            | Body::Equivocation { .. }
            | Body::Containment { .. }
            | Body::Other => None,
        }
    }
}

fn body(of: Recorded, ruling: Ruling) -> Option<Body> {
    Some(match of {
        Recorded::Event(recorded) => event(recorded, ruling)?,
        Recorded::Rejection(rejection) => {
            let at = rejection.at?;
            Body::Rejected { offset: at.offset, count: at.count, batch: batch(at) }
        }
        Recorded::Command(command) => {
            let nonce = Nonce(command.nonce.as_slice().try_into().ok()?);
            match v1::Command::decode(command.command.as_slice()).ok()?.action? {
                Action::Contain(it) if it.action() == v1::ContainmentAction::RevokeSession => {
                    Body::Revoke { nonce, session: it.target?.id }
                }
                Action::Release(it) => Body::Release { nonce, containment: it.containment_id },
                other => Body::Command { nonce, registers: matches!(other, Action::RegisterCollector(_)) },
            }
        }
        Recorded::LaneOpened(it) => {
            let request = it.request?;
            let lane = LaneId { collector: request.collector_id, lane: request.lane };
            Body::Opened { lane, epoch: it.epoch, nonce: Nonce(request.nonce.as_slice().try_into().ok()?) }
        }
        Recorded::LaneClosed(it) => Body::Closed { batch: batch(it.at?) },
        Recorded::Equivocation(it) => {
            let second = it.second?;
            let lane = LaneId { collector: second.collector_id, lane: second.lane };
            Body::Equivocation { batch: BatchId { lane, epoch: second.epoch, sequence: second.sequence } }
        }
        Recorded::Containment(it) => {
            let is_session = |target: &&v1::Target| target.kind() == v1::TargetKind::Session;
            let sessions = it.targets.iter().filter(is_session).map(|target| target.id.clone()).collect();
            Body::Containment { change: it.change(), id: it.containment_id, cause: it.cause_index, sessions }
        }
        Recorded::Genesis(_)
        | Recorded::OutletDelivery(_)
        | Recorded::StateCommitment(_)
        | Recorded::AccessRecorded(_)
        | Recorded::ErasureDeferred(_) => Body::Other,
    })
}

/// What is looked at of an event. Logs are long and most of an event is passed over.
#[derive(Clone, PartialEq, Message)]
struct EventGlimpse {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    session: Option<SessionGlimpse>,
    #[prost(message, optional, tag = "28")]
    spawned: Option<SpawnGlimpse>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionGlimpse {
    #[prost(string, tag = "2")]
    parent: String,
}

#[derive(Clone, PartialEq, Message)]
struct SpawnGlimpse {
    #[prost(string, tag = "1")]
    child: String,
}

fn event(recorded: v1::RecordedEvent, ruling: Ruling) -> Option<Body> {
    let exact = &recorded.event;
    let glimpse = EventGlimpse::decode(exact.as_ref()).ok()?;
    let (parent, spawned) = (glimpse.session?.parent, glimpse.spawned.map(|it| it.child));
    let at = recorded.at?;
    Some(Body::Event {
        offset: at.offset,
        count: at.count,
        batch: batch(at),
        // An id that is not one of ours is one that nobody sent.
        id: EventId(glimpse.id.as_slice().try_into().unwrap_or_default()),
        digest: Digest::of(exact),
        ruling,
        parent: Some(parent).filter(|parent| !parent.is_empty()),
        spawned,
    })
}

fn batch(at: v1::BatchPosition) -> BatchId {
    BatchId { lane: LaneId { collector: at.collector_id, lane: at.lane }, epoch: at.epoch, sequence: at.sequence }
}

#[cfg(test)]
mod tests {
    use proofline_proto::v1::event::Body as Told;

    use super::*;

    #[test]
    fn a_glimpse_shows_what_the_whole_event_says() {
        let spawned = v1::SubAgentSpawned { child_session_id: "below".to_owned(), ..Default::default() };
        let cases = [
            ("above", Told::SubAgentSpawned(spawned), (Some("above"), Some("below"))),
            ("", Told::Annotation(v1::Annotation::default()), (None, None)),
        ];
        for (parent, told, expected) in cases {
            let session = v1::SessionRef { session_id: "s".to_owned(), parent_session_id: parent.to_owned(), ..Default::default() };
            let event = v1::Event { event_id: vec![7; 16], session: Some(session), body: Some(told), ..Default::default() };
            let recorded =
                v1::RecordedEvent { event: event.encode_to_vec().into(), at: Some(v1::BatchPosition { count: 1, ..Default::default() }) };
            let Some(Body::Event { id, parent, spawned, .. }) = super::event(recorded, Ruling::Allow) else { panic!("no event") };
            assert_eq!((id, (parent.as_deref(), spawned.as_deref())), (EventId([7; 16]), expected));
        }
    }
}
