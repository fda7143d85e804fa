//! The keys of subjects: one file for each, so that a key can be destroyed where it lies.
//!
//! A key is drawn by this node alone. It is in no log, no snapshot and no backup, and no other node has it.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};
use zeroize::Zeroizing;

use super::VaultError;
use crate::durable;

const KEY_BYTES: usize = 32;
const MARK_BYTES: usize = 16;
/// What the mark of a key is derived for.
const MARK_CONTEXT: &str = "proofline/v1 mark of a payload key";
/// Names of half-written keys end so; no key was ever used under such a name.
const STAGED: &str = "new";

/// Whose key it is, and since which erasure: 0 before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyId {
    pub(super) subject: [u8; 32],
    pub(super) since: u64,
}

/// Seals and opens the payloads of one subject.
pub(super) struct SubjectKey {
    key: LessSafeKey,
    mark: [u8; MARK_BYTES],
}

/// The directory of key files.
#[derive(Debug)]
pub(super) struct KeyFiles {
    root: PathBuf,
}

impl KeyFiles {
    /// On return: the directory is there, for this user alone.
    pub(super) fn open(root: PathBuf) -> Result<Self, VaultError> {
        let failed = |source| VaultError::File { action: "creating", path: root.clone(), source };
        private_directory(&root).map_err(failed)?;
        Ok(Self { root })
    }

    /// Reads a key; `None` when it was never drawn, or destroyed.
    pub(super) fn load(&self, id: KeyId) -> Result<Option<SubjectKey>, VaultError> {
        let path = self.path(id);
        match fs::read(&path) {
            Ok(bytes) => {
                let bytes = Zeroizing::new(bytes);
                SubjectKey::new(&bytes).map(Some).ok_or(VaultError::Damaged { what: "a subject's key file" })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(VaultError::File { action: "reading", path, source }),
        }
    }

    /// Draws a key. On return: it is durable, and nothing was sealed with it before.
    pub(super) fn draw(&self, id: KeyId) -> Result<SubjectKey, VaultError> {
        let path = self.path(id);
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(&mut bytes[..]).map_err(|_| VaultError::Randomness)?;
        write_private(&path, &bytes[..]).map_err(|source| VaultError::File { action: "writing", path, source })?;
        SubjectKey::new(&bytes[..]).ok_or(VaultError::Damaged { what: "a key that was just drawn" })
    }

    /// Destroys the keys of a subject that are older than an erasure: each is overwritten, made durable, and removed.
    ///
    /// On return: no such file is there, after any crash. What a file system or a disk keeps of overwritten blocks is beyond reach.
    pub(super) fn destroy_before(&self, subject: &[u8; 32], erasure: u64) -> Result<u64, VaultError> {
        let directory = self.directory(subject);
        let mut destroyed = 0;
        for (path, since) in self.of(subject)? {
            if since.is_some_and(|since| since >= erasure) {
                continue;
            }
            overwrite(&path).and_then(|()| fs::remove_file(&path)).map_err(|source| VaultError::File {
                action: "destroying",
                path,
                source,
            })?;
            destroyed += 1;
        }
        if destroyed > 0 {
            durable::sync_directory(&directory).map_err(|source| VaultError::File { action: "syncing", path: directory, source })?;
        }
        Ok(destroyed)
    }

    /// Returns how many keys of a subject there are.
    pub(super) fn count(&self, subject: &[u8; 32]) -> Result<u64, VaultError> {
        Ok(self.of(subject)?.iter().filter(|(_, since)| since.is_some()).count() as u64)
    }

    /// Lists the files of a subject, each with the erasure that its name tells; none of a file that was never finished.
    fn of(&self, subject: &[u8; 32]) -> Result<Vec<(PathBuf, Option<u64>)>, VaultError> {
        let (directory, prefix) = (self.directory(subject), OsString::from(hex::encode(subject)));
        let failed = |source| VaultError::File { action: "listing", path: directory.clone(), source };
        let listed = match fs::read_dir(&directory) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut found = Vec::new();
        for entry in listed {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(since) = name.strip_prefix(&*prefix.to_string_lossy()) {
                let since = since.strip_prefix('-').and_then(|digits| digits.parse().ok());
                found.push((path, since));
            }
        }
        Ok(found)
    }

    fn directory(&self, subject: &[u8; 32]) -> PathBuf {
        self.root.join(hex::encode(subject.first_chunk::<1>().copied().unwrap_or_default()))
    }

    fn path(&self, id: KeyId) -> PathBuf {
        self.directory(&id.subject).join(format!("{}-{}", hex::encode(id.subject), id.since))
    }
}

impl SubjectKey {
    fn new(bytes: &[u8]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?);
        let mark = *blake3::derive_key(MARK_CONTEXT, bytes).first_chunk()?;
        Some(Self { key, mark })
    }

    /// Returns what tells this key from any other, and from which nobody finds it.
    pub(super) fn mark(&self) -> &[u8] {
        &self.mark
    }

    /// Seals a plaintext for its place. The nonce stands before what is sealed.
    pub(super) fn seal(&self, place: &[u8], plain: &mut Vec<u8>) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| VaultError::Randomness)?;
        let sealed = self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), plain);
        sealed.map_err(|_| VaultError::Damaged { what: "a payload on its way to be sealed" })?;
        Ok([&nonce[..], plain].concat())
    }

    /// Opens what was sealed for a place; `None` when it is something else.
    pub(super) fn open(&self, place: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let length = self.key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    durable::sync_directory(path.parent().unwrap_or(path))
}

/// On return: the file holds `content` after any crash, for this user alone.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    private_directory(directory)?;
    let staged = path.with_extension(STAGED);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&staged)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    durable::sync_directory(directory)
}

fn overwrite(path: &Path) -> io::Result<()> {
    let length = usize::try_from(fs::metadata(path)?.len()).unwrap_or(KEY_BYTES);
    let mut file: File = OpenOptions::new().write(true).open(path)?;
    file.write_all(&vec![0; length])?;
    file.sync_all()
}
