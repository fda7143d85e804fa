//! One record of the journal: a Raft entry, chained to the one before it.
//!
//! ```text
//! version 1 | log id 24 | kind 1 | previous 32 | payload ... | chain hash 32
//! ```
//! The chain hash is BLAKE3 with the context of the log chain over everything before it. It is at once the record's checksum
//! and what the next record names as `previous`, so that a record can neither change nor move nor go missing unnoticed.

use std::fmt;

use bytes::Bytes;
use openraft::{Entry, EntryPayload, LogId};
use thiserror::Error;

use super::{
    JournalError,
    layout::{Cursor, put_log_id},
};
use crate::replica::{Group, TypeConfig};

const CONTEXT: &str = "proofline/v1 raft log chain";
const VERSION: u8 = 1;
const HASH_BYTES: usize = 32;
const HEADER_BYTES: usize = 1 + 24 + 1 + HASH_BYTES;

/// Hash over a record and, through it, over every record before it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ChainHash(pub(super) [u8; HASH_BYTES]);

impl ChainHash {
    /// Returns what the first record names as its predecessor: nothing.
    pub(super) const START: Self = Self([0; HASH_BYTES]);

    fn over(bytes: &[u8]) -> Self {
        Self(blake3::derive_key(CONTEXT, bytes))
    }

    /// Begins a chain anew behind `log_id`, whose record was never here: a snapshot took its place.
    pub(super) fn anchor(log_id: &LogId<u64>) -> Self {
        let mut bytes = Vec::with_capacity(24);
        put_log_id(&mut bytes, log_id);
        Self::over(&bytes)
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RecordDamage {
    /// Its end is missing.
    #[error("too short")]
    Short,
    /// Its hash is not the hash of its bytes.
    #[error("the checksum does not match")]
    Checksum,
    /// Another version wrote it.
    #[error("unknown version")]
    Version,
    /// It is intact, but stands under another key.
    #[error("it carries another index")]
    Misplaced,
    /// It is intact, but carries something unknown.
    #[error("unknown payload")]
    Payload,
}

#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Blank = 0,
    Group = 1,
    Membership = 2,
}

impl Kind {
    fn parse(byte: u8) -> Result<Self, RecordDamage> {
        match byte {
            0 => Ok(Self::Blank),
            1 => Ok(Self::Group),
            2 => Ok(Self::Membership),
            _ => Err(RecordDamage::Payload),
        }
    }
}

/// The chained part of a record whose checksum was verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) log_id: LogId<u64>,
    pub(super) previous: ChainHash,
    pub(super) hash: ChainHash,
}

/// Encodes `entry` as the record that follows `previous`.
pub(super) fn encode(entry: &Entry<TypeConfig>, previous: ChainHash) -> Result<(Vec<u8>, ChainHash), JournalError> {
    let membership;
    let (kind, payload): (Kind, &[u8]) = match &entry.payload {
        EntryPayload::Blank => (Kind::Blank, &[]),
        EntryPayload::Normal(group) => (Kind::Group, group.bytes()),
        EntryPayload::Membership(of) => {
            let index = entry.log_id.index;
            membership = serde_json::to_vec(of).map_err(|source| JournalError::Payload { index, source })?;
            (Kind::Membership, &membership)
        }
    };
    let mut record = Vec::with_capacity(HEADER_BYTES + payload.len() + HASH_BYTES);
    record.push(VERSION);
    put_log_id(&mut record, &entry.log_id);
    record.push(kind as u8);
    record.extend_from_slice(&previous.0);
    record.extend_from_slice(payload);
    let hash = ChainHash::over(&record);
    record.extend_from_slice(&hash.0);
    Ok((record, hash))
}

/// Verifies the record that stands under `index` and returns its place in the chain.
pub(super) fn link(index: u64, record: &[u8]) -> Result<Link, RecordDamage> {
    parse(index, record).map(|(link, _)| link)
}

/// Verifies the record that stands under `index` and returns its entry. The payload is not copied.
pub(super) fn decode(index: u64, record: Vec<u8>) -> Result<Entry<TypeConfig>, RecordDamage> {
    let (Link { log_id, .. }, kind) = parse(index, &record)?;
    let end = record.len().saturating_sub(HASH_BYTES);
    let payload = Bytes::from(record).slice(HEADER_BYTES..end);
    let payload = match kind {
        Kind::Blank => EntryPayload::Blank,
        Kind::Group => EntryPayload::Normal(Group::new(payload)),
        Kind::Membership => EntryPayload::Membership(serde_json::from_slice(&payload).map_err(|_| RecordDamage::Payload)?),
    };
    Ok(Entry { log_id, payload })
}

fn parse(index: u64, record: &[u8]) -> Result<(Link, Kind), RecordDamage> {
    let (body, hash) = record.split_last_chunk::<HASH_BYTES>().ok_or(RecordDamage::Short)?;
    let hash = ChainHash(*hash);
    if ChainHash::over(body) != hash {
        return Err(RecordDamage::Checksum);
    }
    let mut cursor = Cursor(body);
    if cursor.byte().ok_or(RecordDamage::Short)? != VERSION {
        return Err(RecordDamage::Version);
    }
    let log_id = cursor.log_id().ok_or(RecordDamage::Short)?;
    let kind = Kind::parse(cursor.byte().ok_or(RecordDamage::Short)?)?;
    let previous = ChainHash(cursor.array().ok_or(RecordDamage::Short)?);
    if log_id.index != index {
        return Err(RecordDamage::Misplaced);
    }
    Ok((Link { log_id, previous, hash }, kind))
}

#[cfg(test)]
mod tests {
    use openraft::CommittedLeaderId;

    use super::*;

    fn entry(index: u64, payload: &'static [u8]) -> Entry<TypeConfig> {
        let log_id = LogId::new(CommittedLeaderId::new(3, 2), index);
        Entry { log_id, payload: EntryPayload::Normal(Group::new(Bytes::from_static(payload))) }
    }

    #[test]
    fn a_record_returns_its_entry() {
        let (record, hash) = encode(&entry(7, b"group"), ChainHash::START).unwrap();
        assert_eq!(link(7, &record).unwrap().hash, hash);
        assert_eq!(decode(7, record).unwrap(), entry(7, b"group"));
    }

    #[test]
    fn a_record_with_any_flipped_bit_is_damaged() {
        let (record, _) = encode(&entry(7, b"group"), ChainHash::START).unwrap();
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(link(7, &flipped).unwrap_err(), RecordDamage::Checksum);
        }
    }

    #[test]
    fn a_shortened_record_is_damaged() {
        let (record, _) = encode(&entry(7, b"group"), ChainHash::START).unwrap();
        for length in 0..record.len() {
            assert!(link(7, &record[..length]).is_err());
        }
    }

    #[test]
    fn an_intact_record_in_another_place_is_damaged() {
        let (record, _) = encode(&entry(7, b"group"), ChainHash::START).unwrap();
        assert_eq!(link(8, &record).unwrap_err(), RecordDamage::Misplaced);
    }
}
