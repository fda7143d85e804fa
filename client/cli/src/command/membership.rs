//! `proofline membership`

use anyhow::Result;
use proofline_proto::v1;
use serde_json::json;

use crate::{arguments::MembershipCommand, connection::Connection, output::Answer};

pub(super) async fn run(command: MembershipCommand, connection: &Connection) -> Result<Answer> {
    let (change, within) = match command {
        MembershipCommand::Add { node_id, peer_address, client_address, within } => {
            let member = v1::Member { node_id, peer_address, client_address };
            (v1::ChangeMembershipRequest { add: vec![member], remove: Vec::new() }, within)
        }
        MembershipCommand::Remove { node_ids, within } => (v1::ChangeMembershipRequest { add: Vec::new(), remove: node_ids }, within),
    };
    let voters: Vec<String> = connection.client.change_membership(change, within).await?.iter().map(ToString::to_string).collect();
    let text = format!("voters: {}\n", voters.join(", "));
    Ok(Answer::new("proofline.membership/v1", json!({ "voters": voters }), text))
}
