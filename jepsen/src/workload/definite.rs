//! Which answers say that something was not done, and never will be.

use tonic::Status;
use tonic_types::StatusExt as _;

use crate::history::{Answer, Outcome};

/// Reasons that say: this try had no effect, and will have none. Every other error leaves the fate of a write unknown.
pub const NOT_DONE: [&str; 35] = [
    "ALREADY_CONTAINED",
    "ALREADY_DONE",
    "BEYOND_QUOTA",
    "CLOCK_NOT_TRUSTED",
    "COLLECTOR_REVOKED",
    "COMMAND_EXPIRED",
    "COMMAND_LIVES_TOO_LONG",
    "EPOCH_CLOSED",
    "EPOCH_FENCED",
    "EQUIVOCATION",
    "INBOX_FULL",
    "KEY_IN_USE",
    "KEY_NOT_REGISTERED",
    "LACKS_ROLE",
    "LANE_NOT_OPEN",
    "LAST_NODE",
    "LAST_REGISTRARS",
    "MALFORMED",
    "NOT_A_PROPOSAL",
    "NOT_BEGUN",
    "NO_LEADER",
    "OPERATOR_LACKS_ROLE",
    "OTHER_COLLECTOR",
    "QUOTA_EXCEEDED",
    "SECOND_OPERATOR_NEEDED",
    "SHUTTING_DOWN",
    "SIGNATURE_DOES_NOT_VERIFY",
    "TOO_LARGE",
    "TOO_MANY_QUESTIONS",
    "UNKNOWN_COLLECTOR",
    "UNKNOWN_OPERATOR",
    "UNKNOWN_SUBJECT",
    "WEAK_KEY",
    "WRONG_PREVIOUS",
    "WRONG_SEQUENCE",
];

/// Reasons that say of a batch: it is not in the log, and no try of it, earlier or later, puts it there. The ledger looks
/// for the batch itself before it gives them.
pub const FOR_GOOD: [&str; 2] = ["EPOCH_CLOSED", "EPOCH_FENCED"];

/// Returns the reason that a node gave, and a value that stands with it.
#[must_use]
pub fn refusal_of(status: &Status, value: &str) -> Option<(String, Option<u64>)> {
    let info = status.get_details_error_info()?;
    let number = info.metadata.get(value).and_then(|text| text.parse().ok());
    Some((info.reason, number))
}

/// Says how a write ended: done, definitely not done, or nobody knows.
#[must_use]
pub fn write_outcome(answer: Result<Answer, Status>) -> Outcome {
    let status = match answer {
        Ok(answer) => return Outcome::Ok { answer },
        Err(status) => status,
    };
    match refusal_of(&status, "") {
        Some((reason, _)) if NOT_DONE.contains(&reason.as_str()) => Outcome::Fail { for_good: FOR_GOOD.contains(&reason.as_str()), reason },
        Some((reason, _)) => Outcome::Info { reason },
        None => Outcome::Info { reason: format!("{:?}: {}", status.code(), status.message()) },
    }
}

/// Says how a read ended: a read has no effect, so one without an answer did nothing.
pub(super) fn read_outcome(answer: Result<Answer, Status>) -> Outcome {
    match answer {
        Ok(answer) => Outcome::Ok { answer },
        Err(status) => {
            let reason = refusal_of(&status, "").map_or_else(|| format!("{:?}: {}", status.code(), status.message()), |(reason, _)| reason);
            Outcome::Fail { reason, for_good: false }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(reason: &str) -> Outcome {
        let details = ErrorDetails::with_error_info(reason, "proofline", HashMap::new());
        write_outcome(Err(Status::with_error_details(Code::Unavailable, "no", details)))
    }

    #[test]
    fn only_reasons_that_promise_it_count_as_not_done() {
        assert!(matches!(refused("NO_LEADER"), Outcome::Fail { for_good: false, .. }));
        assert!(matches!(refused("EPOCH_FENCED"), Outcome::Fail { for_good: true, .. }));
        for unknown in ["FATE_UNKNOWN", "STORE_FAULT", "A_REASON_OF_TOMORROW"] {
            assert!(matches!(refused(unknown), Outcome::Info { .. }), "{unknown}");
        }
        assert!(matches!(write_outcome(Err(Status::unavailable("connection reset"))), Outcome::Info { .. }));
    }

    #[test]
    fn the_lists_are_sorted_and_one_is_part_of_the_other() {
        assert!(NOT_DONE.is_sorted() && FOR_GOOD.iter().all(|reason| NOT_DONE.contains(reason)));
    }
}
