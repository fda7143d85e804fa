//! `proofline status`

use std::collections::BTreeMap;

use anyhow::Result;
use proofline_client::Link;
use proofline_proto::v1;
use serde_json::json;

use crate::{
    connection::Connection,
    exit::Exit,
    form,
    output::{Answer, facts, table},
};

pub(super) async fn run(connection: &Connection) -> Result<Answer> {
    let call = |link: Link| async move { link.control().cluster_status(v1::ClusterStatusRequest {}).await };
    let status = connection.client.call(call).await?;
    let health = Health::of(&status);
    let leader = status.nodes.iter().find(|node| node.node_id == status.leader_id).map_or("none", |node| node.name.as_str());
    let mut text = facts([
        ("origin", status.origin.clone()),
        ("state", health.in_words()),
        ("leader", leader.to_owned()),
        ("term", status.term.to_string()),
        ("may still fail", format!("{} of {} nodes", status.failure_tolerance, status.nodes.len())),
    ]);
    text.push('\n');
    let headings = ["NODE", "ROLE", "CLIENTS", "ENTRIES", "CHECKPOINT", "RAFT LOG", "CLOCK", "VERSION", "ERROR"];
    text.push_str(&table(headings, status.nodes.iter().map(row)));
    let json = json!({ "state": health.as_str(), "status": form::to_json("ClusterStatusResponse", &status)? });
    Ok(Answer::new("proofline.status/v1", json, text).ending(health.exit()))
}

fn row(of: &v1::NodeStatus) -> [String; 9] {
    let answers = of.error.is_empty();
    let known = |value: String| if answers { value } else { "-".to_owned() };
    let role = of.role().as_str_name().trim_start_matches("NODE_ROLE_").to_ascii_lowercase();
    [
        of.name.clone(),
        known(role),
        of.client_address.clone(),
        known(of.tree_size.to_string()),
        known(of.checkpoint_size.to_string()),
        known(of.applied_log_index.to_string()),
        known(format!("{:+} ms", of.clock_offset_ms)),
        known(of.version.clone()),
        of.error.clone(),
    ]
}

/// How the cluster does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Health {
    Whole,
    NoLeader,
    /// Fewer than a majority answer, whatever the node that was asked still believes.
    NoQuorum(Vec<String>),
    Missing(Vec<String>),
    /// Two nodes of one size have different roots or states: one of them is wrong.
    Diverged(u64),
}

impl Health {
    fn of(status: &v1::ClusterStatusResponse) -> Self {
        let mut seen: BTreeMap<u64, (&[u8], &[u8])> = BTreeMap::new();
        for node in status.nodes.iter().filter(|node| node.error.is_empty() && !node.log_root.is_empty()) {
            let state = (node.log_root.as_slice(), node.state_digest.as_slice());
            if seen.insert(node.tree_size, state).is_some_and(|before| before != state) {
                return Self::Diverged(node.tree_size);
            }
        }
        let missing: Vec<_> = status.nodes.iter().filter(|node| !node.error.is_empty()).map(|node| node.name.clone()).collect();
        match status.leader_id {
            _ if missing.len() * 2 >= status.nodes.len() => Self::NoQuorum(missing),
            0 => Self::NoLeader,
            _ if missing.is_empty() => Self::Whole,
            _ => Self::Missing(missing),
        }
    }

    fn as_str(&self) -> &'static str {
        match self {
            Self::Whole => "ok",
            Self::NoLeader => "no_leader",
            Self::NoQuorum(_) => "no_quorum",
            Self::Missing(_) => "degraded",
            Self::Diverged(_) => "diverged",
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Whole => "ok".to_owned(),
            Self::NoLeader => "NO LEADER: writes are refused".to_owned(),
            Self::NoQuorum(nodes) => format!("NO QUORUM: writes are refused; no answer from {}", nodes.join(", ")),
            Self::Missing(nodes) => format!("DEGRADED: no answer from {}", nodes.join(", ")),
            Self::Diverged(size) => format!("DIVERGED: nodes with {size} entries hold different logs or states"),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Whole => Exit::Done,
            Self::NoLeader | Self::NoQuorum(_) => Exit::Unreachable,
            Self::Missing(_) => Exit::Degraded,
            Self::Diverged(_) => Exit::ProvenWrong,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(size: u64, root: u8, error: &str) -> v1::NodeStatus {
        let name = format!("node-{root}");
        v1::NodeStatus { name, tree_size: size, log_root: vec![root; 32], error: error.to_owned(), ..Default::default() }
    }

    fn health(nodes: Vec<v1::NodeStatus>) -> Health {
        Health::of(&v1::ClusterStatusResponse { leader_id: 1, nodes, ..Default::default() })
    }

    #[test]
    fn nodes_that_lag_behind_are_no_divergence() {
        assert_eq!(health(vec![node(7, 1, ""), node(6, 2, ""), node(7, 1, "")]), Health::Whole);
    }

    #[test]
    fn two_roots_of_one_size_are_proof_that_a_node_is_wrong() {
        let health = health(vec![node(7, 1, ""), node(7, 2, ""), node(7, 1, "unreachable")]);
        assert_eq!((health.clone(), health.exit()), (Health::Diverged(7), Exit::ProvenWrong));
    }

    #[test]
    fn a_node_that_does_not_answer_degrades_the_cluster() {
        assert_eq!(health(vec![node(7, 1, ""), node(7, 1, ""), node(0, 2, "unreachable")]).exit(), Exit::Degraded);
    }

    #[test]
    fn a_leader_without_a_majority_is_no_quorum() {
        let health = health(vec![node(7, 1, ""), node(0, 2, "unreachable"), node(0, 3, "unreachable")]);
        assert_eq!(health.exit(), Exit::Unreachable);
    }
}
