//! An archive: the log as C2SP tlog-tiles in a directory that any web server can serve.
//!
//! Always true: `checkpoint` is written last, so whatever it covers is there and leads to its root. A run that was
//! interrupted leaves whole files that the next one reads again and goes on from.

use std::{
    collections::BTreeSet,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use proofline_verifier::{Checkpoint, EntryIndex, KeyName, LogHash, SignedNote, TreeHead, TreeSize, VerifiedCheckpoint};
use thiserror::Error;

use crate::{
    call::CallError,
    client::Client,
    entries::{EntryReader, Reading},
    tile::{TileFile, TileTree, WIDTH, bundle, bundle_path, unbundle},
    whole_file::{Existing, write_file},
};

const CHECKPOINT: &str = "checkpoint";
const PART: &str = ".part";
/// Held by the run that extends the archive. It stays, empty: a file that comes and goes could be held twice.
const LOCK: &str = ".lock";
/// What Linux says where a network file system has no service for locks.
const ENOLCK: i32 = 37;

/// Why an archive could not be written or read.
#[derive(Debug, Error)]
pub enum TileArchiveError {
    /// The ledger refused, or could not be reached in time.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The file system refused.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A file of the archive is not there.
    #[error("{file} is missing")]
    Missing {
        /// Which, relative to the archive.
        file: String,
    },
    /// A file is not what it should be.
    #[error(
        "{file} is not what the entries make of it: it was altered, or the entries beside it were; `proofline archive-check` says which"
    )]
    Differs {
        /// Which, relative to the archive.
        file: String,
    },
    /// The entries are not those of the checkpoint.
    #[error("the entries lead to root {computed} at size {size}, not to {expected}")]
    OtherRoot {
        /// Entries in question.
        size: TreeSize,
        /// Root of what was read.
        computed: LogHash,
        /// Root in the checkpoint.
        expected: LogHash,
    },
    /// The directory holds the archive of a log of another name or key.
    #[error("the directory holds the archive of another log: its checkpoint is of {archived}, and is not signed by the key of {origin}")]
    OtherLog {
        /// By its checkpoint.
        archived: KeyName,
        /// Of the log that is to be archived.
        origin: KeyName,
    },
    /// The archive is ahead of the checkpoint that was fetched.
    #[error("the archive holds {archived} entries already, the ledger's checkpoint covers {size}")]
    Newer {
        /// By its own checkpoint.
        archived: TreeSize,
        /// In the checkpoint that was fetched.
        size: TreeSize,
    },
    /// Another run extends the archive: what both wrote would be a mixture.
    #[error("{path} is in use by another run")]
    InUse {
        /// The archive.
        path: PathBuf,
    },
    /// An entry does not fit a bundle.
    #[error("an entry from {first} on is longer than 65,535 bytes")]
    TooLong {
        /// First of the bundle.
        first: EntryIndex,
    },
}

/// What one run added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Entries that were there already, and read again.
    pub kept: u64,
    /// Entries that were fetched.
    pub fetched: u64,
}

/// What a check of an archive found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArchiveFinding {
    /// Every file is there and is what the checkpoint says.
    Whole {
        /// Tiles, bundles and the checkpoint.
        files: u64,
    },
    /// A file is not what the checkpoint says.
    Altered(String),
    /// Entries and tiles agree with each other, but not with the checkpoint.
    OtherRoot(LogHash),
    /// A file is not there.
    Missing(String),
    /// A file belongs to no archive of this size.
    Superfluous(String),
}

/// A directory with an archive, or for one.
#[derive(Clone, Debug)]
pub struct TileArchive {
    root: PathBuf,
}

impl TileArchive {
    /// Names the directory; nothing is read yet.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Returns the archive's checkpoint, a signed note. It is not verified.
    ///
    /// # Errors
    /// [`TileArchiveError`]; [`TileArchiveError::Missing`] when no run ended yet.
    pub fn checkpoint(&self) -> Result<Vec<u8>, TileArchiveError> {
        self.read(CHECKPOINT)?.ok_or_else(|| TileArchiveError::Missing { file: CHECKPOINT.to_owned() })
    }

