//! Keeps the log short.
//!
//! Raft counts entries, and an entry may be anything between a heartbeat's nothing and megabytes. So the size of the log is
//! bounded here, by bytes: it bounds the disk, and the time that a start takes to verify the log.

use std::time::Duration;

use openraft::LogIdOptionExt as _;

use super::Raft;
use crate::{
    journal::{JournalReader, LogExtent},
    store::StateStore,
};

/// Log that may lie behind the newest snapshot before the next one is made.
const UNSNAPSHOT_BYTES_MAX: u64 = 512 << 20;
/// Log that may lie behind the newest snapshot while that is on its way to another node, which needs what follows it.
const SENDING_BYTES_MAX: u64 = 4 << 30;
/// Log that stays although a snapshot covers it, for followers that are a little late.
const KEPT_BYTES: u64 = 128 << 20;
/// Between two looks at the log.
const PAUSE: Duration = Duration::from_secs(1);

/// What to do about the log's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tidying {
    Nothing,
    Snapshot,
    /// Make one although one is on its way.
    SnapshotNow,
    /// Remove everything up to this Raft log index.
    Purge(u64),
}

/// Makes snapshots and purges the log behind them as the log grows. Ends when Raft does.
pub async fn keep_log_short(raft: Raft, journal: JournalReader, store: StateStore) {
    let mut metrics = raft.data_metrics();
    while metrics.changed().await.is_ok() {
        let (snapshot, applied) = {
            let seen = metrics.borrow_and_update();
            (seen.snapshot.next_index(), seen.last_applied.next_index())
        };
        let done = match due(journal.extent(), snapshot, applied) {
            Tidying::Nothing => Ok(()),
            Tidying::Snapshot => raft.trigger().snapshot().await,
            Tidying::SnapshotNow => {
                tracing::warn!("the log has become too long to keep what a node needs behind the snapshot that it is getting");
                store.hurry();
                raft.trigger().snapshot().await
            }
            Tidying::Purge(upto) => raft.trigger().purge_log(upto).await,
        };
        if done.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Decides by the average size of a record. `snapshot` and `applied` are the indexes behind the last one covered.
fn due(log: LogExtent, snapshot: u64, applied: u64) -> Tidying {
    let Some(average) = log.bytes.checked_div(log.records).filter(|bytes| *bytes > 0) else { return Tidying::Nothing };
    let behind = applied.saturating_sub(snapshot).min(log.records);
    match behind.saturating_mul(average) {
        SENDING_BYTES_MAX.. => return Tidying::SnapshotNow,
        bytes if bytes > UNSNAPSHOT_BYTES_MAX => return Tidying::Snapshot,
        _ => {}
    }
    let covered = log.records.saturating_sub(behind);
    let kept = KEPT_BYTES / average;
    // Twice what is kept, so that a purge is worth its fsync.
    if covered.saturating_mul(average) <= KEPT_BYTES.saturating_mul(2) {
        return Tidying::Nothing;
    }
    snapshot.checked_sub(kept.saturating_add(1)).map_or(Tidying::Nothing, Tidying::Purge)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn log(records: u64, bytes_each: u64) -> LogExtent {
        LogExtent { records, bytes: records * bytes_each }
    }

    #[test]
    fn a_short_log_is_left_alone() {
        assert_eq!(due(LogExtent::default(), 0, 0), Tidying::Nothing);
        assert_eq!(due(log(1000, 1000), 0, 1000), Tidying::Nothing);
        assert_eq!(due(log(512, MIB), 0, 512), Tidying::Nothing);
    }

    #[test]
    fn a_log_that_outgrew_its_snapshot_gets_a_new_one() {
        assert_eq!(due(log(513, MIB), 0, 513), Tidying::Snapshot);
        assert_eq!(due(log(700, MIB), 1000, 1513), Tidying::Snapshot);
        assert_eq!(due(log(4095, MIB), 0, 4095), Tidying::Snapshot);
    }

    #[test]
    fn a_log_that_outgrew_the_disk_gets_a_new_snapshot_whatever_is_on_its_way() {
        assert_eq!(due(log(4096, MIB), 0, 4096), Tidying::SnapshotNow);
    }

    #[test]
    fn a_log_behind_a_snapshot_is_cut_to_what_followers_may_need() {
        assert_eq!(due(log(513, MIB), 513, 513), Tidying::Purge(384));
        assert_eq!(due(log(300, MIB), 1000, 1010), Tidying::Purge(871));
    }

    #[test]
    fn a_log_that_was_just_cut_is_left_alone() {
        assert_eq!(due(log(129, MIB), 513, 513), Tidying::Nothing);
    }
}
