//! The replicated state: one database, named by a small file beside it.

use std::path::Path;

use proofline_verifier::{Checkpoint, SignedNote, TreeHash as _};
use prost::{Message, bytes::Bytes};
use rocksdb::{DB, Direction, IteratorMode, Options};
use serde::Deserialize;

use super::{LogPlace, OfflineError, Pieces, parse_json, read_file};
use crate::history::{CheckpointSeen, Digest};

const WHAT: &str = "state";

/// `CURRENT`: which database is in use.
#[derive(Deserialize)]
struct Current {
    database: u64,
}

/// The one row of the table `head`, as far as it is looked at.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(uint64, tag = "3")]
    size: u64,
    #[prost(bytes = "vec", tag = "5")]
    state_digest: Vec<u8>,
}

pub(super) struct StateRead {
    pub(super) log: Vec<Bytes>,
    pub(super) state_digest: Digest,
    pub(super) applied: Option<LogPlace>,
    pub(super) checkpoint: Option<CheckpointSeen>,
}

pub(super) fn read(root: &Path) -> Result<StateRead, OfflineError> {
    let current: Current =
        parse_json("the file that names the state", &read_file("the file that names the state", &root.join("CURRENT"))?)?;
    let tables = Tables::open(&root.join(format!("db-{}", current.database)))?;
    let head = tables.row("head", b"")?.unwrap_or_default();
    let head = Head::decode(head.as_slice()).map_err(|error| damaged(format!("table head: {error}")))?;
    let log = tables.log()?;
    if log.len() as u64 != head.size {
        return Err(damaged(format!("{} entries, and the head says {}", log.len(), head.size)));
    }
    let state_digest = match head.state_digest.as_slice() {
        [] => Digest([0; 32]),
        bytes => Digest(bytes.try_into().map_err(|_| damaged("a state digest that is not 32 bytes".to_owned()))?),
    };
    let applied = tables.row("position", b"applied")?;
    let applied = applied.map(|row| Pieces(&row).place().ok_or_else(|| damaged("the applied position".to_owned()))).transpose()?;
    let checkpoint = tables.row("checkpoint", b"")?;
    let checkpoint = checkpoint.map(|note| seen(note).ok_or_else(|| damaged("the published checkpoint".to_owned()))).transpose()?;
    Ok(StateRead { log, state_digest, applied, checkpoint })
}

fn damaged(reason: String) -> OfflineError {
    OfflineError::Damaged { what: "the state", reason }
}

fn seen(note: Vec<u8>) -> Option<CheckpointSeen> {
    let head = Checkpoint::parse_text(SignedNote::parse(&note).ok()?.text()).ok()?.head();
    Some(CheckpointSeen { size: head.size.0, root: Digest(*head.root.as_bytes()), note: String::from_utf8(note).ok()? })
}

struct Tables(DB);

impl Tables {
    fn open(path: &Path) -> Result<Self, OfflineError> {
        let options = Options::default();
        let db = DB::open_cf_for_read_only(&options, path, ["head", "entries", "checkpoint", "position"], false);
        db.map(Self).map_err(failed)
    }

    fn row(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, OfflineError> {
        let family = self.0.cf_handle(table).ok_or_else(|| damaged(format!("table {table} is missing")))?;
        self.0.get_cf(family, key).map_err(failed)
    }

    fn log(&self) -> Result<Vec<Bytes>, OfflineError> {
        let family = self.0.cf_handle("entries").ok_or_else(|| damaged("table entries is missing".to_owned()))?;
        let mut log = Vec::new();
        for row in self.0.iterator_cf(family, IteratorMode::From(&[], Direction::Forward)) {
            let (key, entry) = row.map_err(failed)?;
            if *key != (log.len() as u64).to_be_bytes() {
                return Err(damaged(format!("entry {} is missing", log.len())));
            }
            log.push(Bytes::from(entry.into_vec()));
        }
        Ok(log)
    }
}

fn failed(source: rocksdb::Error) -> OfflineError {
    OfflineError::Database { what: WHAT, source }
}
