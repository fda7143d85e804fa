//! Row keys. Integers are big-endian, strings carry their length, so that no key is a prefix of another by accident.

use smallvec::SmallVec;

use crate::hash::Hash;
use crate::ids::{EntryIndex, Epoch, Lane, Position, Sequence, SessionOrdinal, UnixNanos};

/// The key of a table that has one row.
pub(crate) const SINGLE: &[u8] = b"";

/// A key that is built to be looked up: most need no memory of their own.
pub(crate) type RowKey = SmallVec<[u8; SHORT_BYTES]>;

/// How long keys may be that need no memory of their own.
const SHORT_BYTES: usize = 96;

/// Joins the pieces of a key.
pub(crate) fn join(pieces: &[&[u8]]) -> RowKey {
    let mut short = [0; SHORT_BYTES];
    let mut room = short.as_mut_slice();
    for piece in pieces {
        let Some((place, rest)) = room.split_at_mut_checked(piece.len()) else { return pieces.concat().into() };
        place.copy_from_slice(piece);
        room = rest;
    }
    let length = SHORT_BYTES - room.len();
    RowKey::from_buf_and_len(short, length)
}

/// The length of a text, as it stands before it. Identifiers are at most ID_BYTES_MAX long where they enter.
pub(crate) fn length(text: &str) -> [u8; 2] {
    u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes()
}

pub(crate) fn push_text(key: &mut RowKey, text: &str) {
    key.extend_from_slice(&length(text));
    key.extend_from_slice(text.as_bytes());
}

pub(crate) fn text(one: &str) -> RowKey {
    join(&[&length(one), one.as_bytes()])
}

/// Tenant and an identifier within it.
pub(crate) fn scoped(tenant: &str, id: &str) -> RowKey {
    join(&[&length(tenant), tenant.as_bytes(), &length(id), id.as_bytes()])
}

pub(crate) fn entry(index: EntryIndex) -> [u8; 8] {
    index.0.to_be_bytes()
}

pub(crate) fn lane(collector: &str, lane: Lane) -> RowKey {
    let mut key = text(collector);
    key.extend_from_slice(&lane.0.to_be_bytes());
    key
}

pub(crate) fn lane_epoch(collector: &str, of: Lane, epoch: Epoch) -> RowKey {
    let mut key = lane(collector, of);
    key.extend_from_slice(&epoch.0.to_be_bytes());
    key
}

pub(crate) fn statement(collector: &str, of: Lane, epoch: Epoch, sequence: Sequence) -> RowKey {
    let mut key = lane_epoch(collector, of, epoch);
    key.extend_from_slice(&sequence.0.to_be_bytes());
    key
}

pub(crate) fn session_head(ordinal: SessionOrdinal) -> [u8; 8] {
    ordinal.0.to_be_bytes()
}

pub(crate) fn session_leaf(ordinal: SessionOrdinal, position: Position) -> [u8; 16] {
    pair(ordinal.0, position.0)
}

pub(crate) fn session_chunk(ordinal: SessionOrdinal, chunk: u64) -> [u8; 16] {
    pair(ordinal.0, chunk)
}

fn pair(first: u64, second: u64) -> [u8; 16] {
    let mut key = [0; 16];
    let (left, right) = key.split_at_mut(8);
    left.copy_from_slice(&first.to_be_bytes());
    right.copy_from_slice(&second.to_be_bytes());
    key
}

pub(crate) fn log_hash(level: u8, number: u64) -> [u8; 9] {
    let mut key = [level; 9];
    if let Some(tail) = key.last_chunk_mut::<8>() {
        *tail = number.to_be_bytes();
    }
    key
}

pub(crate) fn command_nonce(expires: UnixNanos, nonce: &[u8]) -> Vec<u8> {
    [&expires.0.to_be_bytes()[..], nonce].concat()
}

pub(crate) fn command(subject: &str, index: EntryIndex) -> RowKey {
    let mut key = text(subject);
    key.extend_from_slice(&index.0.to_be_bytes());
    key
}

pub(crate) fn grant(spiffe_id: &str, role: i32, tenant: &str) -> RowKey {
    let mut key = text(spiffe_id);
    key.extend_from_slice(&role.to_be_bytes());
    push_text(&mut key, tenant);
    key
}

/// A message of an outlet: the change that it is about, and its place among the messages about it.
pub(crate) fn outbox(outlet: &str, index: EntryIndex, ordinal: u32) -> RowKey {
    let mut key = text(outlet);
    key.extend_from_slice(&index.0.to_be_bytes());
    key.extend_from_slice(&ordinal.to_be_bytes());
    key
}

/// Reads the end of a key that [`outbox`] made.
pub(crate) fn outbox_place(key: &[u8]) -> Option<(EntryIndex, u32)> {
    let (rest, ordinal) = key.split_last_chunk()?;
    let index = rest.last_chunk()?;
    Some((EntryIndex(u64::from_be_bytes(*index)), u32::from_be_bytes(*ordinal)))
}

pub(crate) fn after_containment(containment: u64, index: EntryIndex) -> [u8; 16] {
    pair(containment, index.0)
}

pub(crate) fn delivery(outlet: &str, index: EntryIndex) -> RowKey {
    let mut key = text(outlet);
    key.extend_from_slice(&index.0.to_be_bytes());
    key
}

/// A block of the list of a key, by the key's hash.
pub(crate) fn key_block(of: &Hash, number: u64) -> Vec<u8> {
    [&of.0[..], &number.to_be_bytes()].concat()
}

/// A subtree of the list of a key, by the key's hash.
pub(crate) fn key_hash(of: &Hash, level: u8, number: u64) -> Vec<u8> {
    [&of.0[..], &[level], &number.to_be_bytes()].concat()
}

/// The first key behind every key that begins with `prefix`.
pub(crate) fn behind(prefix: &[u8]) -> RowKey {
    let mut key = RowKey::from_slice(prefix);
    while let Some(last) = key.pop() {
        if last < u8::MAX {
            key.push(last + 1);
            return key;
        }
    }
    RowKey::from_elem(u8::MAX, 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_pieces_whatever_their_length() {
        for length in [0, 1, SHORT_BYTES - 4, SHORT_BYTES - 3, SHORT_BYTES - 2, SHORT_BYTES, 600] {
            let long = vec![7; length];
            for pieces in [[&[1, 2][..], &long, &[3]], [&long[..], &[1], &[2, 3]], [&[1], &[2, 3], &long]] {
                assert_eq!(join(&pieces).as_slice(), pieces.concat(), "{length}");
            }
        }
    }
}
