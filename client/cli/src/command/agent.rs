//! `proofline agent`

use anyhow::Result;
use proofline_client::{CallError, Link};
use proofline_proto::v1::{self, command::Action};
use serde_json::json;

use super::signing::submit;
use crate::{
    arguments::{AgentCommand, AgentRegistration, AgentStateName},
    connection::Connection,
    describe, form,
    output::{Answer, table},
};

const PAGE_SIZE: u32 = 500;

pub(super) async fn run(command: AgentCommand, connection: &Connection) -> Result<Answer> {
    match command {
        AgentCommand::Register(it) => register(*it, connection).await,
        AgentCommand::Revoke { id, tenant, reason, signing } => {
            let action = Action::RevokeAgent(v1::RevokeAgent { tenant_id: tenant, agent_id: id, reason });
            submit(action, &signing, connection).await
        }
        AgentCommand::State { id, state, tenant, reason, signing } => {
            let state = v1::AgentState::from(state).into();
            let change = v1::ChangeAgentState { tenant_id: tenant, agent_id: id, state, reason };
            submit(Action::ChangeAgentState(change), &signing, connection).await
        }
        AgentCommand::List { tenant, state } => list(&tenant, state, connection).await,
    }
}

async fn register(it: AgentRegistration, connection: &Connection) -> Result<Answer> {
    let deployment =
        v1::Deployment { repository: it.repository, revision: it.revision, image_digest: it.image_digest, pipeline_run: it.pipeline_run };
    let action = Action::RegisterAgent(v1::RegisterAgent {
        tenant_id: it.tenant,
        agent_id: it.id,
        name: it.name,
        business_owner: it.business_owner,
        technical_owner: it.technical_owner,
        revocation_paths: it.revocation_paths,
        deployment: Some(deployment).filter(|it| *it != v1::Deployment::default()),
    });
    submit(action, &it.signing, connection).await
}

async fn list(tenant: &str, state: Option<AgentStateName>, connection: &Connection) -> Result<Answer> {
    let found = agents(tenant, state.map_or(v1::AgentState::Unspecified, Into::into), connection).await?;
    let json = found.iter().map(|it| form::to_json("AgentSummary", it)).collect::<Result<Vec<_>, _>>()?;
    let headings = ["AGENT", "STATE", "FIRST SEEN", "BUSINESS OWNER", "TECHNICAL OWNER", "REVOCATION", "REVISION"];
    Ok(Answer::new("proofline.agents/v1", json!({ "agents": json }), table(headings, found.into_iter().map(row))))
}

/// Every agent of a tenant in a state; in any, when none is named.
pub(super) async fn agents(tenant: &str, state: v1::AgentState, connection: &Connection) -> Result<Vec<v1::AgentSummary>, CallError> {
    let mut found: Vec<v1::AgentSummary> = Vec::new();
    let mut after_agent_id = String::new();
    loop {
        let request = v1::ListAgentsRequest { tenant_id: tenant.to_owned(), state: state.into(), after_agent_id, page_size: PAGE_SIZE };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().list_agents(request).await }
        };
        let page = connection.client.call(call).await?;
        found.extend(page.agents);
        if page.next_after.is_empty() {
            return Ok(found);
        }
        after_agent_id = page.next_after;
    }
}

fn row(of: v1::AgentSummary) -> [String; 7] {
    let state = of.state().as_str_name().trim_start_matches("AGENT_STATE_").to_ascii_lowercase();
    let seen = if of.first_seen_unix_ns == 0 { String::new() } else { describe::time(of.first_seen_unix_ns) };
    [
        of.agent_id,
        state,
        seen,
        of.business_owner,
        of.technical_owner,
        of.revocation_paths.join(" "),
        of.deployment.map(|it| it.revision).unwrap_or_default(),
    ]
}
