//! `proofline incident` and `proofline hold`

use anyhow::{Result, bail};
use proofline_client::{CallError, Link};
use proofline_proto::v1::{self, command::Action};
use serde_json::json;

use super::{containment, lineage, signing::submit};
use crate::{
    arguments::{AdvanceArguments, DirectionName, HoldArguments, HoldCommand, IncidentCommand, KeyArguments, WindowEnd},
    connection::Connection,
    describe, form,
    output::{Answer, table},
};

const PAGE_SIZE: u32 = 500;

pub(super) async fn run(command: IncidentCommand, connection: &Connection) -> Result<Answer> {
    match command {
        IncidentCommand::Open { id, tenant, title, severity, signing } => {
            let severity = v1::Severity::from(severity).into();
            let open = v1::OpenIncident { tenant_id: tenant, incident_id: id, title, severity };
            submit(Action::OpenIncident(open), &signing, connection).await
        }
        IncidentCommand::Advance(it) => {
            let AdvanceArguments { id, stage, tenant, cause, note, signing } = *it;
            let step = v1::AdvanceIncident {
                tenant_id: tenant,
                incident_id: id,
                stage: v1::IncidentStage::from(stage).into(),
                cause: cause.map_or(v1::IncidentCause::Unspecified, Into::into).into(),
                note,
            };
            submit(Action::AdvanceIncident(step), &signing, connection).await
        }
        IncidentCommand::Scope { id, tenant, to, purpose } => scope(&id, tenant, to, purpose, connection).await,
        IncidentCommand::List { tenant, closed } => list(&tenant, closed, connection).await,
    }
}

/// Says what was in reach of what the incident's containments stop: on whose authority, and everything it touched.
async fn scope(id: &str, tenant: String, to: Option<WindowEnd>, purpose: String, connection: &Connection) -> Result<Answer> {
    let mut keys = KeyArguments { tenant: Some(tenant.clone()), ..KeyArguments::default() };
    for containment in containment::containments(&tenant, true, connection).await?.into_iter().filter(|it| it.incident_id == id) {
        for target in containment.targets {
            match target.kind() {
                v1::TargetKind::Session => keys.session.push(target.id),
                v1::TargetKind::Agent => keys.agent.push(target.id),
                v1::TargetKind::AgentInstance => keys.agent.extend(target.id.split('/').next().map(str::to_owned)),
                v1::TargetKind::Credential => keys.credential.push(target.id),
                v1::TargetKind::Server => keys.server.push(target.id),
                v1::TargetKind::Tenant | v1::TargetKind::Unspecified => (),
            }
        }
    }
    for of in [&mut keys.session, &mut keys.agent, &mut keys.credential, &mut keys.server] {
        of.sort_unstable();
        of.dedup();
    }
    let is_empty = [&keys.session, &keys.agent, &keys.credential, &keys.server].iter().all(|it| it.is_empty());
    if is_empty {
        bail!(
            "no containment of a session, agent, credential or server names incident {id:?} in this tenant (`proofline containment list`)"
        );
    }
    let reached = lineage::reached_from(&keys, DirectionName::Both, to, purpose, "proofline.incident-scope/v1", connection).await?;
    Ok(reached
        .resting_on("which containments name the incident is the node's word; what is around them is proven as far as the summary says"))
}

async fn list(tenant: &str, closed: bool, connection: &Connection) -> Result<Answer> {
    let found = incidents(tenant, closed, connection).await?;
    let json = found.iter().map(|it| form::to_json("IncidentSummary", it)).collect::<Result<Vec<_>, _>>()?;
    let headings = ["INCIDENT", "TITLE", "SEVERITY", "OPENED", "REACHED", "NEXT", "DUE", "CONTAINMENTS"];
    Ok(Answer::new("proofline.incidents/v1", json!({ "incidents": json }), table(headings, found.into_iter().map(row))))
}

pub(super) async fn incidents(tenant: &str, closed: bool, connection: &Connection) -> Result<Vec<v1::IncidentSummary>, CallError> {
    let mut found = Vec::new();
    let mut after_incident_id = String::new();
    loop {
        let request = v1::ListIncidentsRequest { tenant_id: tenant.to_owned(), closed, after_incident_id, page_size: PAGE_SIZE };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().list_incidents(request).await }
        };
        let page = connection.client.call(call).await?;
        found.extend(page.incidents);
        if page.next_after.is_empty() {
            return Ok(found);
        }
        after_incident_id = page.next_after;
    }
}

fn row(of: v1::IncidentSummary) -> [String; 8] {
    let opened = of.steps.first().map_or_else(String::new, |step| describe::time(step.at_unix_ns));
    let reached = of.steps.last().map_or_else(String::new, |step| describe::incident_stage(step.stage()));
    let next = if of.next() == v1::IncidentStage::Unspecified { String::new() } else { describe::incident_stage(of.next()) };
    let due = if of.next_due_unix_ns == 0 { String::new() } else { describe::time(of.next_due_unix_ns) };
    let severity = of.severity().as_str_name().trim_start_matches("SEVERITY_").to_ascii_lowercase();
    let containments: Vec<_> = of.containments.iter().map(ToString::to_string).collect();
    [of.incident_id, of.title, severity, opened, reached, next, due, containments.join(" ")]
}

pub(super) async fn hold(command: HoldCommand, connection: &Connection) -> Result<Answer> {
    match command {
        HoldCommand::Place(it) => {
            let HoldArguments { kind, id, tenant, matter, authority, signing } = *it;
            let target = v1::Target { kind: v1::TargetKind::from(kind).into(), tenant_id: tenant, id };
            submit(Action::PlaceHold(v1::PlaceHold { target: Some(target), matter, authority }), &signing, connection).await
        }
        HoldCommand::Release { id, reason, signing } => {
            submit(Action::ReleaseHold(v1::ReleaseHold { hold_id: id, reason }), &signing, connection).await
        }
        HoldCommand::List { tenant, released } => holds(&tenant, released, connection).await,
    }
}

async fn holds(tenant: &str, released: bool, connection: &Connection) -> Result<Answer> {
    let mut found: Vec<v1::HoldSummary> = Vec::new();
    let mut after_id = 0;
    loop {
        let request = v1::ListHoldsRequest { tenant_id: tenant.to_owned(), released, after_id, page_size: PAGE_SIZE };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().list_holds(request).await }
        };
        let page = connection.client.call(call).await?;
        found.extend(page.holds);
        if page.next_after == 0 {
            break;
        }
        after_id = page.next_after;
    }
    let json = found.iter().map(|it| form::to_json("HoldSummary", it)).collect::<Result<Vec<_>, _>>()?;
    let rows = found.into_iter().map(|it| {
        let state = if it.released_by_index == 0 { "in force".to_owned() } else { format!("released by entry {}", it.released_by_index) };
        let target = it.target.as_ref().map_or_else(String::new, describe::target);
        [it.hold_id.to_string(), target, it.matter, it.authority, it.placed_index.to_string(), state]
    });
    Ok(Answer::new(
        "proofline.holds/v1",
        json!({ "holds": json }),
        table(["ID", "HELD", "MATTER", "AUTHORITY", "PLACED BY", "STATE"], rows),
    ))
}
