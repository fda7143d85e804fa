use std::path::PathBuf;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;

fn lane() -> LaneName {
    LaneName { origin: "ledger.example/agents".to_owned(), collector_id: "gateway".to_owned(), lane: 0 }
}

fn source(name: &str) -> SourceKey {
    SourceKey::of("test", &[name.as_bytes()])
}

fn batch(sequence: u64, event: &'static str) -> v1::Batch {
    v1::Batch { epoch: 1, sequence, events: vec![Bytes::from_static(event.as_bytes())], ..Default::default() }
}

fn receipt(sequence: u64) -> v1::AppendResponse {
    v1::AppendResponse { epoch: 1, sequence, first_index: 40 + sequence, events: vec![v1::EventReceipt::default()] }
}

/// A directory with a journal, and a tiny model of a disk that may lose or change what was written last.
struct World {
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Result<Journal, JournalError> {
        Journal::open(self.directory.path(), &lane())
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join(JOURNAL)
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        fs::write(self.file(), bytes).unwrap();
    }

    /// Signs two batches and acknowledges the first. Returns the state, and the length of the file, after each step.
    async fn history(&self) -> Vec<(State, usize)> {
        let mut journal = self.open().unwrap();
        let mut steps = vec![(journal.state().clone(), self.bytes().len())];
        journal.opened(Epoch(1)).unwrap();
        steps.push((journal.state().clone(), self.bytes().len()));
        journal.signed(Submission(0), batch(1, "first"), &[source("a")]).await.unwrap();
        steps.push((journal.state().clone(), self.bytes().len()));
        journal.acknowledged(Submission(0), receipt(1)).unwrap();
        steps.push((journal.state().clone(), self.bytes().len()));
        journal.signed(Submission(1), batch(2, "second"), &[source("b"), source("c")]).await.unwrap();
        steps.push((journal.state().clone(), self.bytes().len()));
        steps
    }
}

#[tokio::test]
async fn a_journal_comes_back_as_it_was_left() {
    let world = World::new();
    let steps = world.history().await;
    let journal = world.open().unwrap();
    assert_eq!(journal.state(), &steps.last().unwrap().0);
    assert_eq!(journal.state().first_waiting().unwrap().1.batch, batch(2, "second"));
    assert!(["a", "b", "c"].iter().all(|name| journal.state().knows(&source(name))));
}

#[tokio::test]
async fn a_crash_at_any_byte_of_a_write_leaves_all_of_it_or_nothing() {
    let world = World::new();
    let steps = world.history().await;
    let whole = world.bytes();
    for pair in steps.windows(2) {
        let ((before, from), (after, to)) = (&pair[0], &pair[1]);
        for length in *from..=*to {
            world.write(&whole[..length]);
            let expected = if length == *to { after } else { before };
            assert_eq!(world.open().unwrap().state(), expected, "cut at {length} of {from}..{to}");
            assert_eq!(world.bytes().len(), if length == *to { *to } else { *from }, "the torn end is cut off");
        }
    }
}

#[tokio::test]
async fn zeros_where_the_last_write_should_be_are_a_torn_end() {
    let world = World::new();
    let steps = world.history().await;
    let whole = world.bytes();
    let (before, from) = &steps[steps.len() - 2];
    for kept in *from..whole.len() {
        let mut holed = whole.clone();
        holed[kept..].fill(0);
        world.write(&holed);
        assert_eq!(world.open().unwrap().state(), before, "zeros from {kept}");
    }
}

#[tokio::test]
async fn a_changed_byte_anywhere_is_damage() {
    let world = World::new();
    world.history().await;
    let whole = world.bytes();
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 0x10;
        world.write(&changed);
        assert!(matches!(world.open(), Err(JournalError::Damaged { .. })), "byte {place}");
    }
}

#[tokio::test]
async fn a_journal_can_be_written_on_after_a_torn_end() {
    let world = World::new();
    world.history().await;
    let whole = world.bytes();
    world.write(&whole[..whole.len() - 3]);
    let mut journal = world.open().unwrap();
    journal.signed(Submission(1), batch(2, "another"), &[]).await.unwrap();
    drop(journal);
    assert_eq!(world.open().unwrap().state().first_waiting().unwrap().1.batch, batch(2, "another"));
}

#[test]
fn a_journal_has_one_user_at_a_time() {
    let world = World::new();
    let first = world.open().unwrap();
    assert!(matches!(world.open(), Err(JournalError::InUse { .. })));
    drop(first);
    assert!(world.open().is_ok());
}

#[test]
fn a_journal_belongs_to_one_lane() {
    let world = World::new();
    drop(world.open().unwrap());
    let other = LaneName { lane: 1, ..lane() };
    assert!(matches!(Journal::open(world.directory.path(), &other), Err(JournalError::OtherLane { .. })));
}

