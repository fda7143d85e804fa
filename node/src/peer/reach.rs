//! Whether a peer is reached: said once when it is lost, and once when it is back. Raft's library says it with every try.

use std::{
    error::Error,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tonic::Status;

/// A pause of a slow disk is no loss.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// A node that leads asks the others much more often.
const ASKED_WITHIN: Duration = Duration::from_secs(5);
/// How often it is said that a snapshot does not get to a peer.
const SNAPSHOT_TOLD_EVERY: Duration = Duration::from_secs(60);

/// What this node knows of one peer, over all connections to it and as long as it runs.
#[derive(Debug)]
pub(super) struct Reach {
    node: u64,
    address: String,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Since when no call was answered, and when the last one was not.
    failing: Option<(Instant, Instant)>,
    is_lost: bool,
    snapshot_told: Option<Instant>,
}

impl Reach {
    /// Begins with a peer that is taken to be there.
    pub(super) fn new(node: u64, address: String) -> Self {
        Self { node, address, seen: Mutex::default() }
    }

    /// The peer answered as peers do.
    pub(super) fn answered(&self) {
        if self.seen().answered() {
            tracing::info!(node = self.node, address = self.address, "a node is reached again");
        }
    }

    /// A call to it failed.
    pub(super) fn failed(&self, reason: &dyn fmt::Display) {
        if self.seen().failed(Instant::now()) {
            tracing::warn!(node = self.node, address = self.address, %reason, "a node is not reached");
        }
    }

    /// A snapshot did not get there.
    pub(super) fn snapshot_failed(&self, reason: &dyn fmt::Display) {
        if self.seen().snapshot_failed(Instant::now()) {
            tracing::warn!(node = self.node, address = self.address, %reason, "a snapshot does not get to a node; said once a minute");
        }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each returns whether that is to be said.
impl Seen {
    fn answered(&mut self) -> bool {
        self.failing = None;
        std::mem::replace(&mut self.is_lost, false)
    }

    fn failed(&mut self, now: Instant) -> bool {
        // Who does not lead does not ask: what was before says nothing.
        let going_on = self.failing.filter(|(_, last)| now.duration_since(*last) < ASKED_WITHIN);
        let since = going_on.map_or(now, |(since, _)| since);
        self.failing = Some((since, now));
        now.duration_since(since) >= LOST_AFTER && !std::mem::replace(&mut self.is_lost, true)
    }

    fn snapshot_failed(&mut self, now: Instant) -> bool {
        let is_due = self.snapshot_told.is_none_or(|told| now.duration_since(told) >= SNAPSHOT_TOLD_EVERY);
        if is_due {
            self.snapshot_told = Some(now);
        }
        is_due
    }
}

/// The innermost error says what happened; those around it say that something did.
pub(super) fn root_cause(status: &Status) -> String {
    let mut cause: Option<&dyn Error> = status.source();
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_lost_once_when_it_was_silent_for_a_while_and_found_once() {
        let mut seen = Seen::default();
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!([seen.failed(at(0)), seen.failed(at(900)), seen.answered()], [false; 3], "a pause");
        assert_eq!([seen.failed(at(1_000)), seen.failed(at(1_900))], [false; 2], "it counts from the answer on");
        assert_eq!([seen.failed(at(2_000)), seen.failed(at(3_000))], [true, false]);
        assert_eq!([seen.answered(), seen.answered()], [true, false]);
        assert_eq!([seen.failed(at(4_000)), seen.failed(at(60_000)), seen.failed(at(60_900))], [false; 3], "nobody asked in between");
        assert!(seen.failed(at(61_000)));
    }

    #[test]
    fn a_snapshot_that_does_not_arrive_is_told_of_once_a_minute() {
        let mut seen = Seen::default();
        let begin = Instant::now();
        let told = [0, 1, 59, 60, 100, 120].map(|seconds| seen.snapshot_failed(begin + Duration::from_secs(seconds)));
        assert_eq!(told, [true, false, false, true, false, true]);
    }
}
