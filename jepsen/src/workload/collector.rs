//! A collector that sends the same batch to several nodes at once until one answers, and opens its lane anew at bad moments.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::{
    Stage,
    attempt::{append, equivocate, head, nonce, open_lane, timed},
    batches::{Chain, Signed},
    definite::read_outcome,
    event::{Kind, Made, Maker},
    governing::Lane,
    reach::{Reach, Seat},
};
use crate::{
    history::{Action, Actor, Answer, Outcome, Way},
    random::Random,
};
use proofline_proto::v1;

/// Tries of earlier batches that may still be under way.
const STRAGGLERS_MAX: usize = 12;
/// Batches that are remembered, to be sent again much later.
const REMEMBERED_MAX: usize = 64;
/// How long a batch is still tried after everything is to end.
const LAST_TRIES: Duration = Duration::from_secs(10);

/// One of so many rounds of nothing but refusals is the last.
const GIVES_UP_ONE_OF: u64 = 3;

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is in the log.
    Acknowledged,
    /// It is not in the log and never will be.
    Fenced,
    /// Everything ended before an answer came, or it was refused and given up.
    Open,
}

pub(super) struct Collector {
    pub(super) stage: Stage,
    pub(super) chain: Chain,
    pub(super) reach: Reach,
    pub(super) lot: Random,
    maker: Maker,
    idle: Vec<Actor>,
    tries: JoinSet<Actor>,
    remembered: VecDeque<(Signed, Way)>,
}

pub(super) async fn run(stage: Stage, lane: Lane) {
    let mut collector = Collector::new(stage, lane);
    while !collector.stage.is_stopping() {
        collector.step().await;
        let rest = collector.lot.below(collector.stage.shape.rest_ms_max.saturating_add(1));
        collector.stage.pause(rest).await;
    }
    collector.finish().await;
}

impl Collector {
    pub(super) fn new(stage: Stage, lane: Lane) -> Self {
        let name = lane.chain.id.collector.clone();
        Self {
            lot: Random::of(stage.seed, &name),
            maker: Maker::new(stage.seed, &name, lane.chain.id.lane, &stage.tenant, stage.shape.payload_bytes_max),
            chain: lane.chain,
            reach: lane.reach,
            idle: Vec::new(),
            tries: JoinSet::new(),
            remembered: VecDeque::new(),
            stage,
        }
    }

    async fn step(&mut self) {
        if !self.chain.is_open() {
            return self.open().await;
        }
        match self.lot.below(100) {
            0..2 => self.race_an_opening().await,
            2..3 => {
                self.deliver(Vec::new(), Way::Append).await;
            }
            3..8 => self.send_again().await,
            8..9 => self.equivocate().await,
            9..14 => self.read_head().await,
            14..24 => {
                let events = self.events(1, Kind::Intent);
                self.deliver(events, Way::Propose).await;
            }
            _ => {
                let count = self.lot.between(1, self.stage.shape.batch_events_max);
                let events = self.events(count, Kind::Note);
                self.deliver(events, Way::Append).await;
            }
        }
    }

    pub(super) fn events(&mut self, count: u64, kind: Kind) -> Vec<Made> {
        let session = |lot: &mut Random| self.stage.families.session(lot);
        (0..count).map(|_| self.maker.make(unix_now_ns(), kind, &session(&mut self.lot), &mut self.lot)).collect()
    }

    /// Sees events into the log, under whichever epoch takes them. No events close the epoch.
    pub(super) async fn deliver(&mut self, events: Vec<Made>, way: Way) {
        loop {
            let Ok(Some(signed)) = self.chain.sign(events.clone()) else { return };
            match self.settle(&signed, way).await {
                Settled::Acknowledged => return self.remember(signed, way),
                Settled::Open => return self.chain.abandon(),
                // A batch that closes an epoch which is closed has nothing left to say.
                Settled::Fenced if events.is_empty() => return,
                Settled::Fenced => self.open().await,
            }
        }
    }

    fn remember(&mut self, signed: Signed, way: Way) {
        self.remembered.push_back((signed, way));
        if self.remembered.len() > REMEMBERED_MAX {
            self.remembered.pop_front();
        }
    }

    /// Sends one batch to one, two or three nodes at once, again and again, until it is known what became of it.
    pub(super) async fn settle(&mut self, signed: &Signed, way: Way) -> Settled {
        let (mut until, mut is_refused) = (None, true);
        loop {
            let count = self.lot.one_of(&[1, 1, 1, 2, 2, 3]).copied().unwrap_or(1);
            let seats = self.reach.several(count, &mut self.lot);
            let mut answers = self.launch(signed, way, seats).await;
            while let Some(outcome) = answers.recv().await {
                match outcome {
                    Outcome::Ok { .. } => return Settled::Acknowledged,
                    Outcome::Fail { for_good: true, .. } => return Settled::Fenced,
                    Outcome::Fail { .. } => {}
                    Outcome::Info { .. } => is_refused = false,
                }
            }
            // Whoever was told by everybody that it was not done may give it up: then it must never be in the log.
            if is_refused && self.lot.below(GIVES_UP_ONE_OF) == 0 {
                return Settled::Open;
            }
            if self.stage.is_stopping() && Instant::now() > *until.get_or_insert_with(|| Instant::now() + LAST_TRIES) {
                return Settled::Open;
            }
            tokio::time::sleep(Duration::from_millis(self.lot.between(30, 200))).await;
        }
    }

