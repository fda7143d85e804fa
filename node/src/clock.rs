//! The clock guard: a node whose clock disagrees with its peers' accepts no writes and gives up the lead.
//!
//! Committed time never goes backwards, so one write under a clock that is a year ahead would freeze time for a year.
//! A judgement holds as long as this clock has only run since: one that was set in the meantime is judged anew.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use proofline_ledger::UnixNanos;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{peers::Peers, replica::Raft};

/// How far the median of the voters' clocks may be from this one, in nanoseconds.
const DISAGREEMENT_MAX_NS: i128 = 5_000_000_000;
const PERIOD: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_millis(800);
/// A measurement older than this says nothing any more.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// What the last measurement showed.
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

/// One moment by both clocks of this machine: the one that only runs, and the one that is set.
#[derive(Clone, Copy, Debug)]
struct Moment {
    running: Instant,
    wall_ns: i128,
}

impl Moment {
    fn now() -> Self {
        Self { running: Instant::now(), wall_ns: unix_ns().into() }
    }

    /// Tells whether the wall clock was set between this moment and `later`, by more than clocks may disagree.
    fn was_set_until(self, later: Self) -> bool {
        let ran = later.running.saturating_duration_since(self.running).as_nanos();
        let shown = later.wall_ns - self.wall_ns;
        (shown - i128::try_from(ran).unwrap_or(i128::MAX)).abs() > DISAGREEMENT_MAX_NS
    }
}

/// A verdict and the moment for which it was given.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    verdict: ClockVerdict,
    at: Moment,
}

impl Default for ClockReading {
    fn default() -> Self {
        Self { verdict: ClockVerdict::default(), at: Moment::now() }
    }
}

impl ClockReading {
    /// Returns a verdict that was given just now.
    #[must_use]
    pub fn judged(verdict: ClockVerdict) -> Self {
        Self { verdict, at: Moment::now() }
    }

    /// Returns the verdict for this moment: a clock that was set since it was judged is not to be trusted.
    #[must_use]
    pub fn now(&self) -> ClockVerdict {
        self.at(Moment::now())
    }

    fn at(&self, now: Moment) -> ClockVerdict {
        if self.at.was_set_until(now) { ClockVerdict::Disagrees } else { self.verdict }
    }
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

/// What groups are dated by. A node takes its machine's clock; a simulation tells the time itself. Clones tell the same time.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> UnixNanos + Send + Sync>);

impl WallClock {
    /// Returns this machine's clock.
    #[must_use]
    pub fn machine() -> Self {
        Self::of(|| UnixNanos(unix_ns()))
    }

    /// Takes a clock that shows what `tell` says.
    #[must_use]
    pub fn of(tell: impl Fn() -> UnixNanos + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Returns what the clock shows.
    #[must_use]
    pub fn now(&self) -> UnixNanos {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "WallClock({})", self.now().0)
    }
}

/// Compares this clock with the other voters' once a second until shutdown.
pub async fn guard(peers: Peers, reading: watch::Sender<ClockReading>, shutdown: CancellationToken) {
    let mut offsets = BTreeMap::new();
    let mut ticks = tokio::time::interval(PERIOD);
    let mut before = Moment::now();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => (),
        }
        let voters = peers.voters();
        let at = Moment::now();
        if std::mem::replace(&mut before, at).was_set_until(at) {
            tracing::warn!("this machine's clock was set; what was measured against it before counts no more");
            offsets.clear();
        }
        for (node_id, measured) in measure(&peers, &voters).await {
            offsets.insert(node_id, measured);
        }
        offsets.retain(|node_id, measured: &mut Measured| voters.contains(node_id) && measured.at.elapsed() < FRESH_FOR);
        let seen: Vec<i128> = offsets.values().map(|measured| measured.offset_ns).collect();
        reading.send_replace(ClockReading { verdict: judge(&seen, voters.len()), at });
    }
}

/// Gives up the lead, and asks for none, while this node's clock is not to be trusted: another node can then serve.
pub async fn stand_aside(raft: Raft, aside: watch::Sender<bool>, mut reading: watch::Receiver<ClockReading>, shutdown: CancellationToken) {
    let mut stands_aside = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = reading.changed() => if changed.is_err() { return },
        }
        let verdict = reading.borrow_and_update().now();
        let disagrees = verdict == ClockVerdict::Disagrees;
        // Too few answers say nothing about this clock: whoever stood aside goes on doing so.
        if verdict == ClockVerdict::Unknown || disagrees == stands_aside {
            continue;
        }
        stands_aside = disagrees;
        if disagrees {
            tracing::error!(
                "this node's clock disagrees with the other voters' by more than 5 s: it takes no writes and gives up the lead"
            );
        } else {
            tracing::info!("this node's clock agrees with the other voters' again");
        }
        // Without heartbeats the others elect one of themselves; until they do, this node refuses every write.
        raft.runtime_config().heartbeat(!disagrees);
        raft.runtime_config().elect(!disagrees);
        aside.send_replace(disagrees);
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
    fn a_clock_that_was_set_since_it_was_judged_is_not_trusted() {
        let judged = Moment::now();
        let reading = ClockReading { verdict: ClockVerdict::Agrees, at: judged };
        let after = |ran: u64, shown: i128| Moment { running: judged.running + Duration::from_secs(ran), wall_ns: judged.wall_ns + shown };
        assert_eq!(reading.at(after(9, 9_000_000_000)), ClockVerdict::Agrees);
        assert_eq!(reading.at(after(1, YEAR)), ClockVerdict::Disagrees);
        assert_eq!(reading.at(after(1, -YEAR)), ClockVerdict::Disagrees);
        assert_eq!(reading.at(after(20, 9_000_000_000)), ClockVerdict::Disagrees);
    }

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
