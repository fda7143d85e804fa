//! How the Raft library is tuned, and why.
//!
//! The library takes its heartbeat interval as the time limit of an append too, so it must leave room for a large group and
//! two fsyncs. It draws one election timeout per process from a range; equal draws tie again and again, so each node draws
//! from a slice of its own. A vote request waits out the longest timeout of the node that it asks, which is why the slices
//! lie close together.

use std::{num::NonZeroU64, time::Duration};

use openraft::{Config, ConfigError, SnapshotPolicy};

/// Between two signs of life of a leader, and how long an append may take.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(250);
const ELECTION_MIN: Duration = Duration::from_millis(500);
const ELECTION_MAX: Duration = Duration::from_millis(800);
/// A snapshot of a large ledger takes its time; a dead receiver is noticed by the connection, not by this.
const INSTALL_SNAPSHOT: Duration = Duration::from_secs(60 * 60);
/// Entries per append at most; `journal` bounds its bytes.
const APPEND_ENTRIES_MAX: u64 = 1024;

/// Raft entries after which a snapshot is made, so that the log can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEntries(pub(super) u64);

impl SnapshotEntries {
    /// What a node takes that is told nothing.
    pub const USUAL: Self = Self(20_000);

    /// Takes 100 to 1,000,000 entries.
    #[must_use]
    pub fn new(entries: u64) -> Option<Self> {
        (100..=1_000_000).contains(&entries).then_some(Self(entries))
    }

    /// Entries that stay in the log behind a snapshot, for followers that are a little late.
    pub(super) fn kept(self) -> u64 {
        self.0 / 2
    }

    /// How far a follower may lag before it gets a snapshot instead of entries. Beyond what can lie in a log.
    fn lag(self) -> u64 {
        self.0 * 2
    }
}

/// Which part of the election range belongs to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElectionSlice {
    /// Place of the node among the nodes, from 0; places beyond the last one wrap around.
    pub place: u64,
    /// Number of nodes.
    pub nodes: NonZeroU64,
}

impl ElectionSlice {
    /// Returns how long a leader may be silent before this node stands for election: its lease, as this node counts it, and a
    /// timeout out of the slice, which `lot` picks.
    #[must_use]
    pub fn patience(self, lot: u64) -> Duration {
        let (low, high) = self.millis();
        Duration::from_millis(high + low + lot % (high - low))
    }

    fn millis(self) -> (u64, u64) {
        let (low, high) = (millis(ELECTION_MIN), millis(ELECTION_MAX));
        let width = ((high - low) / self.nodes).max(1);
        let from = low + width * (self.place % self.nodes);
        (from, from + width)
    }
}

/// Builds the configuration of the Raft library for one node of the log `origin`.
///
/// # Errors
/// [`ConfigError`] when the values contradict each other.
pub fn raft_config(origin: &str, slice: ElectionSlice, snapshot: SnapshotEntries) -> Result<Config, Box<ConfigError>> {
    let (election_timeout_min, election_timeout_max) = slice.millis();
    Config {
        cluster_name: origin.to_owned(),
        heartbeat_interval: millis(HEARTBEAT),
        election_timeout_min,
        election_timeout_max,
        install_snapshot_timeout: millis(INSTALL_SNAPSHOT),
        max_payload_entries: APPEND_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot.0),
        // Nothing is cut but what `tidying` says.
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: snapshot.lag(),
        ..Config::default()
    }
    .validate()
    .map_err(Box::new)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(place: u64) -> (u64, u64) {
        ElectionSlice { place, nodes: NonZeroU64::new(3).unwrap() }.millis()
    }

    #[test]
    fn three_nodes_draw_from_disjoint_slices() {
        assert_eq!([slice(0), slice(1), slice(2)], [(500, 600), (600, 700), (700, 800)]);
    }

    #[test]
    fn nobody_stands_before_the_lease_of_those_that_are_asked_is_over() {
        let patience = |place, lot| ElectionSlice { place, nodes: NonZeroU64::new(3).unwrap() }.patience(lot).as_millis();
        assert_eq!([patience(0, 0), patience(0, 99), patience(0, 100)], [1100, 1199, 1100]);
        assert_eq!([patience(1, u64::MAX), patience(2, 0)], [1300 + u128::from(u64::MAX % 100), 1500]);
        assert!(patience(0, 0) > u128::from(millis(ELECTION_MAX)));
    }

    #[test]
    fn a_log_is_kept_as_long_as_the_operator_says_within_reason() {
        assert_eq!([99, 100, 1_000_000, 1_000_001].map(|entries| SnapshotEntries::new(entries).is_some()), [false, true, true, false]);
        let slice = ElectionSlice { place: 0, nodes: NonZeroU64::new(3).unwrap() };
        let kept = |snapshot| {
            let config = raft_config("example.org/log", slice, snapshot).unwrap();
            (snapshot.kept(), config.replication_lag_threshold, config.max_in_snapshot_log_to_keep)
        };
        assert_eq!(kept(SnapshotEntries::USUAL), (10_000, 40_000, u64::MAX));
        assert_eq!(kept(SnapshotEntries::new(100).unwrap()), (50, 200, u64::MAX));
    }

    #[test]
    fn every_slice_makes_a_valid_configuration() {
        for nodes in 1..=9 {
            for place in 0..=nodes {
                let slice = ElectionSlice { place, nodes: NonZeroU64::new(nodes).unwrap() };
                raft_config("example.org/log", slice, SnapshotEntries::USUAL).unwrap();
            }
        }
    }
}
