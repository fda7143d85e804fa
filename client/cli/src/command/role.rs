//! `proofline role`

use anyhow::Result;
use proofline_proto::v1::{self, command::Action};

use super::signing::submit;
use crate::{
    arguments::{RoleArguments, RoleCommand},
    connection::Connection,
    output::Answer,
};

pub(super) async fn run(command: RoleCommand, connection: &Connection) -> Result<Answer> {
    let (action, signing) = match command {
        RoleCommand::Grant(it) => (Action::GrantRole(v1::GrantRole { grant: Some(grant(&it)) }), it.signing),
        RoleCommand::Revoke(it) => (Action::RevokeRole(v1::RevokeRole { grant: Some(grant(&it)) }), it.signing),
    };
    submit(action, &signing, connection).await
}

fn grant(of: &RoleArguments) -> v1::RoleGrant {
    v1::RoleGrant { spiffe_id: of.spiffe_id.clone(), role: v1::Role::from(of.role).into(), tenant_id: of.tenant.clone() }
}
