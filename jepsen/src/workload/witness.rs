//! Witnesses: each holds the newest checkpoint of one node, asks for proof that it continues the one before, and compares
//! with the other witnesses.
//!
//! What a witness holds is in a file, so that it outlives the witness. It verifies signatures at once; roots and proofs are
//! judged again by the checks.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use proofline_proto::v1;
use tokio::{sync::watch, task::JoinSet};
use tonic::Status;

use super::{
    Stage,
    attempt::timed,
    definite::read_outcome,
    reach::{Reach, Seat},
    reader::checkpoint,
};
use crate::{
    history::{Action, Actor, Answer, CheckpointSeen, Digest},
    random::Random,
};

/// How often a witness looks.
const EVERY: Duration = Duration::from_millis(100);
/// How long it waits for an answer: a frozen node must not blind it.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);

type Held = Option<CheckpointSeen>;

pub(super) fn spawn(tasks: &mut JoinSet<()>, stage: &Stage, reach: &Reach, directory: &Path) {
    let boards: Vec<watch::Sender<Held>> = reach.seats().iter().map(|_| watch::Sender::new(None)).collect();
    let all: Vec<watch::Receiver<Held>> = boards.iter().map(watch::Sender::subscribe).collect();
    for (place, (seat, board)) in reach.seats().iter().zip(boards).enumerate() {
        let file = directory.join(format!("witness-{}.checkpoint", seat.node.0));
        board.send_replace(load(&file));
        let witness = Witness {
            lot: Random::of(stage.seed, &format!("witness {place}")),
            actor: stage.recorder.actor(),
            stage: stage.clone(),
            reach: reach.clone(),
            seat: seat.clone(),
            board,
            others: all.clone(),
            file,
        };
        tasks.spawn(witness.run());
    }
}

struct Witness {
    stage: Stage,
    reach: Reach,
    seat: Seat,
    actor: Actor,
    lot: Random,
    board: watch::Sender<Held>,
    others: Vec<watch::Receiver<Held>>,
    file: PathBuf,
}

impl Witness {
    async fn run(mut self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.stage.is_stopping() {
            let stage = self.stage.clone();
            if stage.until_stopped(ticks.tick()).await.is_none() {
                return;
            }
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let held = self.board.borrow().clone();
        let open = self.actor.begin(self.seat.node, Action::Checkpoint).await;
        let mut audit = self.seat.link.audit();
        let answer = timed(ANSWER_WITHIN, audit.get_checkpoint(v1::GetCheckpointRequest {})).await;
        let seen = answer.and_then(|answer| checkpoint(&answer.checkpoint).ok_or_else(|| Status::data_loss("no signed note")));
        // The same note again is recorded by its size and root alone.
        let is_known = |seen: &CheckpointSeen| held.as_ref().is_some_and(|held| held.note == seen.note);
        let recorded = seen.clone().map(|seen| if is_known(&seen) { CheckpointSeen { note: String::new(), ..seen } } else { seen });
        open.end(read_outcome(recorded.map(Answer::Checkpoint))).await;
        let Ok(seen) = seen else { return };
        if is_known(&seen) || !self.stage.verifies(seen.note.as_bytes()) {
            return;
        }
        if let Some(held) = held {
            self.compare(&held, &seen).await;
        }
        let place = self.lot.place(self.others.len());
        let other = self.others.get(place).and_then(|other| other.borrow().clone());
        if let Some(other) = other {
            self.compare(&other, &seen).await;
        }
        if self.board.borrow().as_ref().is_none_or(|held| held.size <= seen.size) {
            // A witness that cannot write its file forgets on a restart; what it saw is in the history all the same.
            let _ = store(&self.file, &seen);
            self.board.send_replace(Some(seen));
        }
    }

    /// Asks some node for the proof that the larger of two checkpoints continues the smaller one.
    async fn compare(&mut self, one: &CheckpointSeen, other: &CheckpointSeen) {
        let (older, newer) = if one.size <= other.size { (one, other) } else { (other, one) };
        if older.size == newer.size {
            return;
        }
        let seat = self.reach.any(&mut self.lot);
        let action = Action::Consistency { older: older.size, older_root: older.root, newer: newer.size, newer_root: newer.root };
        let open = self.actor.begin(seat.node, action).await;
        let request = v1::GetConsistencyProofRequest { first_size: older.size, second_size: newer.size };
        let answer = timed(ANSWER_WITHIN, seat.link.audit().get_consistency_proof(request)).await;
        let path = answer.and_then(|answer| {
            let path: Option<Vec<Digest>> = answer.path.iter().map(|hash| hash.as_slice().try_into().ok().map(Digest)).collect();
            path.map(|path| Answer::Consistent { path }).ok_or_else(|| Status::data_loss("a hash is not 32 bytes"))
        });
        open.end(read_outcome(path)).await;
    }
}

fn load(file: &Path) -> Held {
    fs::read(file).ok().and_then(|note| checkpoint(&note))
}

/// On return: the file holds the whole note; a crash inside leaves the one before.
fn store(file: &Path, seen: &CheckpointSeen) -> io::Result<()> {
    let part = file.with_extension("part");
    fs::write(&part, &seen.note)?;
    fs::rename(part, file)
}
