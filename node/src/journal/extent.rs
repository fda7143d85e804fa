use std::collections::VecDeque;

/// How large the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogExtent {
    /// Records in the log.
    pub records: u64,
    /// Their size.
    pub bytes: u64,
}

/// The size of each record in the log, first to last.
#[derive(Debug, Default)]
pub(super) struct RecordSizes {
    sizes: VecDeque<u64>,
    total: u64,
}

impl RecordSizes {
    pub(super) fn extent(&self) -> LogExtent {
        LogExtent { records: self.sizes.len() as u64, bytes: self.total }
    }

    pub(super) fn push(&mut self, bytes: usize) {
        self.sizes.push_back(bytes as u64);
        self.total = self.total.saturating_add(bytes as u64);
    }

    /// Takes the first `count` records away.
    pub(super) fn drop_front(&mut self, count: u64) {
        self.drop_by(count, VecDeque::pop_front);
    }

    /// Takes the last `count` records away.
    pub(super) fn drop_back(&mut self, count: u64) {
        self.drop_by(count, VecDeque::pop_back);
    }

    fn drop_by(&mut self, count: u64, pop: fn(&mut VecDeque<u64>) -> Option<u64>) {
        for _ in 0..count {
            let Some(bytes) = pop(&mut self.sizes) else { return };
            self.total = self.total.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_can_be_taken_away() {
        let mut sizes = RecordSizes::default();
        [1, 20, 300, 4000].into_iter().for_each(|bytes| sizes.push(bytes));
        sizes.drop_front(1);
        sizes.drop_back(1);
        assert_eq!(sizes.extent(), LogExtent { records: 2, bytes: 320 });
    }

    #[test]
    fn more_than_there_is_leaves_nothing() {
        let mut sizes = RecordSizes::default();
        sizes.push(7);
        sizes.drop_front(9);
        assert_eq!(sizes.extent(), LogExtent::default());
    }
}
