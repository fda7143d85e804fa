//! Random histories of a journal, with a crash after every step: what comes back is what was acknowledged.

use openraft::{LogId, Vote, storage::RaftLogStorage as _};
use proofline_node::journal::Journal;
use proptest::{collection::vec, prelude::*};

use crate::{
    state::copy_directory,
    world::{World, append, indexes, last, log_id},
};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A leader of the same or a new term appends.
    Append { new_term: bool, count: u64 },
    /// A new leader replaces the end.
    Replace { back: u64 },
    /// The front goes.
    Purge { keep: u64 },
    /// A snapshot covers more than the log.
    Leap { ahead: u64 },
    /// Another term, another vote.
    Vote,
    /// An orderly restart.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (any::<bool>(), 1..5_u64).prop_map(|(new_term, count)| Step::Append { new_term, count }),
        2 => (0..4_u64).prop_map(|back| Step::Replace { back }),
        2 => (0..4_u64).prop_map(|keep| Step::Purge { keep }),
        1 => (0..3_u64).prop_map(|ahead| Step::Leap { ahead }),
        1 => Just(Step::Vote),
        1 => Just(Step::Restart),
    ];
    vec(step, 1..20)
}

/// What the journal must hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    term: u64,
    purged: Option<LogId<u64>>,
    entries: Vec<LogId<u64>>,
    vote: Option<Vote<u64>>,
}

impl Model {
    fn next(&self) -> u64 {
        self.entries.last().or(self.purged.as_ref()).map_or(0, |at| at.index + 1)
    }

    async fn append(&mut self, journal: &mut Journal, count: u64) {
        let new = self.next()..self.next() + count;
        append(journal, self.term, new.clone()).await;
        self.entries.extend(new.map(|index| log_id(self.term, index)));
    }

    async fn purge(&mut self, journal: &mut Journal, upto: LogId<u64>) {
        journal.purge(upto).await.unwrap();
        self.purged = Some(upto);
        self.entries.retain(|entry| entry.index > upto.index);
    }

    async fn take(&mut self, journal: &mut Journal, step: Step) {
        match step {
            Step::Append { new_term, count } => {
                self.term += u64::from(new_term);
                self.append(journal, count).await;
            }
            Step::Replace { back } => {
                self.term += 1;
                let stays = self.entries.len().saturating_sub(back as usize);
                if let Some(since) = self.entries.get(stays).copied() {
                    journal.truncate(since).await.unwrap();
                    self.entries.truncate(stays);
                }
                self.append(journal, 1).await;
            }
            Step::Purge { keep } => {
                let upto = self.entries.len().checked_sub(keep as usize + 1).map(|at| self.entries[at]);
                if let Some(upto) = upto {
                    self.purge(journal, upto).await;
                }
            }
            Step::Leap { ahead } => {
                self.term += 1;
                self.purge(journal, log_id(self.term, self.next() + ahead)).await;
            }
            Step::Vote => {
                self.term += 1;
                self.vote = Some(Vote::new(self.term, 2));
                journal.save_vote(&Vote::new(self.term, 2)).await.unwrap();
            }
            Step::Restart => {}
        }
    }

    async fn check(&self, journal: &mut Journal) {
        let expected: Vec<u64> = self.entries.iter().map(|entry| entry.index).collect();
        assert_eq!(indexes(journal).await, expected);
        assert_eq!(last(journal).await, self.entries.last().copied().or(self.purged));
        assert_eq!(journal.read_vote().await.unwrap(), self.vote);
        assert_eq!(journal.reader().extent().records, expected.len() as u64);
    }
}

/// Copies what the disk holds at this moment, and opens the copy.
async fn crash(world: &World, model: &Model) {
    let after = World::new();
    copy_directory(&world.data(), &after.data());
    after.run(async |journal| model.check(journal).await).await;
}

async fn live_through(steps: Vec<Step>) {
    let (world, mut model) = (World::new(), Model { term: 1, ..Model::default() });
    let mut open = world.open().unwrap();
    for step in steps {
        model.take(&mut open.journal, step).await;
        if matches!(step, Step::Restart) {
            open.close();
            open = world.open().unwrap();
        }
        model.check(&mut open.journal).await;
        crash(&world, &model).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_after_any_step_takes_nothing_back(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(live_through(steps));
    }
}
