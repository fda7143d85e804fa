//! `proofline operator`

use anyhow::Result;
use proofline_proto::v1::{self, command::Action};

use super::signing::submit;
use crate::{arguments::OperatorCommand, connection::Connection, output::Answer};

pub(super) async fn run(command: OperatorCommand, connection: &Connection) -> Result<Answer> {
    match command {
        OperatorCommand::Register { id, public_key, roles, subject, signing } => {
            let roles = roles.into_iter().map(|name| v1::OperatorRole::from(name).into()).collect();
            let operator = v1::OperatorKey { operator_id: id, public_key: public_key.load()?, roles, subject };
            submit(Action::RegisterOperator(v1::RegisterOperator { operator: Some(operator) }), &signing, connection).await
        }
        OperatorCommand::Revoke { id, reason, signing } => {
            submit(Action::RevokeOperator(v1::RevokeOperator { operator_id: id, reason }), &signing, connection).await
        }
    }
}
