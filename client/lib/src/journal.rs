//! The journal beside a collector's chain: what was signed, what was acknowledged, and what was read before.
//!
//! It holds a directory with two files: `lock`, held for as long as the journal is open, and `journal`, an append-only file
//! of checksummed records ([`record`]) whose fold is the [`State`].
//! Always true: a batch is on disk before it is sent, with the keys of the sources that it came from; it stays there until
//! the ledger's receipt, or the ledger's proof that it can no longer be taken, is written behind it.
//! It does not talk to the ledger and signs nothing.

mod file;
mod state;
mod steps;

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use proofline_proto::v1;
use thiserror::Error;

pub(crate) use state::{Standing, State, Waiting};
pub(crate) use steps::Submission;
use steps::{Acknowledged, Founded, Kept, Opened, Orphaned, Place, Record, Signed, Step};

use crate::{
    lane::{Epoch, LaneName, Sequence},
    source::SourceKey,
};

/// Events may say more than every account of the machine should read.
const OWNER_ONLY: u32 = 0o700;
const LOCK: &str = "lock";
const JOURNAL: &str = "journal";
const COMPACTED: &str = "journal.new";
/// A journal is rewritten when it is longer than this, and mostly history.
const COMPACT_FROM_BYTES: u64 = 8 << 20;

/// Why a journal cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another process, or another collector of this one, uses the journal.
    #[error("{path} is in use by another process")]
    InUse {
        /// The journal's directory.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that were on disk have changed. No crash does that.
    #[error("{path} is damaged at byte {offset}; restore it, or begin a new lane and keep this file for examination")]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
    },
    /// The records contradict each other.
    #[error("{path} is no journal of this version: {why}")]
    Contradiction {
        /// The journal.
        path: PathBuf,
        /// What does not fit.
        why: &'static str,
    },
    /// The journal belongs to another lane.
    #[error("{path} belongs to {found}, not to {expected}")]
    OtherLane {
        /// The journal's directory.
        path: PathBuf,
        /// Whose journal it is.
        found: Box<LaneName>,
        /// Whose was asked for.
        expected: Box<LaneName>,
    },
    /// A write failed earlier; what is on disk is known only after opening the journal again.
    #[error("an earlier write failed; open the collector again")]
    Failed,
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    directory: PathBuf,
    file: Arc<File>,
    /// Held until the journal is dropped.
    _lock: File,
    state: State,
    /// Length of the file.
    bytes: u64,
    health: Health,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Sound,
    /// Something was appended that must be on disk before anything is sent.
    Unsynced,
    Failed,
}

