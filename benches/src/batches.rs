//! What one lane sends: batches of small events, as many as wanted, the first of them signed before anything is measured.

use std::collections::VecDeque;

use anyhow::Result;
use proofline_client::VolatileLane;
use proofline_proto::v1;
use prost::bytes::Bytes;

use crate::events::Template;

/// Sessions that each lane writes to.
const SESSIONS_PER_LANE: usize = 4;
/// Batches that are signed ahead at most, in all lanes together, and their events: collectors sign on machines of their own.
const BATCHES_AHEAD: usize = 100_000;
const EVENTS_AHEAD: usize = 400_000;

/// The batches of one lane, in the order of its chain.
#[derive(Debug)]
pub(crate) struct Batches {
    lane: VolatileLane,
    number: usize,
    events_each: usize,
    templates: Vec<Template>,
    count: u128,
    ahead: VecDeque<v1::Batch>,
}

impl Batches {
    /// Takes an open lane, its number among the lanes of a load, and how many events a batch has.
    pub(crate) fn new(lane: VolatileLane, number: usize, events_each: usize) -> Self {
        let templates = (0..SESSIONS_PER_LANE).map(|n| Template::new(&format!("session-{number:03}-{n}"))).collect();
        Self { lane, number, events_each, templates, count: 0, ahead: VecDeque::new() }
    }

    /// Signs the first batches of one among `lanes` lanes.
    pub(crate) fn sign_ahead(mut self, lanes: usize) -> Result<Self> {
        let batches = BATCHES_AHEAD.min(EVENTS_AHEAD / self.events_each.max(1)) / lanes.max(1);
        for _ in 0..batches {
            let batch = self.sign()?;
            self.ahead.push_back(batch);
        }
        Ok(self)
    }

    /// Returns the next batch; signs it when those that were signed ahead are used up.
    pub(crate) fn next(&mut self) -> Result<v1::Batch> {
        match self.ahead.pop_front() {
            Some(batch) => Ok(batch),
            None => self.sign(),
        }
    }

    fn sign(&mut self) -> Result<v1::Batch> {
        let events = self.events();
        self.count += 1;
        Ok(self.lane.sign(events)?)
    }

    fn events(&self) -> Vec<Bytes> {
        let base = (self.number as u128) << 64 | self.count << 16;
        let template = self.templates.get(usize::try_from(self.count).unwrap_or(0) % self.templates.len());
        template.map(|template| (0..self.events_each as u128).map(|n| template.event(base + n)).collect()).unwrap_or_default()
    }
}