    /// Brings the archive up to a verified checkpoint, whose note is `note`. Entries that it holds are not fetched again.
    ///
    /// On return: every tile follows from the entries, they lead to the checkpoint's root, and `checkpoint` says so.
    ///
    /// # Errors
    /// [`TileArchiveError`]; what was fetched in this run and led elsewhere is removed.
    pub async fn extend(
        &self,
        client: &Client,
        to: &VerifiedCheckpoint,
        note: &[u8],
        mut progress: impl FnMut(u64),
    ) -> Result<Archived, TileArchiveError> {
        let _lock = self.lock()?;
        let before = self.head(to, note)?;
        let mut run = Run { archive: self, tree: TileTree::default(), before, written: Vec::new() };
        if let Some(before) = run.before.filter(|before| before.size > to.size) {
            return Err(TileArchiveError::Newer { archived: before.size, size: to.size });
        }
        let kept = run.take_kept(to.size, &mut progress)?;
        let result = run.fetch(client, to, &mut progress).await;
        if let Err(TileArchiveError::OtherRoot { .. }) = result {
            run.written.iter().try_for_each(|path| self.remove(path))?;
        }
        let partial = result?;
        self.write(CHECKPOINT, note)?;
        self.remove_stale(&partial)?;
        Ok(Archived { kept, fetched: to.size.0 - kept })
    }

    /// Makes every tile and the root anew out of the entry bundles, and compares.
    ///
    /// # Errors
    /// [`TileArchiveError::File`] when a file cannot be read.
    pub fn check(&self, checkpoint: &VerifiedCheckpoint, mut progress: impl FnMut(u64)) -> Result<ArchiveFinding, TileArchiveError> {
        let mut check = Check { archive: self, unseen: self.list()?, files: 1, altered: None, missing: None };
        for file in [CHECKPOINT, LOCK] {
            check.unseen.remove(file);
        }
        let mut tree = TileTree::default();
        for (number, width) in bundles(checkpoint.size) {
            let path = bundle_path(number, width);
            let Some(bytes) = check.see(&path)? else { return Ok(ArchiveFinding::Missing(path)) };
            let Some(entries) = unbundle(&bytes, width) else { return Ok(ArchiveFinding::Altered(path)) };
            let full: Vec<_> = entries.iter().flat_map(|entry| tree.push(entry)).collect();
            full.iter().try_for_each(|file| check.compare(file, &path))?;
            if width < WIDTH {
                tree.partial().iter().filter(|file| file.path.starts_with("tile/0/")).try_for_each(|file| check.compare(file, &path))?;
            }
            progress(width);
        }
        let above = tree.partial().into_iter().filter(|file| !file.path.starts_with("tile/0/"));
        above.into_iter().try_for_each(|file| check.compare(&file, CHECKPOINT))?;
        Ok(check.finding(tree.root(), checkpoint.root))
    }

    /// Keeps other runs out for as long as the file is open.
    fn lock(&self) -> Result<File, TileArchiveError> {
        let path = self.root.join(LOCK);
        let opened = fs::create_dir_all(&self.root)
            .and_then(|()| File::options().create(true).truncate(false).write(true).open(&path))
            .and_then(|file| match file.try_lock() {
                Ok(()) => Ok(Some(file)),
                Err(TryLockError::WouldBlock) => Ok(None),
                // A file system without locks is no reason to have no archive.
                Err(TryLockError::Error(error)) if has_no_locks(&error) => Ok(Some(file)),
                Err(TryLockError::Error(error)) => Err(error),
            });
        opened.map_err(|source| TileArchiveError::File { path, source })?.ok_or_else(|| TileArchiveError::InUse { path: self.root.clone() })
    }

