//! The clock guard: a leader whose clock disagrees with its peers' accepts no writes.
//!
//! Committed time never goes backwards, so one write under a clock that is a year ahead would freeze time for a year.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::peers::Peers;

/// How far the median of the voters' clocks may be from this one, in nanoseconds.
const DISAGREEMENT_MAX_NS: i128 = 5_000_000_000;
const PERIOD: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_millis(800);
/// A measurement older than this says nothing any more.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// What the last measurement allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockVerdict {
    /// Not enough voters answered yet, or lately.
    #[default]
    Unknown,
    /// This clock is within five seconds of the median.
    Agrees,
    /// It is not.
    Disagrees,
}

/// What one peer's clock showed.
#[derive(Clone, Copy, Debug)]
struct Measured {
    offset_ns: i128,
    at: Instant,
}

/// Nanoseconds since 1970 by this machine's clock.
#[must_use]
pub fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Compares this clock with the other voters' once a second until shutdown.
pub async fn guard(peers: Peers, verdict: watch::Sender<ClockVerdict>, shutdown: CancellationToken) {
    let mut offsets = BTreeMap::new();
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => (),
        }
        let voters = peers.voters();
        for (node_id, measured) in measure(&peers, &voters).await {
            offsets.insert(node_id, measured);
        }
        offsets.retain(|node_id, measured: &mut Measured| voters.contains(node_id) && measured.at.elapsed() < FRESH_FOR);
        let seen: Vec<i128> = offsets.values().map(|measured| measured.offset_ns).collect();
        let now = judge(&seen, voters.len());
        verdict.send_if_modified(|held| std::mem::replace(held, now) != now);
    }
}

async fn measure(peers: &Peers, voters: &[u64]) -> Vec<(u64, Measured)> {
    let asked = voters.iter().filter(|node_id| **node_id != peers.node_id()).map(|node_id| async move {
        let before = unix_ns();
        let status = tokio::time::timeout(ANSWER_WITHIN, peers.status(*node_id)).await.ok()?.ok()?;
        let middle = i128::midpoint(before.into(), unix_ns().into());
        Some((*node_id, Measured { offset_ns: i128::from(status.clock_unix_ns) - middle, at: Instant::now() }))
    });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

/// Judges the offsets of the other voters' clocks against this one, whose own offset is 0.
fn judge(offsets: &[i128], voters: usize) -> ClockVerdict {
    if offsets.len() < voters / 2 {
        return ClockVerdict::Unknown;
    }
    let mut all = offsets.to_vec();
    all.push(0);
    all.sort_unstable();
    let middle = all.len() / 2;
    let upper = all.get(middle).copied().unwrap_or(0);
    let lower = if all.len().is_multiple_of(2) { all.get(middle.saturating_sub(1)).copied().unwrap_or(0) } else { upper };
    if i128::midpoint(lower, upper).abs() <= DISAGREEMENT_MAX_NS { ClockVerdict::Agrees } else { ClockVerdict::Disagrees }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: i128 = 31_536_000_000_000_000;

    #[test]
    fn one_clock_that_is_off_never_silences_the_others() {
        assert_eq!(judge(&[0, YEAR], 3), ClockVerdict::Agrees);
        assert_eq!(judge(&[-YEAR, 0], 3), ClockVerdict::Agrees);
    }

    #[test]
    fn a_node_that_is_off_accepts_nothing() {
        assert_eq!(judge(&[-YEAR, -YEAR], 3), ClockVerdict::Disagrees);
        assert_eq!(judge(&[YEAR, YEAR + 1], 3), ClockVerdict::Disagrees);
    }

    #[test]
    fn of_two_clocks_nobody_knows_which_is_right() {
        assert_eq!(judge(&[YEAR], 3), ClockVerdict::Disagrees);
        assert_eq!(judge(&[9_000_000_000], 3), ClockVerdict::Agrees);
    }

    #[test]
    fn without_a_majority_nothing_is_known() {
        assert_eq!(judge(&[], 3), ClockVerdict::Unknown);
        assert_eq!(judge(&[0], 5), ClockVerdict::Unknown);
        assert_eq!(judge(&[], 1), ClockVerdict::Agrees);
    }
}
