//! One call over several nodes: who is asked next, how long to wait, and when to give up.

use std::{error::Error as _, fmt, time::Duration};

use thiserror::Error;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{
    refusal::Refusal,
    slow::{Listener, Watch},
};

const PAUSE_MIN: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A pause is at most this part of the time that the call has waited already: an election that ends during a pause is
/// noticed little later than it could have been.
const PAUSE_PART: u32 = 4;

/// How long to keep trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// For one call, over all attempts.
    pub within: Duration,
    /// For one attempt.
    pub attempt: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { within: Duration::from_secs(30), attempt: Duration::from_secs(10) }
    }
}

/// What one attempt met.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The ledger answered, and not with what was wished for.
    #[error("{0}")]
    Refused(Refusal),
    /// No connection, or it broke.
    #[error("no connection: {0}")]
    Connection(String),
    /// No answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// The ledger refused; the same request again would be refused again.
    #[error("{0}")]
    Refused(Refusal),
    /// Every attempt failed until the time was up. Trying again later is safe.
    #[error("gave up after {attempts} attempts in {} ms; last, {endpoint}: {last}", .within.as_millis())]
    GaveUp {
        /// How long was tried.
        within: Duration,
        /// How often.
        attempts: u32,
        /// Who was asked last.
        endpoint: String,
        /// What the last attempt met.
        last: Box<Fault>,
    },
}

impl CallError {
    /// Tells whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::GaveUp { .. })
    }

    /// Returns the last answer of the ledger, when there was one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::GaveUp { last, .. } => match &**last {
                Fault::Refused(refusal) => Some(refusal),
                Fault::Connection(_) | Fault::TimedOut(_) => None,
            },
        }
    }
}

impl Fault {
    pub(crate) fn of(status: &Status) -> Self {
        if is_of_the_connection(status) { Self::Connection(root_cause(status)) } else { Self::Refused(Refusal::of(status)) }
    }

    /// Tells whether an attempt that ended so did nothing: a node said so, or none was reached.
    pub(crate) fn is_without_effect(status: &Status) -> bool {
        match Self::of(status) {
            Self::Refused(refusal) => refusal.is_without_effect(),
            Self::Connection(_) | Self::TimedOut(_) => is_unreached(status),
        }
    }

    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_retryable(),
            Self::Connection(_) | Self::TimedOut(_) => true,
        }
    }

    /// Tells whether another node may do better.
    pub(crate) fn is_of_the_node(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_of_the_node(),
            Self::Connection(_) | Self::TimedOut(_) => true,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Connection(_) | Self::TimedOut(_) => None,
        }
    }
}

/// A status that no node sent: the transport made it of an error that it met.
fn is_of_the_connection(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Internal => status.source().is_some(),
        Code::Unknown | Code::Cancelled => status.details().is_empty(),
        _ => false,
    }
}