    /// Reads the entries below `size`, bundle by bundle. They are not verified: compare their root.
    pub fn entries(&self, size: TreeSize) -> impl Iterator<Item = Result<Vec<Bytes>, TileArchiveError>> + '_ {
        bundles(size).map(|(number, width)| self.read_bundle(number, width))
    }

    fn read_bundle(&self, number: u64, width: u64) -> Result<Vec<Bytes>, TileArchiveError> {
        let file = bundle_path(number, width);
        let Some(bytes) = self.read(&file)? else { return Err(TileArchiveError::Missing { file }) };
        let entries = unbundle(&bytes, width).ok_or(TileArchiveError::Differs { file })?;
        Ok(entries.into_iter().map(Bytes::copy_from_slice).collect())
    }

    /// Size and root that the archive's checkpoint names, when there is one. It has to be of the log that signed `newer`.
    fn head(&self, to: &VerifiedCheckpoint, newer: &[u8]) -> Result<Option<TreeHead<LogHash>>, TileArchiveError> {
        let Some(note) = self.read(CHECKPOINT)? else { return Ok(None) };
        let read = |bytes: &[u8]| {
            let note = SignedNote::parse(bytes).ok()?;
            Some((Checkpoint::parse_text(note.text()).ok()?, note))
        };
        let differs = || TileArchiveError::Differs { file: CHECKPOINT.to_owned() };
        let ((archived, ours), (_, newer)) = read(&note).zip(read(newer)).ok_or_else(differs)?;
        let by_log = |note: &SignedNote| -> BTreeSet<[u8; 4]> {
            note.signatures().iter().filter(|one| one.name == to.origin).map(|one| one.id.0).collect()
        };
        if by_log(&ours).is_disjoint(&by_log(&newer)) {
            return Err(TileArchiveError::OtherLog { archived: archived.origin, origin: to.origin.clone() });
        }
        Ok(Some(archived.head()))
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, TileArchiveError> {
        let path = self.root.join(path);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TileArchiveError::File { path, source }),
        }
    }

    /// On return: the file is there and durable, whole or not at all.
    fn write(&self, path: &str, bytes: &[u8]) -> Result<(), TileArchiveError> {
        let path = self.root.join(path);
        let written = || {
            fs::create_dir_all(path.parent().ok_or(io::ErrorKind::InvalidFilename)?)?;
            write_file(&path, bytes, Existing::Replaced)
        };
        written().map_err(|source| TileArchiveError::File { path: path.clone(), source })
    }

    fn remove(&self, path: &str) -> Result<(), TileArchiveError> {
        let path = self.root.join(path);
        fs::remove_file(&path).map_err(|source| TileArchiveError::File { path: path.clone(), source })?;
        if let Some(directory) = path.parent().filter(|it| it.extension().is_some_and(|kind| kind == "p")) {
            // The directory of partial tiles stays while another one is in it.
            let _ = fs::remove_dir(directory);
        }
        Ok(())
    }

    /// Removes partial tiles of smaller sizes, and what interrupted runs left.
    fn remove_stale(&self, partial: &BTreeSet<String>) -> Result<(), TileArchiveError> {
        let is_stale = |path: &&String| path.ends_with(PART) || (path.contains(".p/") && !partial.contains(*path));
        let ours = self.list()?;
        let is_ours = |path: &&String| path.starts_with("tile/") || path.starts_with(".checkpoint.");
        ours.iter().filter(is_ours).filter(is_stale).try_for_each(|path| self.remove(path))
    }

    /// Lists every file, relative to the archive.
    fn list(&self) -> Result<BTreeSet<String>, TileArchiveError> {
        let (mut found, mut directories) = (BTreeSet::new(), vec![String::new()]);
        while let Some(directory) = directories.pop() {
            let path = self.root.join(&directory);
            let failed = |source| TileArchiveError::File { path: path.clone(), source };
            for entry in fs::read_dir(&path).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = format!("{directory}{}", entry.file_name().to_string_lossy());
                if entry.file_type().map_err(failed)?.is_dir() {
                    directories.push(format!("{name}/"));
                } else {
                    found.insert(name);
                }
            }
        }
        Ok(found)
    }
}

fn has_no_locks(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(ENOLCK)
}

/// Numbers and widths of the bundles of a log of this size.
fn bundles(size: TreeSize) -> impl Iterator<Item = (u64, u64)> {
    (0..size.0.div_ceil(WIDTH)).map(move |number| (number, WIDTH.min(size.0 - number * WIDTH)))
}

/// One run that extends an archive.
struct Run<'a> {
    archive: &'a TileArchive,
    tree: TileTree,
    /// What the archive's checkpoint said before.
    before: Option<TreeHead<LogHash>>,
    /// Files that this run made.
    written: Vec<String>,
}

