//! Keeps the log short.
//!
//! Raft counts entries, and an entry may be anything between a heartbeat's nothing and megabytes; and it cuts the log behind
//! each snapshot without a look at the nodes that need what it cuts, those among them that are getting a snapshot just then
//! (openraft 0.9.25, `ProgressEntry::is_log_range_inflight`). A node like that would take one snapshot after the other for as
//! long as the work goes on. So the library cuts nothing by itself, and what may go is decided here: by bytes and entries,
//! which bounds the disk and the time that a start takes to verify the log, and by what nodes need that are catching up.

use std::{collections::BTreeMap, time::Duration};

use openraft::{LogIdOptionExt as _, metrics::RaftDataMetrics};
use tokio::time::Instant;

use super::{Raft, SnapshotEntries};
use crate::{
    journal::{JournalReader, LogExtent},
    store::StateStore,
};

/// Log that may lie behind the newest snapshot before the next one is made.
const UNSNAPSHOT_BYTES_MAX: u64 = 512 << 20;
/// Log that stays although a snapshot covers it, for followers that are a little late.
const KEPT_BYTES: u64 = 128 << 20;
/// Log that stays for a node that is catching up; past it, that node needs another snapshot.
const NEEDED_BYTES_MAX: u64 = 4 << 30;
/// The same in entries: so many times those after which a snapshot is made.
const NEEDED_SNAPSHOTS_MAX: u64 = 10;
/// How long a node counts as catching up after it came on.
const COMING_ON: Duration = Duration::from_secs(10);
/// Between two looks at the log.
const PAUSE: Duration = Duration::from_secs(1);

/// What to do about the log's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tidying {
    Nothing,
    Snapshot,
    /// Remove everything up to this Raft log index.
    Purge(u64),
}

