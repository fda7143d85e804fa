//! What stays outside the log: content under salted digests, and the users behind pseudonyms.
//!
//! Everything here can be erased without touching a proof: remove a session's file, and its digests can no longer be
//! opened; remove the pseudonyms' key, and no subject leads back to a user.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use proofline_proto::v1;
use serde_json::json;
use thiserror::Error;

use super::mapping::Content;
use crate::{file_name::file_name, kept_payload::KEPT_SCHEMA};

const OWNER_ONLY_FILE: u32 = 0o600;
const OWNER_ONLY_DIRECTORY: u32 = 0o700;

/// Why content cannot be kept.
#[derive(Debug, Error)]
pub(crate) enum ContentError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{0} is no key of pseudonyms: 64 hex digits")]
    Key(PathBuf),
    #[error("the system gives no randomness: {0}")]
    NoRandomness(getrandom::Error),
}

/// How users become subjects.
#[derive(Clone)]
pub(crate) enum Pseudonyms {
    /// By a keyed hash: the same user is the same subject in every import with this key.
    Keyed(Box<[u8; 32]>),
    /// As the source has them.
    AsGiven,
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Keyed(_) => "Keyed",
            Self::AsGiven => "AsGiven",
        })
    }
}

impl Pseudonyms {
    /// Reads the key, or makes one.
    pub(crate) fn keyed(path: &Path) -> Result<Self, ContentError> {
        match fs::read_to_string(path) {
            Ok(text) => {
                let key = hex::decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
                key.map(|key| Self::Keyed(Box::new(key))).ok_or_else(|| ContentError::Key(path.to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::new_key(path),
            Err(source) => Err(ContentError::File { path: path.to_owned(), source }),
        }
    }

    fn new_key(path: &Path) -> Result<Self, ContentError> {
        let key = random()?;
        let write = || {
            make_directory(path.parent().unwrap_or(Path::new(".")))?;
            let mut file = File::options().write(true).create_new(true).mode(OWNER_ONLY_FILE).open(path)?;
            writeln!(file, "{}", hex::encode(key))?;
            file.sync_all()
        };
        write().map_err(|source| ContentError::File { path: path.to_owned(), source })?;
        Ok(Self::Keyed(Box::new(key)))
    }

    /// Returns the subject of a user.
    pub(crate) fn subject(&self, issuer: &str, user: &str) -> String {
        match self {
            Self::AsGiven => user.to_owned(),
            Self::Keyed(key) => {
                let mut hasher = blake3::Hasher::new_keyed(key);
                hasher.update(&(issuer.len() as u64).to_be_bytes()).update(issuer.as_bytes()).update(user.as_bytes());
                let mut subject = [0; 12];
                hasher.finalize_xof().fill(&mut subject);
                format!("p-{}", hex::encode(subject))
            }
        }
    }
}

/// A directory of content: one file for each session, a line for each commitment.
#[derive(Debug)]
pub(crate) struct PayloadStore {
    directory: PathBuf,
    unsynced: BTreeSet<PathBuf>,
}

impl PayloadStore {
    /// Takes a directory, or makes it.
    pub(crate) fn open(directory: &Path) -> Result<Self, ContentError> {
        make_directory(directory).map_err(|source| ContentError::File { path: directory.to_owned(), source })?;
        Ok(Self { directory: directory.to_owned(), unsynced: BTreeSet::new() })
    }

    /// Keeps the content of an event with fresh salts, and puts their digests into the event.
    pub(crate) fn commit(&mut self, event: &mut v1::Event, content: &[Content]) -> Result<(), ContentError> {
        let session = event.session.as_ref().map_or("", |session| session.session_id.as_str());
        let path = self.directory.join(format!("{}.jsonl", file_name(session)));
        let mut lines = String::new();
        for part in content {
            let salt = random()?;
            let digest = blake3::keyed_hash(&salt, part.text.as_bytes());
            let line = json!({
                "schema": KEPT_SCHEMA, "session_id": session, "event_id": hex::encode(&event.event_id), "name": part.name,
                "digest": digest.to_hex().as_str(), "salt": hex::encode(salt), "content": part.text,
            });
            lines.push_str(&format!("{line}\n"));
            event.payloads.push(v1::Commitment {
                name: part.name.to_owned(),
                algorithm: v1::CommitmentAlgorithm::Blake3Keyed.into(),
                digest: digest.as_bytes().to_vec(),
                size_bytes: part.text.len() as u64,
                media_type: media_type(&part.text).to_owned(),
                ..Default::default()
            });
        }
        append(&path, &lines).map_err(|source| ContentError::File { path: path.clone(), source })?;
        self.unsynced.insert(path);
        Ok(())
    }

    /// On return: everything that was kept is on disk. Called before the events are sent: a digest without its salt is worth
    /// nothing.
    pub(crate) fn sync(&mut self) -> Result<(), ContentError> {
        for path in std::mem::take(&mut self.unsynced) {
            File::open(&path).and_then(|file| file.sync_all()).map_err(|source| ContentError::File { path, source })?;
        }
        Ok(())
    }
}

fn append(path: &Path, lines: &str) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).mode(OWNER_ONLY_FILE).open(path)?;
    file.write_all(lines.as_bytes())
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(OWNER_ONLY_DIRECTORY).create(path)
}

fn media_type(text: &str) -> &'static str {
    if matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'[')) { "application/json" } else { "text/plain" }
}

fn random() -> Result<[u8; 32], ContentError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(ContentError::NoRandomness)?;
    Ok(bytes)
}
