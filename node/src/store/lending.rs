//! Snapshots that are on their way to other nodes. Who gets one needs the log behind it next.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The Raft entries at which the snapshots that were given to somebody who sends them end, and how many end there.
type Ends = Arc<Mutex<BTreeMap<u64, usize>>>;

/// Knows the snapshots that are on their way.
#[derive(Debug, Default)]
pub(super) struct Lending(Ends);

/// A snapshot counts as on its way for as long as this lives.
#[derive(Debug)]
pub(super) struct Loan {
    ends: Ends,
    end: u64,
}

impl Lending {
    pub(super) fn lend(&self, end: u64) -> Loan {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(end).or_default() += 1;
        Loan { ends: Arc::clone(&self.0), end }
    }

    /// Returns where the oldest one ends.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().next().copied()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = ends.get_mut(&self.end) {
            *count -= 1;
            if *count == 0 {
                ends.remove(&self.end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_counts_until_it_is_everywhere() {
        let lending = Lending::default();
        assert_eq!(lending.oldest(), None);
        let (newer, one, other) = (lending.lend(9), lending.lend(5), lending.lend(5));
        assert_eq!(lending.oldest(), Some(5));
        drop(one);
        assert_eq!(lending.oldest(), Some(5));
        drop(other);
        assert_eq!(lending.oldest(), Some(9));
        drop(newer);
        assert_eq!(lending.oldest(), None);
    }
}