/// Makes snapshots and purges the log behind them as the log grows. Ends when Raft does.
pub async fn keep_log_short(raft: Raft, journal: JournalReader, store: StateStore, entries: SnapshotEntries) {
    let mut metrics = raft.data_metrics();
    let mut late = Late::default();
    while metrics.changed().await.is_ok() {
        let seen = metrics.borrow_and_update().clone();
        let needed = late.need(&seen, store.oldest_lent(), Instant::now());
        let (snapshot, applied) = (seen.snapshot.next_index(), seen.last_applied.next_index());
        let done = match due(journal.extent(), entries, snapshot, applied, needed) {
            Tidying::Nothing => Ok(()),
            Tidying::Snapshot => raft.trigger().snapshot().await,
            Tidying::Purge(upto) => raft.trigger().purge_log(upto).await,
        };
        if done.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Who may be catching up: nodes, and, under no id, whoever is getting a snapshot. Each with what it needs first, and when it
/// came on last.
#[derive(Debug, Default)]
struct Late(BTreeMap<Option<u64>, (u64, Instant)>);

impl Late {
    /// Returns the first Raft entry that somebody needs who came on lately. Nobody needs anything of a node that does not lead.
    fn need(&mut self, seen: &RaftDataMetrics<u64>, oldest_lent: Option<u64>, now: Instant) -> Option<u64> {
        let followers = seen.replication.clone().unwrap_or_default();
        self.0.retain(|node, _| node.is_none_or(|node| followers.contains_key(&node)));
        if let Some(end) = oldest_lent {
            self.0.insert(None, (end + 1, now));
        }
        for (node, matching) in followers {
            let next = matching.next_index();
            let (before, since) = self.0.entry(Some(node)).or_insert((next, now));
            if *before != next {
                (*before, *since) = (next, now);
            }
        }
        let coming_on = self.0.values().filter(|(_, since)| now.duration_since(*since) < COMING_ON);
        // Who has nothing needs a snapshot first.
        coming_on.map(|(next, _)| *next).filter(|next| *next > 0).min()
    }
}

/// Decides by the average size of a record. `snapshot` and `applied` are the indexes behind the last one covered.
fn due(log: LogExtent, entries: SnapshotEntries, snapshot: u64, applied: u64, needed: Option<u64>) -> Tidying {
    let Some(average) = log.bytes.checked_div(log.records).filter(|bytes| *bytes > 0) else { return Tidying::Nothing };
    let behind = applied.saturating_sub(snapshot).min(log.records);
    if behind.saturating_mul(average) > UNSNAPSHOT_BYTES_MAX {
        return Tidying::Snapshot;
    }
    let kept = (KEPT_BYTES / average).min(entries.kept());
    let is_long = log.bytes > NEEDED_BYTES_MAX || log.records > entries.0.saturating_mul(NEEDED_SNAPSHOTS_MAX);
    let end = snapshot.saturating_sub(kept).min(needed.filter(|_| !is_long).unwrap_or(u64::MAX));
    let first = snapshot.saturating_sub(log.records.saturating_sub(behind));
    // The state is flushed before each purge: rather a few large ones.
    if end.saturating_sub(first) < kept.max(1) {
        return Tidying::Nothing;
    }
    end.checked_sub(1).map_or(Tidying::Nothing, Tidying::Purge)
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, LogId};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn log(records: u64, bytes_each: u64) -> LogExtent {
        LogExtent { records, bytes: records * bytes_each }
    }

    /// What is due when nobody is late.
    fn alone(log: LogExtent, snapshot: u64, applied: u64) -> Tidying {
        due(log, SnapshotEntries::USUAL, snapshot, applied, None)
    }

    #[test]
    fn a_short_log_is_left_alone() {
        assert_eq!(alone(LogExtent::default(), 0, 0), Tidying::Nothing);
        assert_eq!(alone(log(1000, 1000), 0, 1000), Tidying::Nothing);
        assert_eq!(alone(log(512, MIB), 0, 512), Tidying::Nothing);
        assert_eq!(alone(log(19_999, 1000), 20_000, 20_000), Tidying::Nothing);
    }

    #[test]
    fn a_log_that_outgrew_its_snapshot_gets_a_new_one() {
        assert_eq!(alone(log(513, MIB), 0, 513), Tidying::Snapshot);
        assert_eq!(alone(log(700, MIB), 1000, 1513), Tidying::Snapshot);
    }

    #[test]
    fn a_log_behind_a_snapshot_is_cut_to_what_followers_may_need() {
        assert_eq!(alone(log(513, MIB), 513, 513), Tidying::Purge(384));
        assert_eq!(alone(log(300, MIB), 1000, 1010), Tidying::Purge(871));
        assert_eq!(alone(log(20_000, 1000), 20_000, 20_000), Tidying::Purge(9_999));
        assert_eq!(due(log(150, 1000), SnapshotEntries::new(150).unwrap(), 300, 300, None), Tidying::Purge(224));
    }

    #[test]
    fn a_log_that_was_just_cut_is_left_alone() {
        assert_eq!(alone(log(129, MIB), 513, 513), Tidying::Nothing);
        assert_eq!(alone(log(10_000, 1000), 20_000, 20_000), Tidying::Nothing);
    }

    #[test]
    fn what_a_late_node_needs_stays_unless_the_log_becomes_too_long() {
        let usual = |records, needed| due(log(records, 1000), SnapshotEntries::USUAL, records, records, Some(needed));
        assert_eq!([usual(30_000, 9_999), usual(30_000, 10_000)], [Tidying::Nothing, Tidying::Purge(9_999)]);
        assert_eq!(usual(30_000, 25_000), Tidying::Purge(19_999));
        assert_eq!([usual(200_000, 5_000), usual(200_001, 5_000)], [Tidying::Nothing, Tidying::Purge(190_000)]);
        let large = |records| due(log(records, MIB), SnapshotEntries::USUAL, records, records, Some(1));
        assert_eq!([large(4096), large(4097)], [Tidying::Nothing, Tidying::Purge(3968)]);
    }

    #[test]
    fn a_node_is_late_for_as_long_as_it_comes_on_and_a_snapshot_for_as_long_as_it_is_on_its_way() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let id = |index| LogId::new(CommittedLeaderId::new(1, 1), index);
        let seen = |of: &[(u64, Option<u64>)]| RaftDataMetrics {
            replication: Some(of.iter().map(|(node, last)| (*node, last.map(id))).collect()),
            ..RaftDataMetrics::default()
        };
        let mut late = Late::default();
        let away = [(2, Some(900)), (3, Some(10)), (4, None)];
        assert_eq!(late.need(&seen(&away), None, at(0)), Some(11), "a new leader does not know yet who is away");
        assert_eq!(late.need(&seen(&away), None, at(11)), None);
        assert_eq!(late.need(&seen(&away), Some(500), at(12)), Some(501));
        assert_eq!(late.need(&seen(&away), Some(500), at(300)), Some(501));
        // It arrived, which is seen a moment later.
        assert_eq!(late.need(&seen(&away), None, at(301)), Some(501));
        assert_eq!(late.need(&seen(&[(2, Some(900)), (3, Some(500))]), None, at(302)), Some(501));
        assert_eq!(late.need(&seen(&[(2, Some(900)), (3, Some(700))]), None, at(311)), Some(701));
        assert_eq!(late.need(&seen(&[(2, Some(900)), (3, Some(700))]), None, at(322)), None);
        assert_eq!(late.need(&RaftDataMetrics::default(), None, at(323)), None);
    }
}
