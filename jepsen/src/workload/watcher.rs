//! Watchers: each follows the log or the containments through one node, and goes on at another when the stream breaks.

use proofline_proto::v1;
use proofline_verifier::{LogHash, TreeHash as _};
use tokio::task::JoinSet;
use tonic::Status;

use super::{
    Stage,
    definite::read_outcome,
    reach::{Reach, Seat},
};
use crate::{
    history::{Action, Actor, Answer, Observed, OpenOperation, Run},
    random::Random,
};

/// How long a stream is followed before it is left for another node, at least and at most.
const STAY_MS: (u64, u64) = (3_000, 20_000);

pub(super) fn spawn(tasks: &mut JoinSet<()>, stage: &Stage, reach: &Reach) {
    for place in 0..reach.seats().len() {
        for follows in [Follows::Entries, Follows::Containment] {
            tasks.spawn(run(stage.clone(), reach.clone(), place, follows));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    Entries,
    Containment,
}

async fn run(stage: Stage, reach: Reach, place: usize, follows: Follows) {
    let mut watcher = Watcher {
        lot: Random::of(stage.seed, &format!("watcher {place} {follows:?}")),
        actor: stage.recorder.actor(),
        next: 0,
        follows,
        stage,
    };
    // Begins at a node of its own, so that each is followed by somebody.
    for seat in reach.seats().iter().cycle().skip(place) {
        if watcher.stage.is_stopping() {
            return;
        }
        watcher.follow(seat).await;
        watcher.stage.pause(100).await;
    }
}

struct Watcher {
    stage: Stage,
    actor: Actor,
    lot: Random,
    /// Everything below it was seen.
    next: u64,
    follows: Follows,
}

impl Watcher {
    async fn follow(&mut self, seat: &Seat) {
        let stay = self.lot.between(STAY_MS.0, STAY_MS.1);
        let from = self.next;
        let action = match self.follows {
            Follows::Entries => Action::Tail { from },
            Follows::Containment => Action::WatchContainment { from },
        };
        let open = self.actor.begin(seat.node, action).await;
        let mut seen = Seen { open: &open, next: &mut self.next };
        let stream = async {
            match self.follows {
                Follows::Entries => seen.entries(seat).await,
                Follows::Containment => seen.changes(seat, &self.stage.tenant).await,
            }
        };
        let ended = tokio::select! {
            status = stream => Err(status),
            () = self.stage.pause(stay) => Ok(Answer::Ended { why: "left".to_owned() }),
        };
        open.end(read_outcome(ended)).await;
    }
}

struct Seen<'a, 'b> {
    open: &'a OpenOperation<'b>,
    next: &'a mut u64,
}

impl Seen<'_, '_> {
    /// Follows entries until the stream ends, and says how.
    async fn entries(&mut self, seat: &Seat) -> Status {
        let request = v1::ReadEntriesRequest { from_index: *self.next, limit: 0, follow: true };
        let mut stream = match seat.link.audit().read_entries(request).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return status,
        };
        loop {
            match stream.message().await {
                Ok(Some(chunk)) => {
                    let leaves: Vec<LogHash> = chunk.entries.iter().map(|entry| LogHash::leaf(entry)).collect();
                    let run = Run::over(chunk.first_index, leaves.iter().map(LogHash::as_bytes));
                    self.open.observe(Observed::Entries(run)).await;
                    *self.next = run.end();
                }
                Ok(None) => return Status::ok("the node ended the stream"),
                Err(status) => return status,
            }
        }
    }

    async fn changes(&mut self, seat: &Seat, tenant: &str) -> Status {
        let request = v1::WatchContainmentRequest { tenant_id: tenant.to_owned(), from_index: *self.next };
        let mut stream = match seat.link.control().watch_containment(request).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return status,
        };
        loop {
            let change = match stream.message().await {
                Ok(Some(change)) => change,
                Ok(None) => return Status::ok("the node ended the stream"),
                Err(status) => return status,
            };
            let next = change.next_index;
            let what = match change.containment {
                Some(containment) => Observed::Change { index: change.index, next, containment: containment.containment_id },
                None => Observed::Beat { next },
            };
            self.open.observe(what).await;
            *self.next = next;
        }
    }
}
