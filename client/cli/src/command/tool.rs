//! `proofline tool`

use anyhow::Result;
use proofline_client::Link;
use proofline_proto::v1::{self, command::Action};
use serde_json::json;

use super::signing::submit;
use crate::{
    arguments::{PinArguments, ToolCommand},
    connection::Connection,
    describe, form,
    output::{Answer, table},
};

const PAGE_SIZE: u32 = 500;

pub(super) async fn run(command: ToolCommand, connection: &Connection) -> Result<Answer> {
    match command {
        ToolCommand::List { tenant, drifted } => list(&tenant, drifted, connection).await,
        ToolCommand::Pin(it) => submit(Action::PinTool(pin(&it, false)), &it.signing, connection).await,
        ToolCommand::Accept(it) => submit(Action::PinTool(pin(&it, true)), &it.signing, connection).await,
    }
}

fn pin(of: &PinArguments, beside_others: bool) -> v1::PinTool {
    v1::PinTool {
        tenant_id: of.tenant.clone(),
        server_id: of.server.clone(),
        tool_name: of.tool.clone(),
        definition_sha256: of.definition.to_vec(),
        beside_others,
        reason: of.reason.clone(),
    }
}

async fn list(tenant: &str, drifted: bool, connection: &Connection) -> Result<Answer> {
    let mut found: Vec<v1::ToolSummary> = Vec::new();
    let mut after = Vec::new();
    loop {
        let request = v1::ListToolsRequest { tenant_id: tenant.to_owned(), after, page_size: PAGE_SIZE };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().list_tools(request).await }
        };
        let page = connection.client.call(call).await?;
        found.extend(page.tools.into_iter().filter(|it| it.drift || !drifted));
        if page.next_after.is_empty() {
            break;
        }
        after = page.next_after;
    }
    // They come in the order of their hashes.
    found.sort_by(|one, other| (&one.server_id, &one.tool_name).cmp(&(&other.server_id, &other.tool_name)));
    let json = found.iter().map(|it| form::to_json("ToolSummary", it)).collect::<Result<Vec<_>, _>>()?;
    let headings = ["SERVER", "TOOL", "STATE", "NEWEST DEFINITION", "SINCE", "GOOD"];
    Ok(Answer::new("proofline.tools/v1", json!({ "tools": json }), table(headings, found.into_iter().map(row))))
}

fn row(of: v1::ToolSummary) -> [String; 6] {
    let state = match (of.drift, of.pinned_sha256.is_empty()) {
        (true, _) => "drift",
        (false, true) => "as first seen",
        (false, false) => "pinned",
    };
    let good = if of.pinned_sha256.is_empty() { vec![of.first_sha256] } else { of.pinned_sha256 };
    let good: Vec<String> = good.iter().map(hex::encode).collect();
    let since = if of.newest_unix_ns == 0 { String::new() } else { describe::time(of.newest_unix_ns) };
    [of.server_id, of.tool_name, state.to_owned(), hex::encode(&of.newest_sha256), since, good.join(" ")]
}
