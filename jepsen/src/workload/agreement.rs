//! Waits until all nodes say that they have the same state, and reads what they have.

use std::{path::Path, time::Duration};

use proofline_client::Profile;
use proofline_proto::v1;
use tokio::time::Instant;

use tonic::Status;

use super::{WorkloadError, attempt::timed, definite::read_outcome, reach::Reach, reader::read_entries};
use crate::history::{Action, Answer, Mark, NodeId, Recorder};

/// How often they are asked.
const EVERY: Duration = Duration::from_millis(50);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Asks until every node of `expected` has the same size and state digest, and marks it in the history. Nobody may write
/// meanwhile: what grows is never the same everywhere. `nodes` are those of the profile's endpoints, in its order.
///
/// Returns the size, or none when they did not agree in time.
///
/// # Errors
/// [`WorkloadError`] when the profile cannot be used.
pub async fn await_agreement(
    profile: &Path,
    nodes: &[NodeId],
    expected: &[NodeId],
    within: Duration,
    recorder: &Recorder,
) -> Result<Option<u64>, WorkloadError> {
    let reach = Reach::of(&Profile::load(profile)?, nodes)?;
    let until = Instant::now() + within;
    for seat in reach.seats().iter().cycle() {
        let mut control = seat.link.control();
        if let Ok(status) = timed(ANSWER_WITHIN, control.cluster_status(v1::ClusterStatusRequest {})).await
            && let Some(size) = agreed(&status, expected)
        {
            recorder.mark(Mark::Recovered { size }).await;
            return Ok(Some(size));
        }
        if Instant::now() >= until {
            break;
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(None)
}

/// Reads the whole published log of every node by the API, into the history: the checks compare it with what is on the disks.
///
/// # Errors
/// [`WorkloadError`] when the profile cannot be used. A node that does not answer is no error; its read has failed.
pub async fn read_everything(profile: &Path, nodes: &[NodeId], within: Duration, recorder: &Recorder) -> Result<(), WorkloadError> {
    let reach = Reach::of(&Profile::load(profile)?, nodes)?;
    let mut actor = recorder.actor();
    for seat in reach.seats() {
        let open = actor.begin(seat.node, Action::Read { from: 0, limit: u64::MAX }).await;
        let request = v1::ReadEntriesRequest { from_index: 0, limit: 0, follow: false };
        let answer = tokio::time::timeout(within, read_entries(seat, request)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        open.end(read_outcome(answer.map(Answer::Entries))).await;
    }
    Ok(())
}

fn agreed(status: &v1::ClusterStatusResponse, expected: &[NodeId]) -> Option<u64> {
    let of = |node: &NodeId| status.nodes.iter().find(|it| it.node_id == node.0 && it.error.is_empty());
    let all = expected.iter().map(of).collect::<Option<Vec<_>>>()?;
    let first = *all.first()?;
    let is_same =
        |it: &&v1::NodeStatus| (it.tree_size, &it.state_digest, &it.log_root) == (first.tree_size, &first.state_digest, &first.log_root);
    all.iter().all(is_same).then_some(first.tree_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node_id: u64, tree_size: u64, digest: u8) -> v1::NodeStatus {
        v1::NodeStatus { node_id, tree_size, state_digest: vec![digest; 32], ..Default::default() }
    }

    #[test]
    fn only_nodes_that_answer_with_the_same_state_agree() {
        let both = [NodeId(1), NodeId(2)];
        let status = |second| v1::ClusterStatusResponse { nodes: vec![node(1, 7, 3), second], ..Default::default() };
        assert_eq!(agreed(&status(node(2, 7, 3)), &both), Some(7));
        let silent = v1::NodeStatus { error: "no answer".to_owned(), ..node(2, 7, 3) };
        for other in [node(2, 8, 3), node(2, 7, 4), node(3, 7, 3), silent] {
            assert_eq!(agreed(&status(other), &both), None);
        }
    }
}
