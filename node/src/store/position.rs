use openraft::{CommittedLeaderId, LogId, StoredMembership};

use super::StoreError;
use crate::replica::Member;

/// How far the Raft log was applied, and the membership that stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The last applied Raft entry.
    pub applied: Option<LogId<u64>>,
    /// The last applied membership.
    pub membership: StoredMembership<u64, Member>,
}

/// The key under which the last applied log id stands.
pub(super) const APPLIED: &[u8] = b"applied";
/// The key under which the membership stands.
pub(super) const MEMBERSHIP: &[u8] = b"membership";

/// Term, leader and index, big-endian.
pub(super) fn encode_applied(log_id: &LogId<u64>) -> Vec<u8> {
    let LogId { leader_id, index } = log_id;
    [leader_id.term, leader_id.node_id, *index].iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn decode_applied(row: &[u8]) -> Option<LogId<u64>> {
    let (term, rest) = row.split_first_chunk::<8>()?;
    let (leader, index) = rest.split_first_chunk::<8>()?;
    let leader = CommittedLeaderId::new(u64::from_be_bytes(*term), u64::from_be_bytes(*leader));
    Some(LogId::new(leader, u64::from_be_bytes(index.try_into().ok()?)))
}

impl Position {
    /// Reads the two rows; a state that never applied anything has neither.
    pub(super) fn decode(applied: Option<&[u8]>, membership: Option<&[u8]>) -> Result<Self, StoreError> {
        let applied = match applied {
            Some(row) => Some(decode_applied(row).ok_or(StoreError::PositionDamaged { what: "applied" })?),
            None => None,
        };
        let membership = match membership {
            Some(row) => serde_json::from_slice(row).map_err(|_| StoreError::PositionDamaged { what: "membership" })?,
            None => StoredMembership::default(),
        };
        Ok(Self { applied, membership })
    }
}
