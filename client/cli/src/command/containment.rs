//! `proofline contain` and `proofline containment`

use anyhow::Result;
use proofline_client::Link;
use proofline_proto::v1::{self, command::Action};
use serde_json::json;

use super::signing::submit;
use crate::{
    arguments::{ContainCommand, ContainmentCommand, OutputFormat},
    connection::Connection,
    describe, form,
    output::{Answer, Layout, print_json, print_text, table},
};

const PAGE_SIZE: u32 = 1_000;

pub(super) async fn contain(command: ContainCommand, connection: &Connection) -> Result<Answer> {
    let (contain, signing) = command.into_parts();
    submit(Action::Contain(contain), &signing, connection).await
}

pub(super) async fn run(command: ContainmentCommand, connection: &Connection, format: OutputFormat) -> Result<Answer> {
    match command {
        ContainmentCommand::List { tenant, released } => list(&tenant, released, connection).await,
        ContainmentCommand::Watch { tenant, from } => watch(&tenant, from, connection, format).await,
        ContainmentCommand::Release { id, reason, incident, signing } => {
            let release = v1::Release { containment_id: id, reason, incident_id: incident };
            submit(Action::Release(release), &signing, connection).await
        }
    }
}

async fn list(tenant: &str, released: bool, connection: &Connection) -> Result<Answer> {
    let mut found = Vec::new();
    let mut after_id = 0;
    loop {
        let request = v1::ListContainmentsRequest { tenant_id: tenant.to_owned(), released, after_id, page_size: PAGE_SIZE };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().list_containments(request).await }
        };
        let page = connection.client.call(call).await?;
        found.extend(page.containments);
        if page.next_after == 0 {
            break;
        }
        after_id = page.next_after;
    }
    let json = found.iter().map(|it| form::to_json("ContainmentSummary", it)).collect::<Result<Vec<_>, _>>()?;
    let headings = ["ID", "ACTION", "TARGET", "TARGETS", "CAUSE", "REASON", "STATE"];
    Ok(Answer::new("proofline.containments/v1", json!({ "containments": json }), table(headings, found.iter().map(row))))
}

fn row(of: &v1::ContainmentSummary) -> [String; 7] {
    let state = match of.released_by_index {
        0 => "in force".to_owned(),
        index => format!("released by entry {index}"),
    };
    [
        of.containment_id.to_string(),
        describe::containment_action(of.action()),
        of.targets.first().map_or_else(String::new, describe::target),
        of.targets.len().to_string(),
        of.cause_index.to_string(),
        of.reason.clone(),
        state,
    ]
}

/// Follows the changes through nodes that go and come; what was printed is never printed again.
async fn watch(tenant: &str, from: u64, connection: &Connection, format: OutputFormat) -> Result<Answer> {
    let mut next = from;
    loop {
        let call = |link: Link| {
            let request = v1::WatchContainmentRequest { tenant_id: tenant.to_owned(), from_index: next };
            async move { link.control().watch_containment(request).await }
        };
        let mut changes = connection.client.call(call).await?;
        // A stream that breaks off is taken up where it ended, at whichever node answers.
        while let Ok(Some(answer)) = changes.message().await {
            next = answer.next_index;
            let Some(change) = &answer.containment else { continue };
            match format {
                OutputFormat::Table => print_text(&format!("entry {}  {}", answer.index, describe::containment(change)))?,
                OutputFormat::Json => {
                    print_json("proofline.containment-change/v1", &form::to_json("WatchContainmentResponse", &answer)?, Layout::Line)?;
                }
            }
        }
    }
}
