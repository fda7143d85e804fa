//! What one lane sends: batches of small events, as many as wanted, the first of them signed before anything is measured.

use std::collections::VecDeque;

use anyhow::Result;
use proofline_client::VolatileLane;
use proofline_proto::v1;
use prost::bytes::Bytes;

use crate::events::Template;

/// Sessions that each lane writes to.
const SESSIONS_PER_LANE: usize = 4;
/// What a wide load is about, in all lanes together.
const AGENTS: usize = 100;
const SESSIONS: usize = 1_000;
const RESOURCES: usize = 5_000;
/// Batches that are signed ahead at most, in all lanes together, and their events: collectors sign on machines of their own.
const BATCHES_AHEAD: usize = 100_000;
const EVENTS_AHEAD: usize = 400_000;

/// How much of a world the events of a load are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breadth {
    /// One agent and one resource, four sessions a lane, a batch of one session.
    Narrow,
    /// 100 agents, 1,000 sessions, 5,000 resources, each event of a batch about others.
    Wide,
}

impl Breadth {
    fn templates(self, number: usize, lanes: usize) -> Vec<Template> {
        match self {
            Self::Narrow => (0..SESSIONS_PER_LANE).map(|n| Template::new(&format!("session-{number:03}-{n}"))).collect(),
            Self::Wide => (number..RESOURCES)
                .step_by(lanes.max(1))
                .map(|resource| {
                    let session = resource % SESSIONS;
                    let uri = format!("file:///srv/app/{resource:04}.toml");
                    Template::of(&format!("session-{session:04}"), &format!("agent-{}", session % AGENTS), &uri)
                })
                .collect(),
        }
    }
}

/// The batches of one lane, in the order of its chain.
#[derive(Debug)]
pub(crate) struct Batches {
    lane: VolatileLane,
    number: usize,
    events_each: usize,
    templates: Vec<Template>,
    breadth: Breadth,
    count: u128,
    ahead: VecDeque<v1::Batch>,
}

impl Batches {
    /// Takes an open lane, its number among the `lanes` of a load, and how many events a batch has.
    pub(crate) fn new(lane: VolatileLane, number: usize, lanes: usize, events_each: usize, breadth: Breadth) -> Self {
        let templates = breadth.templates(number, lanes);
        Self { lane, number, events_each, templates, breadth, count: 0, ahead: VecDeque::new() }
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
        let count = usize::try_from(self.count).unwrap_or(0);
        let (from, step) = match self.breadth {
            Breadth::Narrow => (count, 0),
            Breadth::Wide => (count * self.events_each, 1),
        };
        let template = |n: usize| self.templates.get((from + n * step) % self.templates.len());
        (0..self.events_each).filter_map(|n| Some(template(n)?.event(base + n as u128))).collect()
    }
}
