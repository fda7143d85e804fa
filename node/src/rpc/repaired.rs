//! Whether a change of the members would leave an acknowledged payload on too few of their disks.
//!
//! What was acknowledged lies on a majority of the voters of that time. A node that has looked through the lists of so many voters
//! that every majority has one of them therefore has all of it, whichever voter is down.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proofline_proto::v1::PayloadProgress;
use tokio::time::Instant;
use tonic::Status;

use super::{Api, status::refused};

/// How long a member may take to say how far it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Pause between two questions.
const ASKED_AGAIN: Duration = Duration::from_millis(500);

/// What the members said of their payloads; one that did not answer is missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey(BTreeMap<u64, PayloadProgress>);

impl Survey {
    /// Tells whether `node` looked through everything that `of` had taken when it was asked.
    fn has_seen(&self, node: u64, of: u64) -> bool {
        let (Some(own), Some(other)) = (self.0.get(&node), self.0.get(&of)) else { return false };
        let reached = own.reached.iter().find(|it| it.node_id == of);
        node == of || reached.is_some_and(|it| it.incarnation == other.incarnation && it.number >= other.last)
    }

    /// Tells whether `node` has whatever was acknowledged while `voters` were the voters.
    fn is_complete(&self, node: u64, voters: &BTreeSet<u64>) -> bool {
        let seen = voters.iter().filter(|of| self.has_seen(node, **of)).count();
        seen >= voters.len() - voters.len() / 2
    }

    /// Tells whether all of `nodes` are complete.
    pub(super) fn are_complete(&self, nodes: &BTreeSet<u64>, voters: &BTreeSet<u64>) -> bool {
        nodes.iter().all(|node| self.is_complete(*node, voters))
    }

    /// Tells whether a majority of `staying` is complete.
    pub(super) fn majority_is_complete(&self, staying: &BTreeSet<u64>, voters: &BTreeSet<u64>) -> bool {
        staying.iter().filter(|node| self.is_complete(**node, voters)).count() * 2 > staying.len()
    }

    /// Tells whether each of `leaving` that answers was looked through by a majority of `staying`.
    pub(super) fn have_nothing_left(&self, leaving: &BTreeSet<u64>, staying: &BTreeSet<u64>) -> bool {
        let is_seen = |of: u64| staying.iter().filter(|node| self.has_seen(**node, of)).count() * 2 > staying.len();
        leaving.iter().filter(|of| self.0.contains_key(of)).all(|of| is_seen(*of))
    }
}

impl Api {
    /// Waits until the members' payloads are where a change needs them.
    ///
    /// # Errors
    /// `PAYLOADS_NOT_REPAIRED` when the time is up; `meanwhile` says what the membership is then.
    pub(super) async fn wait_repaired(&self, until: Instant, meanwhile: &str, enough: impl Fn(&Survey) -> bool) -> Result<(), Status> {
        loop {
            let (survey, silent) = self.survey().await;
            if enough(&survey) {
                return Ok(());
            }
            if Instant::now() >= until {
                let silent = if silent.is_empty() { String::new() } else { format!(", not node {silent:?}, which does not answer") };
                let message = format!(
                    "acknowledged payloads would be on too few voters: fetching is under way from every member{silent}; {meanwhile}. \
                     Ask again, or with lose_payloads"
                );
                return Err(refused("PAYLOADS_NOT_REPAIRED", message));
            }
            tokio::time::sleep_until(until.min(Instant::now() + ASKED_AGAIN)).await;
        }
    }

    async fn survey(&self) -> (Survey, BTreeSet<u64>) {
        let members: BTreeSet<u64> = self.peers.members().into_keys().collect();
        let asked = members.iter().map(|node| async move {
            if *node == self.peers.node_id() {
                return Some((*node, self.payloads.progress()));
            }
            let answer = tokio::time::timeout(ANSWER_WITHIN, self.peers.status(*node)).await.ok()?.ok()?;
            Some((*node, answer.status?.payloads?))
        });
        let said: BTreeMap<u64, PayloadProgress> = futures::future::join_all(asked).await.into_iter().flatten().collect();
        let silent = members.into_iter().filter(|node| !said.contains_key(node)).collect();
        (Survey(said), silent)
    }
}

#[cfg(test)]
mod tests {
    use proofline_proto::v1::PayloadReached;

    use super::*;

    fn says(last: u64, reached: &[(u64, u64)]) -> PayloadProgress {
        let of = |(node_id, number): &(u64, u64)| PayloadReached {
            node_id: *node_id,
            incarnation: node_id.to_be_bytes().to_vec(),
            number: *number,
        };
        PayloadProgress { incarnation: Vec::new(), last, reached: reached.iter().map(of).collect() }
    }

    fn survey(of: &[(u64, PayloadProgress)]) -> Survey {
        Survey(of.iter().map(|(node, it)| (*node, PayloadProgress { incarnation: node.to_be_bytes().to_vec(), ..it.clone() })).collect())
    }

    fn set(of: &[u64]) -> BTreeSet<u64> {
        of.iter().copied().collect()
    }

    #[test]
    fn whoever_saw_half_of_the_voters_or_more_has_all_that_a_majority_acknowledged() {
        let voters = set(&[1, 2, 3]);
        let all = [(1, says(9, &[(2, 9)])), (2, says(9, &[(1, 9)])), (3, says(0, &[(1, 8), (2, 9)])), (4, says(0, &[(1, 9), (2, 9)]))];
        let all = survey(&all);
        assert!(all.are_complete(&set(&[1, 2, 3, 4]), &voters), "each saw two of three");
        assert!(!all.are_complete(&set(&[5]), &voters), "who does not answer is not known to have anything");
        assert!(!survey(&[(1, says(9, &[])), (4, says(0, &[(1, 9), (2, 9)]))]).are_complete(&set(&[4]), &voters), "one is silent");
    }

    #[test]
    fn a_voter_that_is_dead_can_leave_when_the_others_saw_each_other_and_not_before() {
        let (voters, staying) = (set(&[1, 2, 3]), set(&[1, 2]));
        let met = survey(&[(1, says(5, &[(2, 7)])), (2, says(7, &[(1, 5)]))]);
        assert!(met.majority_is_complete(&staying, &voters) && met.have_nothing_left(&set(&[3]), &staying));
        let behind = survey(&[(1, says(5, &[(2, 6)])), (2, says(7, &[(1, 5)]))]);
        assert!(!behind.majority_is_complete(&staying, &voters), "one of two is no majority");
        assert!(!behind.have_nothing_left(&set(&[2]), &set(&[1])));
    }

    #[test]
    fn numbers_of_a_list_that_began_anew_count_for_nothing() {
        let mut renewed = survey(&[(1, says(5, &[])), (2, says(0, &[(1, 5)]))]);
        assert!(renewed.are_complete(&set(&[2]), &set(&[1])));
        renewed.0.get_mut(&1).unwrap().incarnation = vec![99];
        assert!(!renewed.are_complete(&set(&[2]), &set(&[1])));
    }
}
