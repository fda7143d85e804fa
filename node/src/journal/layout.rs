//! The fixed binary layouts of log ids and votes, shared by records, meta rows and the high-water file. Integers are
//! big-endian.

use openraft::{CommittedLeaderId, LogId, Vote};

/// Takes fixed-size pieces off the front of a slice; `None` when it is too short.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn log_id(&mut self) -> Option<LogId<u64>> {
        let (term, leader, index) = (self.u64()?, self.u64()?, self.u64()?);
        Some(LogId::new(CommittedLeaderId::new(term, leader), index))
    }

    pub(super) fn vote(&mut self) -> Option<Vote<u64>> {
        let (term, node) = (self.u64()?, self.u64()?);
        match self.byte()? {
            0 => Some(Vote::new(term, node)),
            1 => Some(Vote::new_committed(term, node)),
            _ => None,
        }
    }

    /// Reads what is written as a presence byte and then the value, with zeros for an absent one.
    pub(super) fn optional<T>(&mut self, read: fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        let present = self.byte()?;
        let value = read(self)?;
        match present {
            0 => Some(None),
            1 => Some(Some(value)),
            _ => None,
        }
    }

    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

pub(super) fn put_log_id(out: &mut Vec<u8>, log_id: &LogId<u64>) {
    out.extend_from_slice(&log_id.leader_id.term.to_be_bytes());
    out.extend_from_slice(&log_id.leader_id.node_id.to_be_bytes());
    out.extend_from_slice(&log_id.index.to_be_bytes());
}

pub(super) fn put_vote(out: &mut Vec<u8>, vote: &Vote<u64>) {
    out.extend_from_slice(&vote.leader_id.term.to_be_bytes());
    out.extend_from_slice(&vote.leader_id.node_id.to_be_bytes());
    out.push(u8::from(vote.committed));
}

pub(super) fn put_optional<T: Default>(out: &mut Vec<u8>, value: &Option<T>, put: fn(&mut Vec<u8>, &T)) {
    out.push(u8::from(value.is_some()));
    match value {
        Some(value) => put(out, value),
        None => put(out, &T::default()),
    }
}
