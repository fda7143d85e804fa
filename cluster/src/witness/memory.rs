//! What a witness cosigned last: a note for each log, replaced as a whole.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use proofline_verifier::{Checkpoint, KeyName, SignedNote};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, MutexGuard};

/// A directory of notes, by the SHA-256 of the log's origin.
#[derive(Debug)]
pub(super) struct Memory {
    directory: PathBuf,
    turn: Mutex<()>,
}

/// The right to compare and replace.
pub(super) struct Turn<'a> {
    directory: &'a Path,
    _turn: MutexGuard<'a, ()>,
}

impl Memory {
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned(), turn: Mutex::default() })
    }

    pub(super) async fn turn(&self) -> Turn<'_> {
        Turn { _turn: self.turn.lock().await, directory: &self.directory }
    }

    pub(super) fn named(&self, origin_sha256: &str) -> io::Result<Option<String>> {
        let is_name = origin_sha256.len() == 64 && origin_sha256.bytes().all(|it| it.is_ascii_hexdigit());
        if is_name { read(&self.directory.join(origin_sha256)) } else { Ok(None) }
    }
}

impl Turn<'_> {
    pub(super) fn newest(&self, origin: &KeyName) -> io::Result<Option<Checkpoint>> {
        let Some(note) = read(&self.path(origin))? else { return Ok(None) };
        let parsed = SignedNote::parse(note.as_bytes()).ok().and_then(|note| Checkpoint::parse_text(note.text()).ok());
        // A memory that cannot be read is none that may be taken for empty.
        parsed
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{} is no checkpoint", self.path(origin).display())))
    }

    pub(super) fn keep(&mut self, origin: &KeyName, note: &str) -> io::Result<()> {
        let path = self.path(origin);
        let fresh = path.with_extension("fresh");
        let mut file = File::create(&fresh)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(self.directory)?.sync_all()
    }

    fn path(&self, origin: &KeyName) -> PathBuf {
        self.directory.join(name(origin))
    }
}

/// Returns the SHA-256 of an origin in hexadecimal digits.
fn name(origin: &KeyName) -> String {
    Sha256::digest(origin.as_str()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(note) => Ok(Some(note)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
