//! `proofline purpose` and `proofline server`

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use proofline_client::Link;
use proofline_proto::v1::{self, command::Action};
use proofline_verifier::rfc3339_of_nanoseconds;
use serde_json::json;

use super::signing::submit;
use crate::{
    arguments::{ClassificationName, PurposeArguments, PurposeCommand, ServerArguments, ServerCommand},
    connection::Connection,
    describe, form,
    output::{Answer, table},
};

const PAGE_SIZE: u32 = 500;
const DAY: Duration = Duration::from_secs(24 * 3_600);

pub(super) async fn purpose(command: PurposeCommand, connection: &Connection) -> Result<Answer> {
    match command {
        PurposeCommand::Declare(it) => declare(*it, connection).await,
        PurposeCommand::List { tenant } => purposes(&tenant, connection).await,
    }
}

/// Returns every purpose that a tenant declared.
pub(super) async fn declared(tenant: &str, connection: &Connection) -> Result<Vec<v1::DeclarePurpose>> {
    let mut found = Vec::new();
    let mut after_purpose_id = String::new();
    loop {
        let request = v1::ListPurposesRequest { tenant_id: tenant.to_owned(), after_purpose_id, page_size: PAGE_SIZE };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().list_purposes(request).await }
        };
        let page = connection.client.call(call).await?;
        found.extend(page.purposes);
        if page.next_after.is_empty() {
            return Ok(found);
        }
        after_purpose_id = page.next_after;
    }
}

async fn purposes(tenant: &str, connection: &Connection) -> Result<Answer> {
    let found = declared(tenant, connection).await?;
    let json = found.iter().map(|it| form::to_json("DeclarePurpose", it)).collect::<Result<Vec<_>, _>>()?;
    let any = |names: &[String]| if names.is_empty() { "any".to_owned() } else { names.join(" ") };
    let rows = found.iter().map(|it| {
        let ends = if it.expires_unix_ns == 0 { "never".to_owned() } else { rfc3339_of_nanoseconds(it.expires_unix_ns) };
        [it.purpose_id.clone(), any(&it.allowed_tools), any(&it.allowed_resources), any(&it.regions), ends, it.description.clone()]
    });
    let headings = ["PURPOSE", "TOOLS", "RESOURCES", "REGIONS", "ENDS", "DESCRIPTION"];
    Ok(Answer::new("proofline.purposes/v1", json!({ "purposes": json }), table(headings, rows)))
}

async fn declare(of: PurposeArguments, connection: &Connection) -> Result<Answer> {
    let PurposeArguments { id, tenant, tools, resources, classification_max, regions, valid_days, description, signing } = of;
    let expires_unix_ns = match valid_days {
        Some(days) => u64::try_from((SystemTime::now() + DAY * days).duration_since(UNIX_EPOCH)?.as_nanos())?,
        None => 0,
    };
    let classification = classification_max.map_or(v1::Classification::Unspecified, |name| match name {
        ClassificationName::Public => v1::Classification::Public,
        ClassificationName::Internal => v1::Classification::Internal,
        ClassificationName::Confidential => v1::Classification::Confidential,
        ClassificationName::Restricted => v1::Classification::Restricted,
    });
    let declared = v1::DeclarePurpose {
        tenant_id: tenant,
        purpose_id: id,
        allowed_tools: tools,
        allowed_resources: resources,
        classification_max: classification.into(),
        regions,
        expires_unix_ns,
        description,
    };
    submit(Action::DeclarePurpose(declared), &signing, connection).await
}

pub(super) async fn server(command: ServerCommand, connection: &Connection) -> Result<Answer> {
    match command {
        ServerCommand::Register(it) => register(*it, connection).await,
        ServerCommand::List { tenant } => list(&tenant, connection).await,
    }
}

async fn register(it: ServerArguments, connection: &Connection) -> Result<Answer> {
    let ServerArguments { id, tenant, name, business_owner, technical_owner, approved, signing } = it;
    let server = v1::RegisterServer { tenant_id: tenant, server_id: id, name, business_owner, technical_owner, approved };
    submit(Action::RegisterServer(server), &signing, connection).await
}

async fn list(tenant: &str, connection: &Connection) -> Result<Answer> {
    let mut found: Vec<v1::ServerSummary> = Vec::new();
    let mut after_server_id = String::new();
    loop {
        let request = v1::ListServersRequest { tenant_id: tenant.to_owned(), after_server_id, page_size: PAGE_SIZE };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().list_servers(request).await }
        };
        let page = connection.client.call(call).await?;
        found.extend(page.servers);
        if page.next_after.is_empty() {
            break;
        }
        after_server_id = page.next_after;
    }
    let json = found.iter().map(|it| form::to_json("ServerSummary", it)).collect::<Result<Vec<_>, _>>()?;
    let headings = ["SERVER", "STATE", "FIRST SEEN", "BUSINESS OWNER", "TECHNICAL OWNER"];
    Ok(Answer::new("proofline.servers/v1", json!({ "servers": json }), table(headings, found.into_iter().map(row))))
}

fn row(of: v1::ServerSummary) -> [String; 5] {
    let state = match &of.registration {
        None => "unregistered",
        Some(it) if it.approved => "approved",
        Some(_) => "registered",
    };
    let seen = describe::time(of.first_seen_unix_ns);
    let registration = of.registration.unwrap_or_default();
    [of.server_id, state.to_owned(), seen, registration.business_owner, registration.technical_owner]
}
