//! The newest entries in memory, so that replication and apply do not read back what was just written.
//!
//! A ring of slots that readers load without a lock. One writer fills and empties them. Always true: an entry in a slot is
//! an entry of the log; a missing one says nothing, the reader then asks the database.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use openraft::{Entry, EntryPayload};

use crate::replica::TypeConfig;

const SLOTS: u64 = 1024;
/// Payload bytes that the ring keeps at most, unless a single entry is larger.
const BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Debug)]
pub(super) struct Recent {
    slots: Arc<[ArcSwapOption<Entry<TypeConfig>>]>,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| ArcSwapOption::empty()).collect() }
    }

    /// Returns the entry at `index`, if it is still here.
    pub(super) fn entry(&self, index: u64) -> Option<Arc<Entry<TypeConfig>>> {
        self.slot(index)?.load_full().filter(|entry| entry.log_id.index == index)
    }

    fn slot(&self, index: u64) -> Option<&ArcSwapOption<Entry<TypeConfig>>> {
        self.slots.get(usize::try_from(index % SLOTS).ok()?)
    }

    fn replace(&self, index: u64, entry: Option<Arc<Entry<TypeConfig>>>) {
        if let Some(slot) = self.slot(index) {
            slot.store(entry);
        }
    }
}

/// The one writer of a [`Recent`]. It holds the entries `oldest..next`.
#[derive(Debug)]
pub(super) struct RecentWriter {
    recent: Recent,
    oldest: u64,
    next: u64,
    bytes: usize,
}

impl RecentWriter {
    pub(super) fn new(recent: Recent) -> Self {
        Self { recent, oldest: 0, next: 0, bytes: 0 }
    }

    /// Adds the entry behind the newest one; a gap empties the ring first.
    pub(super) fn push(&mut self, entry: Entry<TypeConfig>) {
        let index = entry.log_id.index;
        if index != self.next {
            self.clear();
            (self.oldest, self.next) = (index, index);
        }
        self.bytes = self.bytes.saturating_add(payload_bytes(&entry));
        self.next = index.saturating_add(1);
        while self.next - self.oldest > SLOTS || (self.bytes > BYTES_MAX && self.oldest < index) {
            self.drop_entry(self.oldest);
            self.oldest += 1;
        }
        self.recent.replace(index, Some(Arc::new(entry)));
    }

    /// Forgets `since` and everything behind it.
    pub(super) fn truncate(&mut self, since: u64) {
        let since = since.max(self.oldest);
        (since..self.next).for_each(|index| self.drop_entry(index));
        self.next = self.next.min(since);
    }

    /// Forgets everything up to `upto`.
    pub(super) fn purge(&mut self, upto: u64) {
        let end = upto.saturating_add(1).min(self.next);
        (self.oldest..end).for_each(|index| self.drop_entry(index));
        self.oldest = self.oldest.max(end);
    }

    pub(super) fn clear(&mut self) {
        self.truncate(0);
    }

    fn drop_entry(&mut self, index: u64) {
        if let Some(entry) = self.recent.entry(index) {
            self.bytes = self.bytes.saturating_sub(payload_bytes(&entry));
            self.recent.replace(index, None);
        }
    }
}

/// Returns how many bytes of payload an entry carries.
pub(super) fn payload_bytes(entry: &Entry<TypeConfig>) -> usize {
    match &entry.payload {
        EntryPayload::Normal(group) => group.bytes().len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::{CommittedLeaderId, LogId};

    use super::*;
    use crate::replica::Group;

    fn entry(index: u64, bytes: usize) -> Entry<TypeConfig> {
        let log_id = LogId::new(CommittedLeaderId::new(1, 1), index);
        Entry { log_id, payload: EntryPayload::Normal(Group::new(Bytes::from(vec![0; bytes]))) }
    }

    fn filled(entries: impl Iterator<Item = Entry<TypeConfig>>) -> (Recent, RecentWriter) {
        let recent = Recent::new();
        let mut writer = RecentWriter::new(recent.clone());
        entries.for_each(|entry| writer.push(entry));
        (recent, writer)
    }

    fn held(recent: &Recent) -> Vec<u64> {
        (0..4 * SLOTS).filter(|index| recent.entry(*index).is_some()).collect()
    }

    #[test]
    fn the_newest_entries_stay_within_the_number_of_slots() {
        let (recent, _) = filled((0..SLOTS + 10).map(|index| entry(index, 1)));
        assert_eq!(held(&recent), (10..SLOTS + 10).collect::<Vec<_>>());
    }

    #[test]
    fn the_newest_entries_stay_within_the_number_of_bytes() {
        let (recent, _) = filled((0..10).map(|index| entry(index, BYTES_MAX / 4)));
        assert_eq!(held(&recent), vec![6, 7, 8, 9]);
    }

    #[test]
    fn one_entry_stays_even_when_it_is_too_large() {
        let (recent, _) = filled((0..3).map(|index| entry(index, BYTES_MAX * 2)));
        assert_eq!(held(&recent), vec![2]);
    }

    #[test]
    fn truncated_entries_are_gone_and_can_be_replaced() {
        let (recent, mut writer) = filled((0..10).map(|index| entry(index, 1)));
        writer.truncate(6);
        writer.push(entry(6, 2));
        assert_eq!(held(&recent), (0..7).collect::<Vec<_>>());
        assert_eq!(payload_bytes(&recent.entry(6).unwrap()), 2);
    }

    #[test]
    fn purged_entries_are_gone() {
        let (recent, mut writer) = filled((0..10).map(|index| entry(index, 1)));
        writer.purge(3);
        assert_eq!(held(&recent), (4..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_gap_empties_the_ring() {
        let (recent, mut writer) = filled((0..10).map(|index| entry(index, 1)));
        writer.purge(20);
        writer.push(entry(21, 1));
        assert_eq!(held(&recent), vec![21]);
        assert_eq!(writer.bytes, 1);
    }
}
