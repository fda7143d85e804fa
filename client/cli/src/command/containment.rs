//! `proofline contain` and `proofline containment`

use std::time::Duration;

use anyhow::{Result, bail};
use proofline_client::{CallError, Client, Link, SessionName};
use proofline_proto::v1::{self, command::Action};
use proofline_verifier::escape;
use serde_json::json;
use tonic::Code;

use super::{agent, effect, incident::incidents, signing::submit};
use crate::{
    arguments::{ContainCommand, ContainmentCommand, OutputFormat, Signing},
    connection::Connection,
    describe,
    exit::Exit,
    form,
    output::{Answer, Layout, print_json, print_text, table},
};

const PAGE_SIZE: u32 = 100;
/// Before a stream that broke off is taken up again.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn contain(command: ContainCommand, connection: &Connection) -> Result<Answer> {
    let (contain, signing) = command.into_parts();
    let tenant = contain.target.as_ref().map_or_else(String::new, |target| target.tenant_id.clone());
    let answer = submit(Action::Contain(contain), &signing, connection).await?;
    if answer.exit != Exit::Done {
        return Ok(answer);
    }
    // It is in force: what is said beside that must not keep it from being told.
    let connection = &connection.in_short();
    // The number is what a release will ask for, and the targets are what a responder wants to see now.
    let committed = answer.json.get("index").and_then(|index| index.as_str()?.parse::<u64>().ok());
    let began = match committed {
        Some(index) => {
            let listed = containments(&tenant, false, connection).await;
            listed.unwrap_or_default().into_iter().find(|it| it.cause_index == index)
        }
        None => None,
    };
    let Some(began) = began else { return Ok(answer) };
    let json = form::to_json("ContainmentSummary", &began)?;
    let mut text = format!("{}containment {} in force since entry {}, over\n", answer.text, began.containment_id, began.cause_index);
    for target in &began.targets {
        text.push_str(&target_line(target));
    }
    if let Some(first) = began.targets.first() {
        if first.kind() == v1::TargetKind::Session {
            text.push_str("and every session below it, with the credentials that they come with from now on\n");
        }
        let (target, incident) = tokio::join!(doubt(first, connection), doubt_of_incident(&began.incident_id, &tenant, connection));
        text.extend(target);
        text.extend(incident);
    }
    let (proven, size) = (answer.json.get("proven"), answer.json.get("checkpoint_size"));
    Ok(Answer::new("proofline.containment/v1", json!({ "containment": json, "proven": proven, "checkpoint_size": size }), text))
}

/// Says when the log has nothing that bears the name of a target; nothing where nobody can tell, or may.
async fn doubt(target: &v1::Target, connection: &Connection) -> Option<&'static str> {
    let v1::Target { tenant_id, id, .. } = target;
    match target.kind() {
        v1::TargetKind::Session => {
            let name = SessionName { tenant_id: tenant_id.clone(), session_id: id.clone() };
            let error = connection.client.session_summary(&name).await.err()?;
            let is_unknown = error.refusal().is_some_and(|refusal| refusal.code == Code::NotFound);
            is_unknown.then_some("no session of this id is in the log so far: is it spelled right?\n")
        }
        v1::TargetKind::Agent | v1::TargetKind::AgentInstance => {
            let agents = agent::agents(tenant_id, v1::AgentState::Unspecified, connection).await.ok()?;
            // The name of an agent may hold a slash itself; behind one follows an instance.
            let is_it = |name: &str| id.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            (!agents.iter().any(|it| is_it(&it.agent_id)))
                .then_some("no agent of this id is registered, and none was seen so far: is it spelled right?\n")
        }
        v1::TargetKind::Tenant if tenant_id != "*" => {
            let call = |link: Link| {
                let request = v1::ListSessionsRequest { tenant_id: tenant_id.clone(), page_size: 1, ..Default::default() };
                async move { link.audit().list_sessions(request).await }
            };
            let is_unknown = connection.client.call(call).await.ok()?.sessions.is_empty();
            is_unknown.then_some("this tenant has no session in the log so far: is it spelled right?\n")
        }
        v1::TargetKind::Tenant | v1::TargetKind::Credential | v1::TargetKind::Server | v1::TargetKind::Unspecified => None,
    }
}

/// Says when the incident that a containment names was not opened: it is tied to one that will be, too.
async fn doubt_of_incident(id: &str, tenant: &str, connection: &Connection) -> Option<String> {
    if id.is_empty() || tenant == "*" {
        return None;
    }
    let known = incidents(tenant, true, connection).await.ok()?;
    let is_unknown = !known.iter().any(|it| it.incident_id == id && !it.steps.is_empty());
    let id = escape(id);
    is_unknown.then(|| format!("no incident {id} is opened so far, and opening it ties it to this containment: is it spelled right?\n"))
}