    /// Begins one try at each of these nodes.
    async fn launch(&mut self, signed: &Signed, way: Way, seats: Vec<Seat>) -> mpsc::Receiver<Outcome> {
        let (sender, answers) = mpsc::channel(seats.len());
        for seat in seats {
            let mut actor = self.actor().await;
            let (stage, signed, sender) = (self.stage.clone(), signed.clone(), sender.clone());
            self.tries.spawn(async move {
                let outcome = append(&stage, &mut actor, &seat, &signed, way).await;
                // Nobody waits for it when another node answered first.
                let _ = sender.send(outcome).await;
                actor
            });
        }
        answers
    }

    /// Takes a process that has nothing open.
    pub(super) async fn actor(&mut self) -> Actor {
        while let Some(ended) = self.tries.try_join_next() {
            self.idle.extend(ended);
        }
        while self.tries.len() > STRAGGLERS_MAX {
            self.idle.extend(self.tries.join_next().await.and_then(Result::ok));
        }
        self.idle.pop().unwrap_or_else(|| self.stage.recorder.actor())
    }

    pub(super) fn take_back(&mut self, actor: Actor) {
        self.idle.push(actor);
    }

    /// Opens the lane, by one opening that is sent again until it is answered.
    pub(super) async fn open(&mut self) {
        let nonce = nonce(&mut self.lot);
        let Some(open) = self.chain.opening(nonce) else { return };
        while !self.stage.is_stopping() {
            let seat = self.reach.any(&mut self.lot);
            let mut actor = self.actor().await;
            let answer = open_lane(&self.stage, &mut actor, &seat, &self.chain.id, open.clone(), nonce).await;
            self.take_back(actor);
            if let Some(answer) = answer {
                return self.chain.opened(&answer);
            }
            self.stage.pause(100).await;
        }
        self.chain.abandon();
    }

    /// Opens the lane anew while a batch of the old epoch is on its way: it must be in the log once, or never.
    async fn race_an_opening(&mut self) {
        let count = self.lot.between(1, self.stage.shape.batch_events_max);
        let events = self.events(count, Kind::Note);
        let Ok(Some(signed)) = self.chain.sign(events.clone()) else { return };
        let seats = self.reach.several(2, &mut self.lot);
        let answers = self.launch(&signed, Way::Append, seats).await;
        self.open().await;
        drop(answers);
        match self.settle(&signed, Way::Append).await {
            Settled::Acknowledged => self.remember(signed, Way::Append),
            Settled::Fenced if self.chain.is_open() => self.deliver(events, Way::Append).await,
            Settled::Fenced | Settled::Open => self.chain.abandon(),
        }
    }

    /// Sends a batch again that was acknowledged some time ago: the answer must be the first one.
    async fn send_again(&mut self) {
        let place = self.lot.place(self.remembered.len());
        let Some((signed, way)) = self.remembered.get(place).cloned() else { return };
        let seat = self.reach.any(&mut self.lot);
        drop(self.launch(&signed, way, vec![seat]).await);
    }

    /// Signs a second batch at a place where one was acknowledged: whoever does that must be found in the log.
    async fn equivocate(&mut self) {
        let place = self.lot.place(self.remembered.len());
        let Some(first) = self.remembered.get(place).map(|(signed, _)| signed.clone()) else { return };
        let events = self.events(1, Kind::Note);
        let Ok(second) = self.chain.sign_again(&first, events) else { return };
        let (seat, mut actor) = (self.reach.any(&mut self.lot), self.actor().await);
        equivocate(&self.stage, &mut actor, &seat, &second).await;
        self.take_back(actor);
    }

    async fn read_head(&mut self) {
        let seat = self.reach.any(&mut self.lot);
        let mut actor = self.actor().await;
        let open = actor.begin(seat.node, Action::Head { lane: self.chain.id.clone() }).await;
        let mut ingest = seat.link.ingest();
        let request = v1::GetCollectorHeadRequest { collector_id: self.chain.id.collector.clone(), lane: self.chain.id.lane };
        let answer = timed(self.stage.attempt_time(), ingest.get_collector_head(request)).await;
        open.end(read_outcome(answer.map(|answer| Answer::Head { epoch: answer.epoch, last: head(answer.last.as_ref()) }))).await;
        self.take_back(actor);
    }

    /// Waits for what is still under way.
    pub(super) async fn finish(mut self) {
        while self.tries.join_next().await.is_some() {}
    }
}

fn unix_now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or_default()
}
