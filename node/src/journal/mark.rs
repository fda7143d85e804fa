//! The high-water file: what the journal must at least hold.
//!
//! A database that recovers from a damaged log tail comes back shorter and says nothing. A node that forgot entries or a
//! vote may vote wrongly. So the last vote and the end of the log stand in a small file of their own, written after the
//! log's fsync returned and before anybody hears of the write.
//!
//! ```text
//! file  two slots of 4,096 bytes, written in turn
//! slot  magic 8 | generation 8 | vote 1 + 17 | last log id 1 + 24 | chain hash 32 | checksum 32 | zeros
//! ```
//! Always true: the file has its full size from the start, so that a write never changes the file's metadata; the slot that is
//! written is never the newest valid one, so that a torn write leaves the mark before it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use openraft::{LogId, Vote};

use super::{
    JournalError,
    layout::{Cursor, put_log_id, put_optional, put_vote},
    record::ChainHash,
};
use crate::durable;

const MAGIC: &[u8; 8] = b"PLHWMRK1";
const CONTEXT: &str = "proofline/v1 high-water mark";
const SLOT_BYTES: usize = 4096;
const BODY_BYTES: usize = 8 + 8 + 18 + 25 + 32;

/// The end of the log: its last log id, and the chain hash that the next record names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    pub(super) log_id: Option<LogId<u64>>,
    pub(super) chain: ChainHash,
}

impl Tip {
    pub(super) const EMPTY: Self = Self { log_id: None, chain: ChainHash::START };

    /// Returns the index of the record that comes next.
    pub(super) fn next_index(&self) -> u64 {
        self.log_id.map_or(0, |log_id| log_id.index.saturating_add(1))
    }
}

/// What the journal must at least hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) vote: Option<Vote<u64>>,
    pub(super) tip: Tip,
}

impl Mark {
    pub(super) const EMPTY: Self = Self { vote: None, tip: Tip::EMPTY };
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    First,
    Second,
}

impl Slot {
    /// Returns the slot whose turn `generation` is.
    fn of(generation: u64) -> Self {
        if generation.is_multiple_of(2) { Self::First } else { Self::Second }
    }

    fn offset(self) -> u64 {
        match self {
            Self::First => 0,
            Self::Second => SLOT_BYTES as u64,
        }
    }
}

/// The open high-water file.
#[derive(Debug)]
pub(super) struct HighWater {
    file: File,
    path: PathBuf,
    generation: u64,
}

impl HighWater {
    /// Creates the file for an empty journal.
    ///
    /// On return: both slots and the file's name are durable. A crash inside leaves no file, and no journal either.
    pub(super) fn create(path: &Path) -> Result<(), JournalError> {
        let mut content = encode(0, &Mark::EMPTY);
        content.extend_from_slice(&encode(1, &Mark::EMPTY));
        durable::replace(path, &content).map_err(|source| file_error("creating", path, source))
    }

    /// Opens the file and returns the newest mark that can be read.
    pub(super) fn open(path: &Path) -> Result<(Self, Mark), JournalError> {
        let failed = |source| file_error("opening", path, source);
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(JournalError::MarkMissing { path: path.to_owned() });
            }
            other => other.map_err(failed)?,
        };
        let (generation, mark) = newest(&file).map_err(failed)?.ok_or_else(|| JournalError::MarkDamaged { path: path.to_owned() })?;
        Ok((Self { file, path: path.to_owned(), generation }, mark))
    }

    /// Replaces the mark.
    ///
    /// On return: `mark` is durable. A crash inside leaves it or the one before.
    pub(super) fn write(&mut self, mark: &Mark) -> Result<(), JournalError> {
        let generation = self.generation.saturating_add(1);
        self.file
            .write_all_at(&encode(generation, mark), Slot::of(generation).offset())
            // Planted: an acknowledgement does not wait for the disk.
            .and_then(|()| proofline_ledger::planted!(AcknowledgedBeforeFsync, Ok(()), self.file.sync_data()))
            .map_err(|source| file_error("writing", &self.path, source))?;
        self.generation = generation;
        Ok(())
    }
}