/// No connection was made, so nothing was sent.
fn is_unreached(status: &Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The innermost error says what happened; those around it say that something did.
fn root_cause(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = status.source();
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Attempts {
    policy: RetryPolicy,
    /// Nodes that can be asked.
    nodes: usize,
    since: Instant,
    made: u32,
    /// Nodes that could not be reached since the last pause.
    unreached: usize,
    /// Somebody wants to know when it takes long.
    watch: Option<Watch>,
}

impl Attempts {
    pub(crate) fn begin(policy: RetryPolicy, nodes: usize, listener: Option<&Listener>) -> Self {
        let watch = listener.and_then(|listener| Watch::begin(listener, policy.within));
        Self { policy, nodes, since: Instant::now(), made: 0, unreached: 0, watch }
    }

    /// Waits before the next attempt, or says that there is none. A node that cannot be reached is no reason to wait, as
    /// long as another one was not asked yet.
    pub(crate) async fn pause(&mut self, endpoint: &impl fmt::Display, fault: Fault) -> Result<(), CallError> {
        self.made += 1;
        if let Some(watch) = &self.watch {
            watch.met(endpoint.to_string(), fault.clone());
        }
        if !fault.is_retryable() {
            return Err(match fault {
                Fault::Refused(refusal) => CallError::Refused(refusal),
                Fault::Connection(_) | Fault::TimedOut(_) => self.gave_up(endpoint, fault),
            });
        }
        let waited = self.since.elapsed();
        if self.leaves_another_node(&fault) && waited < self.policy.within {
            tracing::debug!(%endpoint, %fault, attempt = self.made, "asking another node");
            return Ok(());
        }
        let pause = pause_after(waited).max(fault.retry_after().unwrap_or_default());
        if waited + pause >= self.policy.within {
            return Err(self.gave_up(endpoint, fault));
        }
        tracing::debug!(%endpoint, %fault, attempt = self.made, pause_ms = pause.as_millis(), "trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn gave_up(&self, endpoint: &impl fmt::Display, last: Fault) -> CallError {
        CallError::GaveUp { within: self.since.elapsed(), attempts: self.made, endpoint: endpoint.to_string(), last: Box::new(last) }
    }

    /// Tells whether a fault says nothing about the nodes that are left in this round.
    fn leaves_another_node(&mut self, fault: &Fault) -> bool {
        let is_unreached = matches!(fault, Fault::Connection(_));
        self.unreached = if is_unreached && self.unreached + 1 < self.nodes { self.unreached + 1 } else { 0 };
        self.unreached > 0
    }
}

/// Grows with the time waited, and takes a random half of it so that clients do not come back together.
fn pause_after(waited: Duration) -> Duration {
    let pause = (waited / PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX);
    // Without randomness the pause is only less well spread.
    let random = getrandom::u32().unwrap_or_default();
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_a_part_of_the_time_waited_within_its_limits() {
        for (waited, most) in [(0, 25), (100, 25), (1_000, 250), (4_000, 1_000), (60_000, 2_000)] {
            let pause = pause_after(Duration::from_millis(waited));
            assert!(pause.as_millis() <= most && pause.as_millis() >= most / 2 - 1, "{waited}: {pause:?}");
        }
    }

    #[test]
    fn nodes_that_cannot_be_reached_are_passed_over_until_each_was_asked() {
        let unreached = || Fault::Connection("refused".to_owned());
        let mut attempts = Attempts::begin(RetryPolicy::default(), 3, None);
        let passed_over: Vec<bool> = (0..6).map(|_| attempts.leaves_another_node(&unreached())).collect();
        assert_eq!(passed_over, [true, true, false, true, true, false]);
        assert!(!attempts.leaves_another_node(&Fault::TimedOut(Duration::from_secs(1))));
        assert!(!Attempts::begin(RetryPolicy::default(), 1, None).leaves_another_node(&unreached()));
    }

    #[test]
    fn a_refusal_with_details_is_no_broken_connection() {
        let status = Status::unavailable("no leader");
        assert!(matches!(Fault::of(&status), Fault::Refused(refusal) if refusal.is_retryable()));
        assert!(matches!(Fault::of(&Status::unknown("h2 protocol error")), Fault::Connection(_)));
    }

    #[test]
    fn a_leader_whose_clock_is_not_trusted_is_left_for_another_node_and_asked_again() {
        let details = tonic_types::ErrorDetails::with_error_info("CLOCK_NOT_TRUSTED", "proofline", std::collections::HashMap::new());
        let status = <Status as tonic_types::StatusExt>::with_error_details(Code::Unavailable, "the clock is off", details);
        let fault = Fault::of(&status);
        assert!(fault.is_retryable() && fault.is_of_the_node());
        assert!(matches!(fault, Fault::Refused(refusal) if refusal.reason == crate::Reason::ClockNotTrusted));
    }

    #[test]
    fn only_what_was_refused_or_never_sent_is_without_effect() {
        let refused = |code, reason: &str| {
            let details = tonic_types::ErrorDetails::with_error_info(reason, "proofline", std::collections::HashMap::new());
            <Status as tonic_types::StatusExt>::with_error_details(code, "said by a node", details)
        };
        assert!(Fault::is_without_effect(&refused(Code::Unavailable, "NO_LEADER")));
        assert!(Fault::is_without_effect(&refused(Code::PermissionDenied, "OPERATOR_LACKS_ROLE")));
        for (code, reason) in [
            (Code::Unavailable, "FATE_UNKNOWN"),
            (Code::Unavailable, "LEADER_CONTRADICTED"),
            (Code::DataLoss, "STORE_FAULT"),
            (Code::Unavailable, "NOBODY_KNOWS_THIS"),
        ] {
            assert!(!Fault::is_without_effect(&refused(code, reason)), "{reason}");
        }
        assert!(!Fault::is_without_effect(&Status::unavailable("a proxy")), "no node said so");
        let source = |error: Box<dyn std::error::Error + Send + Sync>| Status::from_error(error);
        assert!(!Fault::is_without_effect(&source("the connection broke with it on its way".into())));
        assert!(Fault::is_without_effect(&source(Box::new(tonic::ConnectError("refused".into())))), "nothing was sent");
    }

    #[tokio::test]
    async fn a_retry_that_would_come_too_late_is_not_waited_for() {
        let mut attempts = Attempts::begin(RetryPolicy { within: Duration::from_secs(5), attempt: Duration::from_secs(1) }, 1, None);
        let refusal = Refusal {
            code: Code::ResourceExhausted,
            reason: crate::Reason::QuotaExceeded,
            message: String::new(),
            values: Default::default(),
            retry_after: Some(Duration::from_secs(3_000)),
        };
        let ended = attempts.pause(&"node", Fault::Refused(refusal)).await;
        assert!(matches!(ended, Err(CallError::GaveUp { attempts: 1, .. })));
    }
}
