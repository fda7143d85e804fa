//! A collector that streams: many batches on their way, and streams that break with a leader.

use std::{collections::VecDeque, time::Duration};

use proofline_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    Stage,
    attempt::{append_action, appended},
    batches::Signed,
    collector::{Collector, Settled},
    definite::write_outcome,
    event::Kind,
    governing::Lane,
    reach::Seat,
};
use crate::history::{AwayOperation, Outcome, Way};

/// Batches of one stream that may be under way.
const WINDOW: usize = 16;
/// Batches after which a stream is ended in order, at least and at most.
const LENGTH: (u64, u64) = (20, 300);

pub(super) async fn run(stage: Stage, lane: Lane) {
    let mut collector = Collector::new(stage, lane);
    while !collector.stage.is_stopping() {
        if !collector.chain.is_open() {
            collector.open().await;
            continue;
        }
        let left = collector.stream().await;
        collector.resolve(left).await;
        collector.stage.pause(20).await;
    }
    collector.finish().await;
}

/// A batch that was sent into a stream.
type Sent = (Signed, AwayOperation);

impl Collector {
    /// Streams until the stream breaks or is long enough, and returns the batches of unknown fate, in order.
    async fn stream(&mut self) -> VecDeque<Signed> {
        let seat = self.reach.any(&mut self.lot);
        let (sender, requests) = mpsc::channel(WINDOW);
        let mut ingest = seat.link.ingest();
        let call = ingest.append_stream(ReceiverStream::new(requests));
        let Ok(Ok(answer)) = tokio::time::timeout(self.stage.attempt_time(), call).await else { return VecDeque::new() };
        let mut stream = Open { receipts: answer.into_inner(), sender: Some(sender), under_way: VecDeque::new(), seat };
        let mut to_send = self.lot.between(LENGTH.0, LENGTH.1);
        loop {
            if to_send == 0 || self.stage.is_stopping() {
                stream.sender = None;
            }
            if stream.sender.is_none() && stream.under_way.is_empty() {
                return VecDeque::new();
            }
            let rest = Duration::from_millis(self.lot.below(self.stage.shape.rest_ms_max.saturating_add(1)));
            let has_room = stream.sender.is_some() && stream.under_way.len() < WINDOW;
            tokio::select! {
                receipt = stream.receipt(self.stage.attempt_time()), if !stream.under_way.is_empty() => match receipt {
                    Ok(receipt) => self.acknowledge(&mut stream, &receipt).await,
                    Err(status) => return self.broken(stream, status).await,
                },
                () = tokio::time::sleep(rest), if has_room => {
                    to_send -= 1;
                    self.send(&mut stream).await;
                }
            }
        }
    }

    async fn send(&mut self, stream: &mut Open) {
        let count = self.lot.between(1, self.stage.shape.batch_events_max);
        let events = self.events(count, Kind::Note);
        let Ok(Some(signed)) = self.chain.sign(events) else { return };
        let operation = self.actor().await.begin_away(stream.seat.node, append_action(&signed, Way::Stream)).await;
        let request = v1::AppendRequest { batch: Some(signed.batch.clone()) };
        stream.under_way.push_back((signed, operation));
        if let Some(sender) = &stream.sender {
            // A stream that broke says so by its receipts.
            let _ = sender.send(request).await;
        }
    }

    async fn acknowledge(&mut self, stream: &mut Open, receipt: &v1::AppendResponse) {
        if let Some((_, operation)) = stream.under_way.pop_front() {
            let actor = operation.end(Outcome::Ok { answer: appended(receipt) }).await;
            self.take_back(actor);
        }
    }

    /// The first batch without a receipt is the one that was refused; of those behind it nobody said anything.
    async fn broken(&mut self, stream: Open, status: Status) -> VecDeque<Signed> {
        let mut outcome = write_outcome(Err(status));
        let mut left = VecDeque::new();
        for (signed, operation) in stream.under_way {
            let actor = operation.end(outcome).await;
            self.take_back(actor);
            left.push_back(signed);
            outcome = Outcome::Info { reason: "behind the end of a stream".to_owned() };
        }
        left
    }

    /// Finds out what became of batches, in order. What was fenced goes into the log under the next epoch.
    async fn resolve(&mut self, left: VecDeque<Signed>) {
        let mut fenced = VecDeque::new();
        for signed in left {
            // A chain has no gaps: behind a batch that never comes in, none does.
            if !fenced.is_empty() {
                fenced.push_back(signed);
                continue;
            }
            match self.settle(&signed, Way::Append).await {
                Settled::Acknowledged => {}
                Settled::Fenced => fenced.push_back(signed),
                Settled::Open => return self.chain.abandon(),
            }
        }
        if !fenced.is_empty() {
            self.open().await;
        }
        for signed in fenced {
            self.deliver(signed.events, Way::Append).await;
        }
    }
}

struct Open {
    receipts: Streaming<v1::AppendResponse>,
    sender: Option<mpsc::Sender<v1::AppendRequest>>,
    under_way: VecDeque<Sent>,
    seat: Seat,
}

impl Open {
    async fn receipt(&mut self, within: Duration) -> Result<v1::AppendResponse, Status> {
        match tokio::time::timeout(within, self.receipts.message()).await {
            Ok(Ok(Some(receipt))) => Ok(receipt),
            Ok(Ok(None)) => Err(Status::unknown("the stream ended before the receipt")),
            Ok(Err(status)) => Err(status),
            Err(_) => Err(Status::deadline_exceeded("no receipt in time")),
        }
    }
}
