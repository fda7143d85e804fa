//! A lane: the names that stand in every batch, the key that signs it, and the place of the next batch in the chain.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use proofline_proto::v1;
use proofline_verifier::{BatchDigest, SignedError, batch_signed_bytes, events_root, open_lane_signed_bytes};
use thiserror::Error;

use crate::{call::CallError, client::Client};

/// Most events in one batch.
pub const BATCH_EVENTS_MAX: usize = 4_096;
/// Most bytes of events in one batch.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest event, in bytes.
pub const EVENT_BYTES_MAX: usize = 60_000;

const DIGEST_BYTES: usize = 32;

/// Why a lane cannot be opened, or a batch not be signed.
#[derive(Debug, Error)]
pub enum LaneError {
    /// A name does not fit the signed layout.
    #[error(transparent)]
    Layout(#[from] SignedError),
    /// Too many events for one batch, or too many bytes of them.
    #[error("a batch of {events} events with {bytes} bytes; at most {BATCH_EVENTS_MAX} and {BATCH_BYTES_MAX} are taken")]
    TooLarge {
        /// How many.
        events: usize,
        /// Their bytes together.
        bytes: usize,
    },
    /// The ledger did not open the lane.
    #[error("the lane was not opened: {0}")]
    Call(#[from] CallError),
    /// The ledger's answer has no digest of 32 bytes.
    #[error("the ledger opened the lane without saying where it continues")]
    NoHead,
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    NoRandomness(getrandom::Error),
}

/// Names one collector's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneName {
    /// Name of the log.
    pub origin: String,
    /// Who collects.
    pub collector_id: String,
    /// Which of its lanes.
    pub lane: u32,
}

impl fmt::Display for LaneName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "lane {} of collector {:?} at {}", self.lane, self.collector_id, self.origin)
    }
}

/// Numbers the openings of a lane; the ledger assigns it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Numbers the batches of an epoch, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// The place of the next batch in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainPosition {
    /// Current epoch.
    pub epoch: Epoch,
    /// What the next batch is numbered.
    pub sequence: Sequence,
    /// Digest of the batch before it.
    previous: [u8; DIGEST_BYTES],
    /// Epoch and sequence of that batch, as the ledger said when it opened the lane; zeros before the first.
    last: (Epoch, Sequence),
}

impl ChainPosition {
    /// Returns the first place of a new epoch, as the ledger's answer to an opening names it.
    #[must_use]
    pub fn opened(answer: &v1::OpenLaneResponse) -> Option<Self> {
        let last = answer.last.as_ref()?;
        let previous = last.digest.as_slice().try_into().ok()?;
        Some(Self { epoch: Epoch(answer.epoch), sequence: Sequence(1), previous, last: (Epoch(last.epoch), Sequence(last.sequence)) })
    }

    fn behind(&self, signed: &BatchDigest) -> Self {
        let last = (self.epoch, self.sequence);
        Self { epoch: self.epoch, sequence: Sequence(self.sequence.0.saturating_add(1)), previous: *signed.as_bytes(), last }
    }

    /// Returns epoch and sequence of the batch before this place; zeros before the first.
    #[must_use]
    pub fn last(&self) -> (Epoch, Sequence) {
        self.last
    }
}

/// Signs in the name of one lane. Keeps no position: whoever holds one sees to it that it is used once.
#[derive(Clone)]
pub struct LaneSigner {
    name: LaneName,
    key: Arc<SigningKey>,
}

impl fmt::Debug for LaneSigner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("LaneSigner").field("name", &self.name).finish_non_exhaustive()
    }
}

impl LaneSigner {
    /// Takes the key that is registered for the collector.
    #[must_use]
    pub fn new(name: LaneName, key: Arc<SigningKey>) -> Self {
        Self { name, key }
    }

    /// Returns whose lane it is.
    #[must_use]
    pub fn name(&self) -> &LaneName {
        &self.name
    }

