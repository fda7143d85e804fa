//! The Raft log: records that are chained by their hashes, and the file that says how long the log must at least be.
//!
//! ```text
//! record  version 1 | term 8 | leader 8 | index 8 | kind 1 | previous 32 | payload | hash 32
//! slot    "PLHWMRK1" | generation 8 | vote 1 + 17 | last record 1 + 24 | hash of it 32 | checksum 32 | zeros to 4,096
//! ```

use std::path::Path;

use rocksdb::{DB, Direction, IteratorMode, Options};

use super::{OfflineError, Pieces, read_file};

const WHAT: &str = "Raft log";
const CHAIN_CONTEXT: &str = "proofline/v1 raft log chain";
const MARK_CONTEXT: &str = "proofline/v1 high-water mark";
const MARK_MAGIC: &[u8; 8] = b"PLHWMRK1";
const SLOT_BYTES: usize = 4_096;
const MARK_BYTES: usize = 8 + 8 + 18 + 25 + 32;

/// A place in the Raft log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace {
    /// Raft term.
    pub term: u64,
    /// Who led.
    pub leader: u64,
    /// Index in the Raft log: not one of an entry.
    pub index: u64,
}

/// What the Raft log must at least hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HighWater {
    /// Term of the last vote; none before the first.
    pub voted_term: Option<u64>,
    /// The last record; none before the first.
    pub last: Option<LogPlace>,
    /// Hash of it.
    pub chain: [u8; 32],
}

/// The Raft log of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRead {
    /// The last record; none when there is none.
    pub last: Option<LogPlace>,
    /// Records that are there.
    pub records: u64,
    /// What the high-water file says.
    pub high_water: HighWater,
}

/// Reads and checks the Raft log: every record's hash, its place, and the chain over all of them.
pub(super) fn read(journal: &Path, high_water: &Path) -> Result<JournalRead, OfflineError> {
    let high_water = newest_mark(&read_file("the high-water file", high_water)?)?;
    let db = DB::open_cf_for_read_only(&Options::default(), journal, ["records", "meta"], false).map_err(failed)?;
    let records = db.cf_handle("records").ok_or_else(|| damaged("the records are missing".to_owned()))?;
    let (mut last, mut chain, mut count) = (None::<LogPlace>, None, 0);
    for row in db.iterator_cf(records, IteratorMode::From(&[], Direction::Forward)) {
        let (key, record) = row.map_err(failed)?;
        let (place, previous, hash) = check(&record).ok_or_else(|| damaged(format!("the record under {}", hex::encode(&key))))?;
        let is_next = last.is_none_or(|before| before.index + 1 == place.index && before.term <= place.term);
        if *key != place.index.to_be_bytes() || !is_next || chain.is_some_and(|chain| chain != previous) {
            return Err(damaged(format!("record {} is out of place", place.index)));
        }
        (last, chain, count) = (Some(place), Some(hash), count + 1);
    }
    let is_long_enough = match (last, high_water.last) {
        (_, None) => true,
        (Some(last), Some(mark)) => last.index >= mark.index,
        // Everything may have been purged behind a snapshot.
        (None, Some(_)) => count == 0,
    };
    if !is_long_enough {
        return Err(damaged(format!("it ends at {last:?}, and must reach {:?}", high_water.last)));
    }
    Ok(JournalRead { last, records: count, high_water })
}

/// Returns a record's place, the hash that it names as the one before, and its own.
fn check(record: &[u8]) -> Option<(LogPlace, [u8; 32], [u8; 32])> {
    let (body, hash) = record.split_last_chunk::<32>()?;
    if blake3::derive_key(CHAIN_CONTEXT, body) != *hash {
        return None;
    }
    let mut pieces = Pieces(body);
    let [version] = pieces.array::<1>()?;
    let place = pieces.place()?;
    let [_kind] = pieces.array::<1>()?;
    (version == 1).then_some((place, pieces.array()?, *hash))
}

fn newest_mark(file: &[u8]) -> Result<HighWater, OfflineError> {
    let marks = file.chunks(SLOT_BYTES).filter_map(mark);
    let newest = marks.max_by_key(|(generation, _)| *generation);
    newest.map(|(_, mark)| mark).ok_or(OfflineError::Damaged { what: "the high-water file", reason: "no slot can be read".to_owned() })
}

fn mark(slot: &[u8]) -> Option<(u64, HighWater)> {
    let (body, rest) = slot.split_at_checked(MARK_BYTES)?;
    if blake3::derive_key(MARK_CONTEXT, body) != *rest.first_chunk::<32>()? {
        return None;
    }
    let mut pieces = Pieces(body);
    if pieces.array::<8>()? != *MARK_MAGIC {
        return None;
    }
    let generation = pieces.number()?;
    let [has_voted] = pieces.array::<1>()?;
    let (term, _node, [_committed]) = (pieces.number()?, pieces.number()?, pieces.array::<1>()?);
    let [has_last] = pieces.array::<1>()?;
    let last = pieces.place()?;
    let high_water =
        HighWater { voted_term: (has_voted == 1).then_some(term), last: (has_last == 1).then_some(last), chain: pieces.array()? };
    Some((generation, high_water))
}

fn damaged(reason: String) -> OfflineError {
    OfflineError::Damaged { what: "the Raft log", reason }
}

fn failed(source: rocksdb::Error) -> OfflineError {
    OfflineError::Database { what: WHAT, source }
}
