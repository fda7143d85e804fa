//! `proofline node`

use anyhow::Result;
use proofline_proto::v1::{self, command::Action};

use super::signing::submit;
use crate::{arguments::NodeCommand, connection::Connection, output::Answer};

pub(super) async fn run(command: NodeCommand, connection: &Connection) -> Result<Answer> {
    match command {
        NodeCommand::Register { name, node_id, public_key, signing } => {
            let node = v1::NodeKey { node_id, name, public_key: public_key.load()? };
            submit(Action::RegisterNode(v1::RegisterNode { node: Some(node) }), &signing, connection).await
        }
        NodeCommand::Retire { node_id, reason, signing } => {
            submit(Action::RetireNode(v1::RetireNode { node_id, reason }), &signing, connection).await
        }
    }
}