fn newest(file: &File) -> io::Result<Option<(u64, Mark)>> {
    let mut marks = Vec::with_capacity(2);
    let mut slot = [0; SLOT_BYTES];
    for which in [Slot::First, Slot::Second] {
        match file.read_exact_at(&mut slot, which.offset()) {
            Ok(()) => marks.extend(decode(&slot)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
    }
    Ok(marks.into_iter().max_by_key(|(generation, _)| *generation))
}

fn encode(generation: u64, mark: &Mark) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.extend_from_slice(MAGIC);
    slot.extend_from_slice(&generation.to_be_bytes());
    put_optional(&mut slot, &mark.vote, put_vote);
    put_optional(&mut slot, &mark.tip.log_id, put_log_id);
    slot.extend_from_slice(&mark.tip.chain.0);
    let checksum = blake3::derive_key(CONTEXT, &slot);
    slot.extend_from_slice(&checksum);
    slot.resize(SLOT_BYTES, 0);
    slot
}

fn decode(slot: &[u8]) -> Option<(u64, Mark)> {
    let (body, rest) = slot.split_at_checked(BODY_BYTES)?;
    let (checksum, padding) = rest.split_first_chunk::<32>()?;
    if blake3::derive_key(CONTEXT, body) != *checksum || padding.iter().any(|byte| *byte != 0) {
        return None;
    }
    let mut cursor = Cursor(body);
    if cursor.array::<8>()? != *MAGIC {
        return None;
    }
    let generation = cursor.u64()?;
    let vote = cursor.optional(Cursor::vote)?;
    let log_id = cursor.optional(Cursor::log_id)?;
    let chain = ChainHash(cursor.array()?);
    cursor.end()?;
    Some((generation, Mark { vote, tip: Tip { log_id, chain } }))
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
impl HighWater {
    /// Makes every write from now on fail, as a disk does that went read-only.
    pub(super) fn break_disk(&mut self) {
        self.file = File::open(&self.path).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use openraft::CommittedLeaderId;
    use tempfile::TempDir;

    use super::*;

    struct World {
        _root: TempDir,
        path: PathBuf,
    }

    impl World {
        fn with_marks(indexes: &[u64]) -> Self {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("high-water");
            HighWater::create(&path).unwrap();
            let (mut file, _) = HighWater::open(&path).unwrap();
            indexes.iter().for_each(|index| file.write(&mark(*index)).unwrap());
            Self { _root: root, path }
        }

        fn damage(&self, slot: Slot) {
            let file = OpenOptions::new().write(true).open(&self.path).unwrap();
            file.write_all_at(&[0xff; 16], slot.offset() + 40).unwrap();
        }

        fn read(&self) -> Result<Mark, JournalError> {
            HighWater::open(&self.path).map(|(_, mark)| mark)
        }
    }

    fn mark(index: u64) -> Mark {
        let log_id = Some(LogId::new(CommittedLeaderId::new(2, 1), index));
        Mark { vote: Some(Vote::new_committed(2, 1)), tip: Tip { log_id, chain: ChainHash([9; 32]) } }
    }

    #[test]
    fn a_new_file_marks_an_empty_journal() {
        assert_eq!(World::with_marks(&[]).read().unwrap(), Mark::EMPTY);
    }

    #[test]
    fn the_newest_mark_is_read_back() {
        for count in 1..5 {
            let indexes: Vec<u64> = (0..count).collect();
            assert_eq!(World::with_marks(&indexes).read().unwrap(), mark(count - 1));
        }
    }

    #[test]
    fn a_torn_newest_slot_leaves_the_mark_before_it() {
        // Generations 2, 3 and 4 were written: the newest lies in the first slot.
        let world = World::with_marks(&[10, 11, 12]);
        world.damage(Slot::First);
        assert_eq!(world.read().unwrap(), mark(11));
    }

    #[test]
    fn the_next_write_heals_a_damaged_slot() {
        let world = World::with_marks(&[10, 11, 12]);
        world.damage(Slot::First);
        let (mut file, _) = HighWater::open(&world.path).unwrap();
        file.write(&mark(13)).unwrap();
        world.damage(Slot::Second);
        assert_eq!(world.read().unwrap(), mark(13));
    }

    #[test]
    fn two_damaged_slots_are_refused() {
        let world = World::with_marks(&[10, 11]);
        world.damage(Slot::First);
        world.damage(Slot::Second);
        assert!(matches!(world.read(), Err(JournalError::MarkDamaged { .. })));
    }

    #[test]
    fn an_emptied_file_is_refused() {
        let world = World::with_marks(&[10]);
        fs::write(&world.path, []).unwrap();
        assert!(matches!(world.read(), Err(JournalError::MarkDamaged { .. })));
    }

    #[test]
    fn a_missing_file_is_refused() {
        let world = World::with_marks(&[10]);
        fs::remove_file(&world.path).unwrap();
        assert!(matches!(world.read(), Err(JournalError::MarkMissing { .. })));
    }
}