#[tokio::test]
async fn an_orphan_keeps_its_events_and_place_until_it_is_signed_again() {
    let world = World::new();
    world.history().await;
    let mut journal = world.open().unwrap();
    journal.orphaned(Submission(1)).await.unwrap();
    drop(journal);
    let mut journal = world.open().unwrap();
    assert_eq!(journal.state().first_waiting().unwrap().1.standing, Standing::Orphaned);
    let again = v1::Batch { epoch: 2, sequence: 1, ..batch(1, "second") };
    journal.signed(Submission(1), again.clone(), &[source("b"), source("c")]).await.unwrap();
    assert_eq!(journal.state().first_waiting().unwrap().1.batch, again);
}

#[tokio::test]
async fn a_signed_batch_is_never_replaced_and_the_file_stays_sound() {
    let world = World::new();
    world.history().await;
    let mut journal = world.open().unwrap();
    let before = world.bytes();
    let found = journal.signed(Submission(1), batch(2, "other content"), &[]).await;
    assert!(matches!(found, Err(JournalError::Contradiction { .. })));
    assert_eq!(world.bytes(), before);
}

#[tokio::test]
async fn an_orphaned_closing_batch_leaves_nothing_to_sign() {
    let world = World::new();
    world.history().await;
    let mut journal = world.open().unwrap();
    let closing = v1::Batch { epoch: 1, sequence: 3, ..Default::default() };
    journal.signed(Submission(2), closing, &[]).await.unwrap();
    journal.orphaned(Submission(2)).await.unwrap();
    assert_eq!(journal.state().waiting_count(), 1);
}

#[tokio::test]
async fn compaction_keeps_the_state_and_drops_the_history() {
    let world = World::new();
    let steps = world.history().await;
    let mut journal = world.open().unwrap();
    for number in 2..40 {
        journal.signed(Submission(number), batch(number + 1, "more"), &[]).await.unwrap();
        journal.acknowledged(Submission(number), receipt(number + 1)).unwrap();
    }
    journal.orphaned(Submission(1)).await.unwrap();
    let (expected, before) = (journal.state().clone(), world.bytes().len());
    journal.compact().unwrap();
    journal.signed(Submission(40), batch(41, "behind"), &[]).await.unwrap();
    drop(journal);
    assert!(world.bytes().len() < before / 2);
    let journal = world.open().unwrap();
    assert_eq!(journal.state().waiting_count(), 2);
    assert!(expected.waiting().all(|(at, waiting)| journal.state().waiting().any(|found| found == (at, waiting))));
    assert!(steps.last().unwrap().0.waiting_count() == 1 && journal.state().knows(&source("c")));
}

#[tokio::test]
async fn a_crash_during_compaction_leaves_the_old_journal() {
    let world = World::new();
    let steps = world.history().await;
    fs::write(world.directory.path().join(COMPACTED), b"half a record").unwrap();
    assert_eq!(world.open().unwrap().state(), &steps.last().unwrap().0);
    assert!(!world.directory.path().join(COMPACTED).exists());
}

#[tokio::test]
async fn a_journal_of_a_process_that_never_ends_stays_short() {
    let world = World::new();
    let mut journal = world.open().unwrap();
    journal.opened(Epoch(1)).unwrap();
    let large = vec![Bytes::from(vec![7; 1 << 20])];
    for number in 0..20 {
        let batch = v1::Batch { epoch: 1, sequence: number + 1, events: large.clone(), ..Default::default() };
        journal.signed(Submission(number), batch, &[source(&number.to_string())]).await.unwrap();
        journal.acknowledged(Submission(number), receipt(number + 1)).unwrap();
        assert!(world.bytes().len() as u64 <= COMPACT_FROM_BYTES + (2 << 20));
    }
    drop(journal);
    let journal = world.open().unwrap();
    assert_eq!((journal.state().waiting_count(), journal.state().source_count()), (0, 20));
}

#[tokio::test]
async fn what_was_rejected_is_sent_again_when_it_is_read_again() {
    let world = World::new();
    let mut journal = world.open().unwrap();
    journal.opened(Epoch(1)).unwrap();
    let two = |sequence| v1::Batch { events: vec![Bytes::from_static(b"x"); 2], ..batch(sequence, "x") };
    let rejected = v1::EventReceipt { rejection: v1::RejectionReason::AgentOutOfScope.into(), ..Default::default() };
    let half = |sequence| v1::AppendResponse { events: vec![v1::EventReceipt::default(), rejected.clone()], ..receipt(sequence) };
    journal.signed(Submission(0), two(1), &[source("taken"), source("rejected")]).await.unwrap();
    journal.acknowledged(Submission(0), half(1)).unwrap();
    // One of these two events came from nowhere, and nobody can say which.
    journal.signed(Submission(1), two(2), &[source("either")]).await.unwrap();
    journal.acknowledged(Submission(1), half(2)).unwrap();
    let known = |journal: &Journal| ["taken", "rejected", "either"].map(|name| journal.state().knows(&source(name)));
    assert_eq!(known(&journal), [true, false, true]);
    drop(journal);
    assert_eq!(known(&world.open().unwrap()), [true, false, true], "also when the journal is read again");
}