impl Run<'_> {
    /// Takes the full bundles that are there, one behind the other, and returns how many entries they hold.
    fn take_kept(&mut self, size: TreeSize, progress: &mut impl FnMut(u64)) -> Result<u64, TileArchiveError> {
        for (number, width) in bundles(size).filter(|(_, width)| *width == WIDTH) {
            match self.archive.read_bundle(number, width) {
                Ok(entries) => self.push(&entries)?,
                Err(TileArchiveError::Missing { .. }) => break,
                Err(error) => return Err(error),
            }
            progress(width);
        }
        Ok(self.tree.size().0)
    }

    /// Fetches what is missing up to a checkpoint, and returns the files that are not full.
    async fn fetch(
        &mut self,
        client: &Client,
        to: &VerifiedCheckpoint,
        progress: &mut impl FnMut(u64),
    ) -> Result<BTreeSet<String>, TileArchiveError> {
        let from = EntryIndex(self.tree.size().0);
        let mut reader = EntryReader::new(client.clone(), from, Reading::Until(EntryIndex(to.size.0)));
        let mut waiting: Vec<Bytes> = Vec::new();
        while let Some(run) = reader.next().await? {
            progress(run.entries.len() as u64);
            for entry in run.entries {
                waiting.push(entry);
                if waiting.len() as u64 == WIDTH {
                    self.add_bundle(&waiting)?;
                    waiting.clear();
                }
            }
        }
        let first = self.tree.size().0;
        self.push(&waiting)?;
        let (size, computed) = (self.tree.size(), self.tree.root());
        if (size, computed) != (to.size, to.root) {
            return Err(TileArchiveError::OtherRoot { size, computed, expected: to.root });
        }
        let mut partial = self.tree.partial();
        if !waiting.is_empty() {
            let bytes = bundle(&waiting).ok_or(TileArchiveError::TooLong { first: EntryIndex(first) })?;
            partial.push(TileFile { path: bundle_path(first / WIDTH, waiting.len() as u64), bytes });
        }
        partial.iter().try_for_each(|file| self.keep(file))?;
        Ok(partial.into_iter().map(|file| file.path).collect())
    }

    /// The bundle goes first: a run that is interrupted behind it makes its tiles again.
    fn add_bundle(&mut self, entries: &[Bytes]) -> Result<(), TileArchiveError> {
        let first = self.tree.size().0;
        let bytes = bundle(entries).ok_or(TileArchiveError::TooLong { first: EntryIndex(first) })?;
        self.keep(&TileFile { path: bundle_path(first / WIDTH, WIDTH), bytes })?;
        self.push(entries)
    }

    fn push(&mut self, entries: &[Bytes]) -> Result<(), TileArchiveError> {
        for entry in entries {
            let full = self.tree.push(entry);
            full.iter().try_for_each(|file| self.keep(file))?;
            let size = self.tree.size();
            if let Some(before) = self.before.filter(|before| before.size == size) {
                let computed = self.tree.root();
                if computed != before.root {
                    return Err(TileArchiveError::OtherRoot { size, computed, expected: before.root });
                }
            }
        }
        Ok(())
    }

    /// Writes a file, unless it is there; what is there must be the same.
    fn keep(&mut self, file: &TileFile) -> Result<(), TileArchiveError> {
        match self.archive.read(&file.path)? {
            Some(bytes) if bytes == file.bytes => Ok(()),
            Some(_) => Err(TileArchiveError::Differs { file: file.path.clone() }),
            None => {
                self.archive.write(&file.path, &file.bytes)?;
                self.written.push(file.path.clone());
                Ok(())
            }
        }
    }
}

/// One check of an archive.
struct Check<'a> {
    archive: &'a TileArchive,
    unseen: BTreeSet<String>,
    files: u64,
    /// The first tile that is not what the entries make of it, and the bundle or file that it was made of.
    altered: Option<(String, String)>,
    missing: Option<String>,
}

impl Check<'_> {
    fn see(&mut self, path: &str) -> Result<Option<Vec<u8>>, TileArchiveError> {
        self.unseen.remove(path);
        self.files += 1;
        self.archive.read(path)
    }

    fn compare(&mut self, computed: &TileFile, made_of: &str) -> Result<(), TileArchiveError> {
        match self.see(&computed.path)? {
            None => _ = self.missing.get_or_insert(computed.path.clone()),
            Some(bytes) if bytes != computed.bytes => {
                self.altered.get_or_insert((computed.path.clone(), made_of.to_owned()));
            }
            Some(_) => (),
        }
        Ok(())
    }

    /// With the right root every entry is right, so that a tile which differs was altered; else the entries were.
    fn finding(self, computed: LogHash, expected: LogHash) -> ArchiveFinding {
        match (self.altered, self.missing, self.unseen.into_iter().next()) {
            (Some((tile, _)), ..) if computed == expected => ArchiveFinding::Altered(tile),
            (Some((_, made_of)), ..) => ArchiveFinding::Altered(made_of),
            (None, ..) if computed != expected => ArchiveFinding::OtherRoot(computed),
            (None, Some(missing), _) => ArchiveFinding::Missing(missing),
            (None, None, Some(superfluous)) => ArchiveFinding::Superfluous(superfluous),
            (None, None, None) => ArchiveFinding::Whole { files: self.files },
        }
    }
}