    /// Signs the batch at `at` and returns it with the place behind it. No events make a closing batch.
    ///
    /// # Errors
    /// [`LaneError::TooLarge`] and [`LaneError::Layout`].
    pub fn sign(&self, at: &ChainPosition, events: Vec<Bytes>) -> Result<(v1::Batch, ChainPosition), LaneError> {
        let bytes = events.iter().map(Bytes::len).sum();
        let too_large = || LaneError::TooLarge { events: events.len(), bytes };
        let event_count = u32::try_from(events.len()).map_err(|_| too_large())?;
        if events.len() > BATCH_EVENTS_MAX || bytes > BATCH_BYTES_MAX {
            return Err(too_large());
        }
        let statement = v1::BatchStatement {
            public_key: self.public_key(),
            collector_id: self.name.collector_id.clone(),
            lane: self.name.lane,
            epoch: at.epoch.0,
            sequence: at.sequence.0,
            previous: at.previous.to_vec(),
            event_count,
            events_root: proofline_verifier::TreeHash::as_bytes(&events_root(&events)).to_vec(),
            signature: Vec::new(),
        };
        let signed = batch_signed_bytes(&self.name.origin, &statement)?;
        let signature = self.key.sign(&signed).to_vec();
        Ok((batch(statement, events, signature), at.behind(&BatchDigest::of(&signed))))
    }

    /// Opens the lane and so fences every older epoch of it. Tried again with the same nonce, so it opens once.
    ///
    /// # Errors
    /// [`LaneError`].
    pub async fn open(&self, client: &Client) -> Result<ChainPosition, LaneError> {
        let open = self.opening()?;
        let request = v1::OpenLaneRequest { open: Some(open) };
        let call = |link: crate::Link| {
            let request = request.clone();
            async move { link.ingest().open_lane(request).await }
        };
        ChainPosition::opened(&client.call(call).await?).ok_or(LaneError::NoHead)
    }

    fn opening(&self) -> Result<v1::SignedOpenLane, LaneError> {
        let mut nonce = vec![0; 16];
        getrandom::fill(&mut nonce).map_err(LaneError::NoRandomness)?;
        let mut open = v1::SignedOpenLane {
            public_key: self.public_key(),
            collector_id: self.name.collector_id.clone(),
            lane: self.name.lane,
            nonce,
            signature: Vec::new(),
        };
        open.signature = self.key.sign(&open_lane_signed_bytes(&self.name.origin, &open)?).to_vec();
        Ok(open)
    }

    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.key.verifying_key().to_bytes().to_vec()
    }
}

fn batch(of: v1::BatchStatement, events: Vec<Bytes>, signature: Vec<u8>) -> v1::Batch {
    v1::Batch {
        public_key: of.public_key,
        collector_id: of.collector_id,
        lane: of.lane,
        epoch: of.epoch,
        sequence: of.sequence,
        previous: of.previous,
        events,
        signature,
    }
}

/// A lane whose chain lives in memory only: for load generators and tests. What it signed and nobody acknowledged is lost
/// with the process; events of value go through [`crate::Collector`].
#[derive(Debug)]
pub struct VolatileLane {
    signer: LaneSigner,
    next: ChainPosition,
}

impl VolatileLane {
    /// Opens the lane.
    ///
    /// # Errors
    /// [`LaneError`].
    pub async fn open(client: &Client, signer: LaneSigner) -> Result<Self, LaneError> {
        let next = signer.open(client).await?;
        Ok(Self { signer, next })
    }

    /// Continues a chain at a known place.
    #[must_use]
    pub fn at(signer: LaneSigner, next: ChainPosition) -> Self {
        Self { signer, next }
    }

    /// Returns the place of the next batch.
    #[must_use]
    pub fn next(&self) -> &ChainPosition {
        &self.next
    }

    /// Signs the next batch. No events make a closing batch.
    ///
    /// # Errors
    /// [`LaneError::TooLarge`] and [`LaneError::Layout`]; then the place is not used up.
    pub fn sign(&mut self, events: Vec<Bytes>) -> Result<v1::Batch, LaneError> {
        let (batch, next) = self.signer.sign(&self.next, events)?;
        self.next = next;
        Ok(batch)
    }
}

#[cfg(test)]
mod tests;
