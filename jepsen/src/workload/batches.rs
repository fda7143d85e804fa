//! The signed chain of one lane, and openings of it.

use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use proofline_client::{ChainPosition, LaneError, LaneName, LaneSigner, VolatileLane};
use proofline_proto::v1;
use proofline_verifier::open_lane_signed_bytes;
use prost::bytes::Bytes;

use super::event::Made;
use crate::history::{BatchId, LaneId, Nonce};

/// A signed batch, and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) id: BatchId,
    /// Where it was signed.
    at: ChainPosition,
    pub(crate) batch: v1::Batch,
    pub(crate) events: Vec<Made>,
}

/// One lane: its names and key, and the chain while it is open.
pub(crate) struct Chain {
    pub(crate) id: LaneId,
    origin: String,
    key: Arc<SigningKey>,
    open: Option<VolatileLane>,
}

impl Chain {
    pub(crate) fn new(origin: &str, collector: &str, lane: u32, key: Arc<SigningKey>) -> Self {
        Self { id: LaneId { collector: collector.to_owned(), lane }, origin: origin.to_owned(), key, open: None }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes the answer to an opening.
    pub(crate) fn opened(&mut self, answer: &v1::OpenLaneResponse) {
        self.open = ChainPosition::opened(answer).map(|at| VolatileLane::at(self.signer(), at));
    }

    fn signer(&self) -> LaneSigner {
        let name = LaneName { origin: self.origin.clone(), collector_id: self.id.collector.clone(), lane: self.id.lane };
        LaneSigner::new(name, Arc::clone(&self.key))
    }

    /// Forgets the chain: the next batch needs an opening.
    pub(crate) fn abandon(&mut self) {
        self.open = None;
    }

    /// Signs the next batch; `None` when the lane is not open. No events close the epoch.
    pub(crate) fn sign(&mut self, events: Vec<Made>) -> Result<Option<Signed>, LaneError> {
        let Some(lane) = &mut self.open else { return Ok(None) };
        let at = lane.next().clone();
        let batch = lane.sign(events.iter().map(|made| Bytes::clone(&made.exact)).collect())?;
        let id = BatchId { lane: self.id.clone(), epoch: batch.epoch, sequence: batch.sequence };
        if events.is_empty() {
            self.open = None;
        }
        Ok(Some(Signed { id, at, batch, events }))
    }

    /// Signs other events at the place of a batch, as no honest collector does.
    pub(crate) fn sign_again(&self, first: &Signed, events: Vec<Made>) -> Result<Signed, LaneError> {
        let (batch, _) = self.signer().sign(&first.at, events.iter().map(|made| Bytes::clone(&made.exact)).collect())?;
        Ok(Signed { id: first.id.clone(), at: first.at.clone(), batch, events })
    }

    /// Signs an opening of the lane.
    pub(crate) fn opening(&self, nonce: Nonce) -> Option<v1::SignedOpenLane> {
        let mut open = v1::SignedOpenLane {
            public_key: self.key.verifying_key().to_bytes().to_vec(),
            collector_id: self.id.collector.clone(),
            lane: self.id.lane,
            nonce: nonce.0.to_vec(),
            signature: Vec::new(),
        };
        open.signature = self.key.sign(&open_lane_signed_bytes(&self.origin, &open).ok()?).to_vec();
        Some(open)
    }
}
