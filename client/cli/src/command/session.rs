//! `proofline session`

use anyhow::Result;
use proofline_client::{Link, SessionName, SessionView};
use proofline_proto::v1::{self, command::Action};
use serde_json::json;

use super::signing::submit;
use crate::{
    arguments::{SessionCommand, SessionSelector},
    connection::Connection,
    describe::Described,
    form,
    output::{Answer, facts, table},
};

const PAGE_SIZE: u32 = 500;

pub(super) async fn run(command: SessionCommand, connection: &Connection) -> Result<Answer> {
    match command {
        SessionCommand::List { tenant, limit } => list(&tenant, limit, connection).await,
        SessionCommand::Show(it) => show(it, connection).await,
        SessionCommand::Seal { session, reason, signing } => {
            let seal = v1::SealSession { tenant_id: session.tenant, session_id: session.session, reason };
            submit(Action::SealSession(seal), &signing, connection).await
        }
    }
}

async fn list(tenant: &str, limit: usize, connection: &Connection) -> Result<Answer> {
    let mut found: Vec<v1::SessionSummary> = Vec::new();
    let mut covered: Option<u64> = None;
    let mut is_whole = false;
    while found.len() <= limit {
        let after_session_id = found.last().map(|it| it.session_id.clone()).unwrap_or_default();
        let request = v1::ListSessionsRequest { tenant_id: tenant.to_owned(), after_session_id, page_size: PAGE_SIZE };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.audit().list_sessions(request).await }
        };
        let page = connection.client.call(call).await?;
        // Each page may be under another checkpoint: what the smallest covers is in all of them.
        covered = Some(covered.map_or(page.checkpoint_size, |size| size.min(page.checkpoint_size)));
        if page.sessions.is_empty() {
            is_whole = true;
            break;
        }
        found.extend(page.sessions);
    }
    is_whole &= found.len() <= limit;
    found.truncate(limit);
    let json = found.iter().map(|it| form::to_json("SessionSummary", it)).collect::<Result<Vec<_>, _>>()?;
    let headings = ["SESSION", "AGENT", "INITIATOR", "PARENT", "ENTRIES", "FIRST", "LAST", "STATE"];
    let covered = covered.filter(|size| *size > 0);
    let mut beside = covered.map_or_else(String::new, |size| format!("as of the newest checkpoint, which covers {size} entries"));
    if !is_whole {
        beside.push_str(&format!("\nTHERE ARE MORE: {limit} are listed; --limit lists more"));
    }
    let json = json!({ "sessions": json, "is_whole": is_whole, "checkpoint_size": covered.map(|size| size.to_string()) });
    Ok(Answer::new("proofline.sessions/v1", json, table(headings, found.iter().map(row))).beside(beside))
}

fn row(of: &v1::SessionSummary) -> [String; 8] {
    [
        of.session_id.clone(),
        of.agent_id.clone(),
        of.initiator.as_ref().map(|it| it.subject.clone()).unwrap_or_default(),
        of.parent_session_id.clone(),
        of.entries.to_string(),
        of.first_index.to_string(),
        of.last_index.to_string(),
        state(of).to_owned(),
    ]
}

fn state(of: &v1::SessionSummary) -> &'static str {
    if of.sealed { "sealed" } else { "open" }
}

async fn show(of: SessionSelector, connection: &Connection) -> Result<Answer> {
    let name = SessionName { tenant_id: of.tenant, session_id: of.session };
    let SessionView { summary, members, size } = connection.client.session(&name).await?;
    let entries = members.iter().map(|member| Described::new(&member.entry)).collect::<Result<Vec<_>, _>>()?;
    let mut text = facts([
        ("session", summary.session_id.clone()),
        ("tenant", summary.tenant_id.clone()),
        ("agent", summary.agent_id.clone()),
        ("initiator", summary.initiator.as_ref().map(|it| format!("{} at {}", it.subject, it.issuer)).unwrap_or_default()),
        ("parent", summary.parent_session_id.clone()),
        ("entries", summary.entries.to_string()),
        ("state", state(&summary).to_owned()),
        ("as of", format!("the newest checkpoint, which covers {size} entries of the log")),
    ]);
    text.push('\n');
    text.push_str(&table(["ENTRY", "COMMITTED", "WHAT", "DETAIL", "WHO", "DECISION"], entries.iter().map(Described::row)));
    let entries = entries.iter().map(Described::json).collect::<Result<Vec<_>, _>>()?;
    let session = form::to_json("SessionSummary", &summary)?;
    let json = json!({ "session": session, "entries": entries, "checkpoint_size": size.to_string() });
    Ok(Answer::new("proofline.session/v1", json, text))
}
