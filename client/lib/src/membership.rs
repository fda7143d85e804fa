//! Changes of the membership: they go to the node that leads, once.

use std::time::Duration;

use proofline_proto::v1;
use thiserror::Error;

use crate::{
    call::{CallError, Fault},
    client::{Client, Link, timed},
    refusal::Reason,
};

/// Why the membership was not changed, or is not known to be.
#[derive(Debug, Error)]
pub enum MembershipError {
    /// Nobody says who leads.
    #[error(transparent)]
    Call(#[from] CallError),
    /// No node leads.
    #[error("no node leads")]
    NoLeader,
    /// The node that leads is not in the profile.
    #[error("{name} leads, and the profile has no endpoint with its address {address}")]
    LeaderNotInProfile {
        /// Its name in the membership.
        name: String,
        /// Where clients reach it, as the membership says.
        address: String,
    },
    /// The leader refused, or gave up and says so. Nothing changed, unless its message says what did.
    #[error("{endpoint}: {fault}")]
    Refused {
        /// Who was asked.
        endpoint: String,
        /// The answer.
        fault: Fault,
    },
    /// The connection broke or the time was up. The change may be under way, and the same change again does no harm.
    #[error("{endpoint}: {fault}; the change may still happen")]
    FateUnknown {
        /// Who was asked.
        endpoint: String,
        /// What was met.
        fault: Fault,
    },
}

impl Client {
    /// Adds and removes voters, at the node that leads. On return: new voters have caught up and vote, removed ones do not.
    ///
    /// # Errors
    /// [`MembershipError`]. Never tried again by itself.
    pub async fn change_membership(&self, change: v1::ChangeMembershipRequest, within: Duration) -> Result<Vec<u64>, MembershipError> {
        let link = self.leader().await?;
        match timed(within, link.control().change_membership(change)).await {
            Ok(answer) => Ok(answer.into_inner().voters),
            Err(fault) if is_settled(&fault) => Err(MembershipError::Refused { endpoint: link.endpoint().to_owned(), fault }),
            Err(fault) => Err(MembershipError::FateUnknown { endpoint: link.endpoint().to_owned(), fault }),
        }
    }

    /// Asks until a node names one: a node that is to join, or that was cut off, knows no leader where others do.
    async fn leader(&self) -> Result<Link, MembershipError> {
        let first = self.call(|link| async move { link.control().cluster_status(v1::ClusterStatusRequest {}).await }).await?;
        let mut named = leader_of(first);
        for link in self.links().iter().filter(|_| self.links().len() > 1) {
            if named.is_some() {
                break;
            }
            let asked = timed(self.retry().within, link.control().cluster_status(v1::ClusterStatusRequest {})).await;
            named = asked.ok().and_then(|answer| leader_of(answer.into_inner()));
        }
        let leader = named.ok_or(MembershipError::NoLeader)?;
        let is_leader = |link: &&Link| link.endpoint().split_once("://").is_some_and(|(_, address)| address == leader.client_address);
        let link = self.links().iter().find(is_leader).cloned();
        link.ok_or(MembershipError::LeaderNotInProfile { name: leader.name, address: leader.client_address })
    }
}

/// Tells whether nothing is under way any more: the leader says what came of the change.
fn is_settled(fault: &Fault) -> bool {
    match fault {
        Fault::Refused(refusal) => !refusal.is_of_the_node() || matches!(refusal.reason, Reason::MemberUnreachable | Reason::DidNotCatchUp),
        Fault::Connection(_) | Fault::TimedOut(_) => false,
    }
}

fn leader_of(status: v1::ClusterStatusResponse) -> Option<v1::NodeStatus> {
    status.nodes.into_iter().find(|node| node.node_id == status.leader_id)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::Refusal;

    #[test]
    fn a_change_that_the_leader_gave_up_is_not_under_way() {
        let refused =
            |code, reason| Fault::Refused(Refusal { code, reason, message: String::new(), values: Default::default(), retry_after: None });
        for settled in [
            refused(Code::Unavailable, Reason::MemberUnreachable),
            refused(Code::DeadlineExceeded, Reason::DidNotCatchUp),
            refused(Code::FailedPrecondition, Reason::PayloadsNotRepaired),
        ] {
            assert!(is_settled(&settled), "{settled}");
        }
        for open in [
            refused(Code::Unavailable, Reason::NoLeader),
            refused(Code::DeadlineExceeded, Reason::FateUnknown),
            Fault::Connection("reset".to_owned()),
            Fault::TimedOut(Duration::from_secs(1)),
        ] {
            assert!(!is_settled(&open), "{open}");
        }
    }
}
