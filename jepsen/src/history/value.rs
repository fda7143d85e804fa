//! The values that operations are made of.

use std::fmt;

use proofline_proto::v1;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};

/// Numbers the operations of a history, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(pub u64);

/// One thread of operations, of which the next begins when the one before has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Process(pub u64);

/// Raft id of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

/// Nanoseconds since the history began, by CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// Later than everything: when an operation of unknown fate ends.
    pub const NEVER: Self = Self(u64::MAX);

    /// Returns the moment so many milliseconds later.
    #[must_use]
    pub const fn plus_ms(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds.saturating_mul(1_000_000)))
    }

    /// Returns how many milliseconds this is behind `earlier`.
    #[must_use]
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000_000
    }
}

macro_rules! hexadecimal {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{}({self})", stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                let mut bytes = [0; $bytes];
                hex::decode_to_slice(&text, &mut bytes).map_err(D::Error::custom)?;
                Ok(Self(bytes))
            }
        }
    };
}

hexadecimal!(
    /// 32 bytes of a hash.
    Digest, 32
);
hexadecimal!(
    /// What a workload calls an event: unique in a run, so that the log can be matched with what was sent.
    EventId, 16
);
hexadecimal!(
    /// What makes a command or an opening unique.
    Nonce, 16
);

impl Digest {
    /// Returns SHA-256 of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// One lane of one collector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneId {
    /// Who collects.
    pub collector: String,
    /// Which lane.
    pub lane: u32,
}

/// The place of a batch: the key under which it is appended at most once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BatchId {
    /// Whose chain.
    #[serde(flatten)]
    pub lane: LaneId,
    /// Assigned by the ledger.
    pub epoch: u64,
    /// From 1 in each epoch.
    pub sequence: u64,
}

impl fmt::Display for BatchId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}/{}/{}", self.lane.collector, self.lane.lane, self.epoch, self.sequence)
    }
}

/// The newest batch of a lane, as a node says it; 0 and 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LaneHead {
    /// Its epoch.
    pub epoch: u64,
    /// Its sequence.
    pub sequence: u64,
}

/// An event as it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventSent {
    /// Its own name.
    pub id: EventId,
    /// The session that it is of.
    pub session: String,
    /// SHA-256 of its exact bytes.
    pub digest: Digest,
}

/// By which call a batch was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// One call, one answer.
    Append,
    /// Within a stream.
    Stream,
    /// Asked before acting.
    Propose,
}

/// A verdict, or that there is none because the event was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ruling {
    /// ALLOW.
    Allow,
    /// DENY.
    Deny,
    /// REQUIRE_APPROVAL.
    RequireApproval,
    /// STEP_UP.
    StepUp,
    /// The event was rejected.
    Rejected,
}

impl From<v1::Verdict> for Ruling {
    fn from(verdict: v1::Verdict) -> Self {
        match verdict {
            v1::Verdict::Allow => Self::Allow,
            v1::Verdict::Deny => Self::Deny,
            v1::Verdict::RequireApproval => Self::RequireApproval,
            v1::Verdict::StepUp => Self::StepUp,
            v1::Verdict::Unspecified => Self::Rejected,
        }
    }
}

/// What an acknowledgement says of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// What was decided.
    pub ruling: Ruling,
    /// Its position in its session; 0 when it was rejected.
    pub position: u64,
}

/// Consecutive entries that were read, as one digest: SHA-256 over their log leaf hashes, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Index of the first entry.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Over their leaf hashes.
    pub digest: Digest,
}

impl Run {
    /// Sums up entries by their leaf hashes.
    #[must_use]
    pub fn over<'a>(first: u64, leaves: impl IntoIterator<Item = &'a [u8; 32]>) -> Self {
        let (mut hasher, mut count) = (Sha256::new(), 0);
        for leaf in leaves {
            hasher.update(leaf);
            count += 1;
        }
        Self { first, count, digest: Digest(hasher.finalize().into()) }
    }

    /// Returns the index behind the last entry.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

/// A checkpoint that a node served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointSeen {
    /// Entries that it covers.
    pub size: u64,
    /// Root of the log tree.
    pub root: Digest,
    /// The exact signed note.
    pub note: String,
}