impl Journal {
    /// Opens the journal of a lane, or makes it.
    pub(crate) fn open(directory: &Path, lane: &LaneName) -> Result<Self, JournalError> {
        fs::DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(directory).map_err(at(directory))?;
        let lock = lock(directory)?;
        let path = directory.join(JOURNAL);
        // Left by a crash during a compaction that did not come to its end.
        remove_if_there(&directory.join(COMPACTED))?;
        let (file, records) = file::open(&path)?;
        let mut state = State::default();
        for record in records {
            state.apply(record).map_err(|why| JournalError::Contradiction { path: path.clone(), why })?;
        }
        let bytes = file.metadata().map_err(at(&path))?.len();
        let mut journal = Self { directory: directory.to_owned(), file: Arc::new(file), _lock: lock, state, bytes, health: Health::Sound };
        match journal.state.founded() {
            Some(found) if found != lane => {
                return Err(JournalError::OtherLane {
                    path: directory.to_owned(),
                    found: Box::new(found.clone()),
                    expected: Box::new(lane.clone()),
                });
            }
            Some(_) => journal.compact_if_worthwhile()?,
            None => journal.found(lane)?,
        }
        Ok(journal)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Notes that the ledger opened an epoch. Not synced: the next batch is.
    pub(crate) fn opened(&mut self, epoch: Epoch) -> Result<(), JournalError> {
        self.append(Step::Opened(Opened { epoch: epoch.0 }))
    }

    /// Notes how far the ledger goes, which is less than it acknowledged: the loss is reported once.
    pub(crate) fn lost_behind(&mut self, epoch: Epoch, sequence: Sequence) -> Result<(), JournalError> {
        let acknowledged = Some(Place { epoch: epoch.0, sequence: sequence.0 });
        self.append(Step::Kept(Kept { acknowledged, ..Kept::default() }))
    }

    /// Writes a signed batch, new or in the place of an orphaned one. On return: it is on disk, and may be sent.
    ///
    /// A crash before that leaves nothing of it, or the whole of it: then it is sent after the restart.
    pub(crate) async fn signed(&mut self, submission: Submission, batch: v1::Batch, sources: &[SourceKey]) -> Result<(), JournalError> {
        let sources = sources.iter().map(|source| source.to_vec()).collect();
        self.append(Step::Signed(Signed { submission: submission.0, batch: Some(batch), sources }))?;
        self.health = Health::Unsynced;
        self.sync().await
    }

    /// Writes the ledger's receipt. Not synced: a crash that loses it leads to the batch being sent again, which gets the
    /// same receipt again.
    pub(crate) fn acknowledged(&mut self, submission: Submission, receipt: v1::AppendResponse) -> Result<(), JournalError> {
        self.append(Step::Acknowledged(Acknowledged { submission: submission.0, receipt: Some(receipt) }))?;
        self.compact_if_worthwhile()
    }

    /// Notes that a batch can no longer be taken: its events are to be signed again. On return: that is on disk.
    ///
    /// A crash before that leads to the batch being sent again and refused again.
    pub(crate) async fn orphaned(&mut self, submission: Submission) -> Result<(), JournalError> {
        self.append(Step::Orphaned(Orphaned { submission: submission.0 }))?;
        self.health = Health::Unsynced;
        self.sync().await
    }

    fn found(&mut self, lane: &LaneName) -> Result<(), JournalError> {
        self.append(Step::Founded(Founded::of(lane)))?;
        self.file.sync_all().map_err(at(&self.directory))?;
        sync_directory(&self.directory)
    }

    fn append(&mut self, step: Step) -> Result<(), JournalError> {
        if self.health == Health::Failed {
            return Err(JournalError::Failed);
        }
        let record = Record { step: Some(step) };
        let framed = file::frame(&record).map_err(at(&self.directory))?;
        // First the check, then the write: what is on disk never contradicts itself.
        self.state.apply(record).map_err(|why| JournalError::Contradiction { path: self.directory.clone(), why })?;
        self.bytes = self.bytes.saturating_add(framed.len() as u64);
        let mut file = &*self.file;
        file.write_all(&framed).map_err(|source| self.failed(source))
    }

    /// Waits until every signed and orphaned batch is on disk, off the async threads. Does nothing when they are: only a
    /// caller that stopped waiting in between leaves something to do.
    pub(crate) async fn sync(&mut self) -> Result<(), JournalError> {
        match self.health {
            Health::Sound => return Ok(()),
            Health::Unsynced => {}
            Health::Failed => return Err(JournalError::Failed),
        }
        let file = Arc::clone(&self.file);
        let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
        match synced.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())) {
            Ok(()) => {
                self.health = Health::Sound;
                Ok(())
            }
            Err(source) => Err(self.failed(source)),
        }
    }

    /// After a failed write or sync nobody knows what is on disk: nothing more is written, and nothing more is sent.
    fn failed(&mut self, source: io::Error) -> JournalError {
        self.health = Health::Failed;
        JournalError::File { path: self.directory.join(JOURNAL), source }
    }

    fn compact_if_worthwhile(&mut self) -> Result<(), JournalError> {
        let is_history = self.bytes / 2 > self.state.bytes_min();
        if self.bytes >= COMPACT_FROM_BYTES && is_history { self.compact() } else { Ok(()) }
    }

    /// Writes what is still needed into a new file and puts it in the place of the journal.
    ///
    /// A crash leaves the old journal, perhaps with an unfinished file beside it, or the new one. A failure leaves it open
    /// which of the two is in place: the journal is not used any further.
    ///
    /// It runs to its end on the calling thread: a caller that stopped waiting half way would go on with the replaced file.
    fn compact(&mut self) -> Result<(), JournalError> {
        let before = std::mem::replace(&mut self.health, Health::Failed);
        let (path, fresh) = (self.directory.join(JOURNAL), self.directory.join(COMPACTED));
        let mut file = File::options().read(true).append(true).create_new(true).open(&fresh).map_err(at(&fresh))?;
        for record in self.state.snapshot() {
            let framed = file::frame(&record).map_err(at(&fresh))?;
            file.write_all(&framed).map_err(at(&fresh))?;
        }
        file.sync_all().map_err(at(&fresh))?;
        fs::rename(&fresh, &path).map_err(at(&path))?;
        sync_directory(&self.directory)?;
        self.bytes = file.metadata().map_err(at(&path))?.len();
        self.file = Arc::new(file);
        // What was not synced before is in the new file, which is.
        self.health = if before == Health::Failed { Health::Failed } else { Health::Sound };
        Ok(())
    }
}

fn lock(directory: &Path) -> Result<File, JournalError> {
    let path = directory.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(JournalError::File { path, source }),
    }
}

fn remove_if_there(path: &Path) -> Result<(), JournalError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), JournalError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> JournalError + use<> {
    let path = path.to_owned();
    move |source| JournalError::File { path: path.clone(), source }
}

#[cfg(test)]
mod tests;
