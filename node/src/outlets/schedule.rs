//! What an answer means, and when to try again.

use std::time::Duration;

use proofline_proto::v1::{Outlet, outlet::Kind};
use serde::Deserialize;

use crate::post::{Answer, NoAnswer};

/// The schedule of Standard Webhooks behind the first attempt, in seconds, when the first pause is 5 s.
const WEBHOOK_PAUSES_S: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// The first pause that the tables and bounds are written for.
const FIRST_S: u32 = 5;
/// Longest pause of a stream, in first pauses: an hour when the first is 5 s.
const STREAM_PAUSE_MAX: u32 = 720;
/// Attempts of a message that the receiver cannot verify: it may fetch the keys meanwhile.
const KEY_ATTEMPTS: u32 = 3;
/// Part of a pause by which messages are moved apart.
const JITTER: f64 = 0.1;

/// How a receiver is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// RFC 8935.
    SharedSignals,
    /// Standard Webhooks.
    Webhook,
}

impl Protocol {
    pub(super) fn of(outlet: &Outlet) -> Self {
        match outlet.kind {
            Some(Kind::SharedSignals(_)) => Self::SharedSignals,
            Some(Kind::Webhook(_)) | None => Self::Webhook,
        }
    }
}

/// What is to be done after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Acknowledged.
    Delivered,
    /// Try again, not before the receiver asked for it.
    Again { error: String, not_before: Option<Duration> },
    /// Trying again does not help.
    DeadLetter { error: String },
    /// The receiver refuses who we are: somebody has to act.
    Pause { error: String },
    /// The receiver says that it is gone.
    Disable { error: String },
}

/// What RFC 8935 puts into a 400.
#[derive(Deserialize)]
struct Refused {
    err: String,
}

/// Says what an attempt means; `key_failures` is how often this message was not verified before.
pub(super) fn judge(protocol: Protocol, sent: &Result<Answer, NoAnswer>, key_failures: u32) -> Verdict {
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => return again(error.code(), None),
    };
    let code = format!("http_{}", answer.status);
    match (protocol, answer.status) {
        (Protocol::SharedSignals, 202) | (Protocol::Webhook, 200..=299) => Verdict::Delivered,
        (_, 300..=399) => Verdict::DeadLetter { error: "redirect".to_owned() },
        (_, 410) => Verdict::Disable { error: "gone".to_owned() },
        (Protocol::Webhook, _) => again(code, answer.retry_after),
        (Protocol::SharedSignals, 400) => refused(answer, key_failures),
        (Protocol::SharedSignals, 401) => Verdict::Pause { error: "authentication_failed".to_owned() },
        (Protocol::SharedSignals, 403) => Verdict::Pause { error: "access_denied".to_owned() },
        (Protocol::SharedSignals, 404 | 405 | 406 | 411..=424 | 426 | 428 | 430..=499) => Verdict::DeadLetter { error: code },
        (Protocol::SharedSignals, _) => again(code, answer.retry_after),
    }
}

fn again(error: impl Into<String>, not_before: Option<Duration>) -> Verdict {
    Verdict::Again { error: error.into(), not_before }
}

fn refused(answer: &Answer, key_failures: u32) -> Verdict {
    let refused = answer.body.as_deref().and_then(|body| serde_json::from_slice::<Refused>(body).ok());
    match refused.as_ref().map(|it| it.err.as_str()) {
        Some(error @ ("invalid_request" | "invalid_issuer" | "invalid_audience")) => Verdict::DeadLetter { error: error.to_owned() },
        Some("invalid_key") if key_failures + 1 < KEY_ATTEMPTS => again("invalid_key", answer.retry_after),
        Some("invalid_key") => Verdict::DeadLetter { error: "invalid_key".to_owned() },
        Some(error @ ("authentication_failed" | "access_denied")) => Verdict::Pause { error: error.to_owned() },
        // A code of the receiver's own is not repeated in the log.
        Some(_) => Verdict::DeadLetter { error: "unknown_error".to_owned() },
        None => Verdict::DeadLetter { error: "unreadable_error".to_owned() },
    }
}

/// Where a message stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing<'a> {
    /// Its id: the same message is always moved by the same part of a pause.
    pub(super) jti: &'a str,
    /// Attempts of this leader.
    pub(super) attempts: u32,
    /// Since when it could have been acknowledged.
    pub(super) age: Duration,
}

/// How patient a node is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) first: Duration,
    pub(super) give_up_after: Duration,
}

/// Returns the pause before the next attempt, or nothing when there is to be none.
pub(super) fn pause(protocol: Protocol, of: Standing<'_>, patience: Patience, not_before: Option<Duration>) -> Option<Duration> {
    let pause = match protocol {
        Protocol::SharedSignals if of.age >= patience.give_up_after => return None,
        Protocol::SharedSignals => {
            let doublings = of.attempts.saturating_sub(1).min(31);
            patience.first.saturating_mul(1 << doublings).min(patience.first.saturating_mul(STREAM_PAUSE_MAX))
        }
        // By age and not by attempts: a new leader goes on where the schedule stands.
        Protocol::Webhook => {
            let mut points = WEBHOOK_PAUSES_S.iter().scan(Duration::ZERO, |at, seconds| {
                *at += scaled(*seconds, patience.first);
                Some(*at)
            });
            points.find(|at| *at > of.age)? - of.age
        }
    };
    Some(pause.mul_f64(1.0 + jitter(of)).max(not_before.unwrap_or_default()))
}

fn scaled(seconds: u64, first: Duration) -> Duration {
    first.saturating_mul(u32::try_from(seconds).unwrap_or(u32::MAX)) / FIRST_S
}

/// Between 0 and a tenth, from the message and the attempt: many messages do not come back at once.
fn jitter(of: Standing<'_>) -> f64 {
    let mut input = of.jti.as_bytes().to_vec();
    input.extend_from_slice(&of.attempts.to_be_bytes());
    let byte = blake3::hash(&input).as_bytes().first().copied().unwrap_or_default();
    JITTER * f64::from(byte) / 256.0
}

#[cfg(test)]
mod tests;
