//! What a history says of speed and memory.

use serde::Serialize;

use crate::history::{Action, Fault, History, Installed, Mark, Moment};

/// Figures of one run. A figure that nothing was measured for is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Measures {
    /// From the kill of a leader to the first acknowledgement of a batch that was sent after it, in milliseconds: all of them, sorted.
    pub leader_kill_to_ack_ms: Vec<u64>,
    /// Half of them took no longer.
    pub leader_kill_p50_ms: Option<u64>,
    /// 99 of 100 took no longer.
    pub leader_kill_p99_ms: Option<u64>,
    /// From the last heal to one state on all nodes, in milliseconds.
    pub heal_to_same_state_ms: Option<u64>,
    /// Longest time between two acknowledgements, whatever was broken, in milliseconds.
    pub longest_without_acknowledgement_ms: u64,
    /// Most memory that a node held, in bytes.
    pub resident_bytes_max: Option<u64>,
    /// Acknowledged batches.
    pub acknowledged: u64,
}

impl Measures {
    /// Takes the figures from a history.
    #[must_use]
    pub fn of(history: &History, heal_to_same_state_ms: Option<u64>) -> Self {
        let appends = history.operations.iter().filter(|operation| matches!(operation.action, Action::Append { .. }));
        let mut acknowledged: Vec<(Moment, Moment)> =
            appends.filter(|operation| operation.answer().is_some()).map(|operation| (operation.invoked, operation.returned)).collect();
        acknowledged.sort_unstable_by_key(|(_, returned)| *returned);
        let killed = history.faults.iter().filter(|it| it.fault == Fault::KillLeader && it.installed == Installed::Installed);
        let first_after = |at: Moment| acknowledged.iter().find(|(invoked, _)| *invoked >= at).map(|(_, returned)| returned.ms_since(at));
        let mut waits: Vec<u64> = killed.filter_map(|fault| first_after(killed_at(history, fault.began))).collect();
        waits.sort_unstable();
        let resident = history.marks.iter().filter_map(|mark| match mark.what {
            Mark::Resident { bytes, .. } => Some(bytes),
            _ => None,
        });
        let gaps = acknowledged.windows(2).filter_map(|pair| Some(pair.last()?.1.ms_since(pair.first()?.1)));
        Self {
            longest_without_acknowledgement_ms: gaps.max().unwrap_or(0),
            leader_kill_p50_ms: percentile(&waits, 50),
            leader_kill_p99_ms: percentile(&waits, 99),
            leader_kill_to_ack_ms: waits,
            heal_to_same_state_ms,
            resident_bytes_max: resident.max(),
            acknowledged: acknowledged.len() as u64,
        }
    }
}

/// The fault begins with looking for the leader; the process ends a little later.
fn killed_at(history: &History, began: Moment) -> Moment {
    let ended = history.marks.iter().find(|mark| mark.at >= began && matches!(mark.what, Mark::Ended { .. }));
    ended.map_or(began, |mark| mark.at)
}

/// Returns the smallest value that `percent` of all do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let measured: Vec<u64> = (1..=200).collect();
        assert_eq!((percentile(&measured, 50), percentile(&measured, 99)), (Some(100), Some(198)));
        assert_eq!((percentile(&[7], 99), percentile(&[], 50)), (Some(7), None));
    }
}