pub(super) async fn run(command: ContainmentCommand, connection: &Connection, format: OutputFormat) -> Result<Answer> {
    match command {
        ContainmentCommand::List { tenant, released } => list(&tenant, released, connection).await,
        ContainmentCommand::Watch { tenant, from } => watch(&tenant, from, connection, format).await,
        ContainmentCommand::Effect { id, tenant } => effect::run(id, &tenant, connection).await,
        ContainmentCommand::Release { id, tenant, reason, incident, signing } => {
            let release = v1::Release { containment_id: id, reason, incident_id: incident };
            self::release(release, &tenant, &signing, connection).await
        }
    }
}

/// Lifts a containment if it is the tenant's, and says what it was over: a number is easily mistaken for another. Others may
/// be over the same.
async fn release(release: v1::Release, tenant: &str, signing: &Signing, connection: &Connection) -> Result<Answer> {
    let id = release.containment_id;
    check_owner(id, tenant, &connection.in_short()).await?;
    let answer = submit(Action::Release(release), signing, connection).await?;
    if answer.exit != Exit::Done || signing.sign_to.is_some() {
        return Ok(answer);
    }
    let connection = connection.in_short();
    let Ok(Some(lifted)) = containment(id, tenant, &connection.client).await else { return Ok(answer) };
    let (action, reason) = (describe::containment_action(lifted.action()), escape(&lifted.reason));
    let mut text = format!("{}containment {id} lifted ({action}, {reason}); no longer over\n", answer.text);
    lifted.targets.iter().for_each(|target| text.push_str(&target_line(target)));
    let mut json = answer.json;
    if let Some(object) = json.as_object_mut() {
        object.insert("containment".to_owned(), form::to_json("ContainmentSummary", &lifted)?);
    }
    Ok(Answer::new(answer.schema, json, text))
}

fn target_line(target: &v1::Target) -> String {
    format!("  {}\n", escape(&describe::target(target)))
}

/// Refuses a containment that is not the tenant's. One that stops all tenants is in the list of each, and belongs to none.
async fn check_owner(id: u64, tenant: &str, connection: &Connection) -> Result<()> {
    if tenant == "*" {
        return Ok(());
    }
    match known_anywhere(id, tenant, connection).await {
        Ok(Some(it)) if it.targets.iter().all(|target| target.tenant_id == tenant) => Ok(()),
        Ok(Some(_)) => bail!("containment {id} is over all tenants, so nothing was lifted: --tenant '*' lifts it"),
        Ok(None) => bail!("no node that answers knows a containment {id} of tenant {tenant}, so nothing was lifted"),
        // Whoever may give the command need not be allowed to read the list, and a command is signed without a node, too.
        Err(error) => {
            anstream::eprintln!("{}", escape(&format!("it was not checked whether containment {id} is one of tenant {tenant}: {error}")));
            Ok(())
        }
    }
}

/// Looks a containment up at one node after the other: the first may be behind.
async fn known_anywhere(id: u64, tenant: &str, connection: &Connection) -> Result<Option<v1::ContainmentSummary>, CallError> {
    let first = containment(id, tenant, &connection.client).await?;
    if first.is_some() {
        return Ok(first);
    }
    for node in (0..connection.client.links().len()).filter_map(|place| connection.client.pinned(place)) {
        if let Ok(Some(found)) = containment(id, tenant, &node).await {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Looks a containment up in the list of a tenant.
async fn containment(id: u64, tenant: &str, client: &Client) -> Result<Option<v1::ContainmentSummary>, CallError> {
    let call = |link: Link| {
        let after_id = id.saturating_sub(1);
        let request = v1::ListContainmentsRequest { tenant_id: tenant.to_owned(), released: true, after_id, page_size: 1 };
        async move { link.control().list_containments(request).await }
    };
    let page = client.call(call).await?;
    Ok(page.containments.into_iter().find(|it| it.containment_id == id))
}

async fn list(tenant: &str, released: bool, connection: &Connection) -> Result<Answer> {
    let found = containments(tenant, released, connection).await?;
    let json = found.iter().map(|it| form::to_json("ContainmentSummary", it)).collect::<Result<Vec<_>, _>>()?;
    let headings = ["ID", "ACTION", "TARGET", "TARGETS", "CAUSE", "REASON", "STATE"];
    Ok(Answer::new("proofline.containments/v1", json!({ "containments": json }), table(headings, found.iter().map(row))))
}

pub(super) async fn containments(tenant: &str, released: bool, connection: &Connection) -> Result<Vec<v1::ContainmentSummary>> {
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
            return Ok(found);
        }
        after_id = page.next_after;
    }
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
        if of.incomplete { format!("{}, not all", of.targets.len()) } else { of.targets.len().to_string() },
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
        loop {
            let answer = match changes.message().await {
                Ok(Some(answer)) => answer,
                Ok(None) => break,
                Err(status) => {
                    eprintln!("the node stopped answering ({}); going on from entry {next}", status.message());
                    tokio::time::sleep(PAUSE).await;
                    break;
                }
            };
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
