//! `proofline membership`

use std::time::Duration;

use anyhow::Result;
use proofline_proto::v1;
use serde_json::json;

use crate::{arguments::MembershipCommand, connection::Connection, output::Answer};

/// What the node allows at most: a day.
const CATCH_UP_MAX_S: u32 = 86_400;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

pub(super) async fn run(command: MembershipCommand, connection: &Connection) -> Result<Answer> {
    let (change, within) = match command {
        MembershipCommand::Add { node_id, peer_address, client_address, name, within, lose_payloads } => {
            let member = v1::Member { node_id, peer_address, client_address, name };
            (v1::ChangeMembershipRequest { add: vec![member], lose_payloads, ..Default::default() }, within)
        }
        MembershipCommand::Remove { node_ids, within, lose_payloads } => {
            (v1::ChangeMembershipRequest { remove: node_ids, lose_payloads, ..Default::default() }, within)
        }
    };
    let catch_up_within_s = u32::try_from(within.as_secs()).unwrap_or(u32::MAX).clamp(1, CATCH_UP_MAX_S);
    let change = v1::ChangeMembershipRequest { catch_up_within_s, ..change };
    // The node takes its time, and then some to answer.
    let within = within + ANSWER_WITHIN;
    let voters: Vec<String> = connection.client.change_membership(change, within).await?.iter().map(ToString::to_string).collect();
    let text = format!("voters: {}\n", voters.join(", "));
    Ok(Answer::new("proofline.membership/v1", json!({ "voters": voters }), text))
}
