//! `proofline collector`

use anyhow::Result;
use proofline_client::Link;
use proofline_proto::v1::{self, command::Action};
use serde_json::{Value, json};

use super::signing::submit;
use crate::{
    arguments::{CollectorCommand, CollectorRegistration},
    connection::Connection,
    form,
    output::{Answer, facts, table},
};

const PAGE_SIZE: u32 = 500;

pub(super) async fn run(command: CollectorCommand, connection: &Connection) -> Result<Answer> {
    match command {
        CollectorCommand::Register(it) => register(*it, connection).await,
        CollectorCommand::Revoke { id, reason, signing } => {
            let action = Action::RevokeCollector(v1::RevokeCollector { collector_id: id, reason });
            submit(action, &signing, connection).await
        }
        CollectorCommand::List => list(connection).await,
        CollectorCommand::Head { id, lane } => head(id, lane, connection).await,
    }
}

async fn register(it: CollectorRegistration, connection: &Connection) -> Result<Answer> {
    let action = Action::RegisterCollector(v1::RegisterCollector {
        public_key: it.public_key.load()?,
        collector_id: it.id,
        spiffe_id: it.spiffe_id,
        tenant_id: it.tenant,
        agents: it.agents,
        vantages: it.vantages.into_iter().map(|name| v1::Vantage::from(name).into()).collect(),
        events_per_hour: it.events_per_hour,
        sessions_per_hour: it.sessions_per_hour,
        payload_bytes_per_hour: it.payload_bytes_per_hour,
    });
    submit(action, &it.signing, connection).await
}

async fn list(connection: &Connection) -> Result<Answer> {
    let mut found: Vec<v1::CollectorSummary> = Vec::new();
    let mut after_collector_id = String::new();
    loop {
        let request = v1::ListCollectorsRequest { after_collector_id: after_collector_id.clone(), page_size: PAGE_SIZE };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().list_collectors(request).await }
        };
        let page = connection.client.call(call).await?;
        found.extend(page.collectors);
        if page.next_after.is_empty() {
            break;
        }
        after_collector_id = page.next_after;
    }
    let json = found.iter().map(|it| form::to_json("CollectorSummary", it)).collect::<Result<Vec<_>, _>>()?;
    Ok(Answer::new("proofline.collectors/v1", json!({ "collectors": json }), table(HEADINGS, found.iter().map(row))))
}

const HEADINGS: [&str; 6] = ["COLLECTOR", "TENANT", "IDENTITY", "AGENTS", "PUBLIC KEY", "STATE"];

fn row(of: &v1::CollectorSummary) -> [String; 6] {
    let registration = of.registration.clone().unwrap_or_default();
    let key: String = hex::encode(&registration.public_key).chars().take(16).collect();
    let state = match of.revoked_at_index {
        0 => format!("registered at {}", of.valid_from_index),
        at => format!("revoked at {at}"),
    };
    [registration.collector_id, registration.tenant_id, registration.spiffe_id, registration.agents.join(" "), key, state]
}

async fn head(id: String, lane: u32, connection: &Connection) -> Result<Answer> {
    let request = v1::GetCollectorHeadRequest { collector_id: id, lane };
    let call = |link: Link| {
        let request = request.clone();
        async move { link.ingest().get_collector_head(request).await }
    };
    let head = connection.client.call(call).await?;
    let last = head.last.clone().unwrap_or_default();
    let state = match (head.epoch, head.closed) {
        (0, _) => "never opened",
        (_, true) => "closed",
        (_, false) => "open",
    };
    let text = facts([
        ("lane", state.to_owned()),
        ("epoch", head.epoch.to_string()),
        ("last batch", format!("{} of epoch {}", last.sequence, last.epoch)),
        ("digest", hex::encode(&last.digest)),
    ]);
    let json = json!({ "state": state, "head": form::to_json("GetCollectorHeadResponse", &head).unwrap_or(Value::Null) });
    Ok(Answer::new("proofline.collector-head/v1", json, text))
}
