//! The rows of the payload store, and their keys. Integers are big-endian.

use proofline_ledger::{CommittedPayload, EntryIndex, Subject};
use prost::Message;

/// Where a payload lies among its subject's.
pub(super) const PAYLOADS: &str = "payloads";
/// Which payloads are here, by tenant, entry and digest.
pub(super) const PLACES: &str = "places";
/// The same in the order in which they came.
pub(super) const ARRIVALS: &str = "arrivals";
/// Erasures that were carried out, by subject.
pub(super) const ERASED: &str = "erased";
/// What is here of each tenant.
pub(super) const TOTALS: &str = "totals";
/// What erasures have left to do: rows to be removed, then files to be written again.
pub(super) const REWRITES: &str = "rewrites";
pub(super) const FAMILIES: [&str; 6] = [PAYLOADS, PLACES, ARRIVALS, ERASED, TOTALS, REWRITES];
/// Under this key [`ERASED`] has the ordinal through which every erasure was carried out.
pub(super) const THROUGH: &[u8] = b"through";

/// What is sealed: the salt dies with the key.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PlainRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) salt: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) content: Vec<u8>,
}

/// A row of [`PLACES`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct PlaceRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) subject: Vec<u8>,
    /// The erasure since which its key is in use.
    #[prost(uint64, tag = "2")]
    pub(super) since: u64,
    #[prost(uint64, tag = "3")]
    pub(super) number: u64,
    #[prost(uint64, tag = "4")]
    pub(super) bytes: u64,
    /// Tells the key that sealed it from any other; says nothing of the key itself.
    #[prost(bytes = "vec", tag = "5")]
    pub(super) key_mark: Vec<u8>,
}

/// A row of [`ARRIVALS`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct ArrivalRow {
    #[prost(uint64, tag = "1")]
    pub(super) index: u64,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) digest: Vec<u8>,
}

/// A row of [`ERASED`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct ErasedRow {
    #[prost(uint64, tag = "1")]
    pub(super) index: u64,
    /// 0 while it is being carried out.
    #[prost(uint64, tag = "2")]
    pub(super) destroyed_unix_ns: u64,
}

/// A row of [`REWRITES`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct RewriteRow {
    #[prost(string, tag = "1")]
    pub(super) tenant: String,
    /// The erasure: keys from before it are destroyed.
    #[prost(uint64, tag = "2")]
    pub(super) index: u64,
}

/// What a subject that was erased waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Waiting {
    /// That its rows are removed. One row of [`REWRITES`] for each subject.
    ForRows = 0,
    /// That files which had them are written again. One row for each erasure: whoever writes files removes what it knew of.
    ForFiles = 1,
}

/// A row of [`TOTALS`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct TotalsRow {
    #[prost(uint64, tag = "1")]
    pub(super) payloads: u64,
    #[prost(uint64, tag = "2")]
    pub(super) bytes: u64,
}

/// Names a subject on this disk: nobody reads a pseudonym off a file name.
pub(super) fn subject_id(of: &Subject) -> [u8; 32] {
    blake3::derive_key("proofline/v1 payload subject", &of.key())
}

pub(super) fn rewrite_key(waiting: Waiting, subject: &[u8; 32], index: u64) -> Vec<u8> {
    [&[waiting as u8], &subject[..], &index.to_be_bytes()].concat()
}

pub(super) fn subject_of_rewrite(key: &[u8]) -> Option<[u8; 32]> {
    key.split_first()?.1.first_chunk().copied()
}

pub(super) fn tenant_prefix(tenant: &str) -> Vec<u8> {
    let mut key = u16::try_from(tenant.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    key.extend_from_slice(tenant.as_bytes());
    key
}

pub(super) fn place_key(tenant: &str, index: EntryIndex, digest: &[u8]) -> Vec<u8> {
    [&tenant_prefix(tenant)[..], &index.0.to_be_bytes(), digest].concat()
}

pub(super) fn payload_key(subject: &[u8], since: u64, index: EntryIndex, digest: &[u8]) -> Vec<u8> {
    [&generation(subject, since)[..], &index.0.to_be_bytes(), digest].concat()
}

/// What the keys of a subject's payloads under one key begin with.
pub(super) fn generation(subject: &[u8], since: u64) -> Vec<u8> {
    [subject, &since.to_be_bytes()].concat()
}

/// Reads entry and digest off the end of a key.
pub(super) fn entry_of(key: &[u8]) -> Option<(EntryIndex, [u8; 32])> {
    let (rest, digest) = key.split_last_chunk::<32>()?;
    let index = rest.last_chunk::<8>()?;
    Some((EntryIndex(u64::from_be_bytes(*index)), *digest))
}

/// What a sealed payload is bound to: moved to another place, it does not open.
pub(super) fn seal_context(of: &CommittedPayload, subject: &[u8; 32]) -> Vec<u8> {
    [&b"proofline/v1 sealed payload"[..], subject, &place_key(&of.tenant, of.index, &of.commitment.digest)].concat()
}
