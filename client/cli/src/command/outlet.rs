//! `proofline outlet`

use std::path::Path;

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use proofline_client::{Link, generate_key, generate_rsa_key, write_key, write_pem};
use proofline_proto::v1::{self, command::Action, outlet::Kind};
use serde_json::json;

use super::signing::submit;
use crate::{
    arguments::{KeyKind, OutletCommand},
    connection::Connection,
    describe, form,
    output::{Answer, facts, table},
};

const PAGE_SIZE: u32 = 1_000;

pub(super) async fn run(command: OutletCommand, connect: impl Fn() -> Result<Connection>) -> Result<Answer> {
    match command {
        OutletCommand::Key { file, kind } => key(&file, kind),
        OutletCommand::Register(registration) => {
            let (outlet, signing) = registration.into_parts();
            submit(Action::RegisterOutlet(v1::RegisterOutlet { outlet: Some(outlet) }), &signing, &connect()?).await
        }
        OutletCommand::List { tenant } => list(&tenant, &connect()?).await,
        OutletCommand::Deliveries { outlet, containment, tenant } => {
            let asked = v1::ListDeliveriesRequest {
                tenant_id: tenant,
                containment_id: containment.unwrap_or_default(),
                outlet_id: outlet.unwrap_or_default(),
                after_index: 0,
                page_size: PAGE_SIZE,
            };
            deliveries(asked, &connect()?).await
        }
        OutletCommand::Resume(it) => {
            submit(Action::ResumeOutlet(v1::ResumeOutlet { outlet_id: it.id, reason: it.reason }), &it.signing, &connect()?).await
        }
        OutletCommand::Verify { id, state, reason, signing } => {
            let state = state.map_or_else(fresh_state, Ok)?;
            submit(Action::VerifyOutlet(v1::VerifyOutlet { outlet_id: id, state, reason }), &signing, &connect()?).await
        }
        OutletCommand::Remove(it) => {
            submit(Action::RemoveOutlet(v1::RemoveOutlet { outlet_id: it.id, reason: it.reason }), &it.signing, &connect()?).await
        }
    }
}

/// Something that nobody else has sent to the stream. It stands in the entry and comes back in the event.
fn fresh_state() -> Result<String> {
    let mut state = [0; 16];
    getrandom::fill(&mut state)?;
    Ok(hex::encode(state))
}

fn key(file: &Path, kind: KeyKind) -> Result<Answer> {
    let id = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".key.pem"));
    let id = id.context("the file must be named <KEY_ID>.key.pem: by that nodes find it")?;
    let public_key = match kind {
        KeyKind::Rsa => {
            write_pem(file, &generate_rsa_key()?)?;
            // Receivers read it where the nodes serve it.
            String::new()
        }
        KeyKind::Ed25519 => {
            let key = generate_key()?;
            write_key(file, &key)?;
            format!("whpk_{}", BASE64_STANDARD.encode(key.verifying_key().as_bytes()))
        }
    };
    let shown = file.display().to_string();
    let json = json!({ "file": shown, "key_id": id, "public_key": public_key });
    Ok(Answer::new(
        "proofline.outlet-key/v1",
        json,
        facts([("file", shown.clone()), ("key id", id.to_owned()), ("public key", public_key.clone())]),
    ))
}

async fn list(tenant: &str, connection: &Connection) -> Result<Answer> {
    let mut found: Vec<v1::OutletStatus> = Vec::new();
    let mut after = String::new();
    loop {
        let request = v1::ListOutletsRequest { tenant_id: tenant.to_owned(), after_outlet_id: after, page_size: PAGE_SIZE };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().list_outlets(request).await }
        };
        let page = connection.client.call(call).await?;
        found.extend(page.outlets);
        if page.next_after.is_empty() {
            break;
        }
        after = page.next_after;
    }
    let json = found.iter().map(|it| form::to_json("OutletStatus", it)).collect::<Result<Vec<_>, _>>()?;
    let mut text = table(["ID", "TENANT", "KIND", "ENDPOINT", "STATE", "WAITING", "LAST"], found.iter().map(row));
    for it in &found {
        let id = it.outlet.as_ref().map_or("", |outlet| &outlet.outlet_id);
        for node in it.nodes.iter().filter(|node| !node.problem.is_empty()) {
            text += &proofline_verifier::escape(&format!("{id}: node {}: {}", node.node_id, node.problem));
            text.push('\n');
        }
        if it.dropped > 0 {
            text += &proofline_verifier::escape(&format!("{id}: {} messages found no room and were not kept", it.dropped));
            text.push('\n');
        }
        if it.not_addressable > 0 {
            text +=
                &proofline_verifier::escape(&format!("{id}: {} changes were about nobody that this stream can name", it.not_addressable));
            text.push('\n');
        }
    }
    Ok(Answer::new("proofline.outlets/v1", json!({ "outlets": json }), text))
}

fn row(of: &v1::OutletStatus) -> [String; 7] {
    let outlet = of.outlet.clone().unwrap_or_default();
    let (kind, endpoint) = match &outlet.kind {
        Some(Kind::SharedSignals(it)) => ("stream", it.endpoint.clone()),
        Some(Kind::Webhook(it)) => ("webhook", it.endpoint.clone()),
        None => ("-", String::new()),
    };
    [
        outlet.outlet_id,
        outlet.tenant_id,
        kind.to_owned(),
        endpoint,
        of.state().as_str_name().trim_start_matches("OUTLET_STATE_").to_ascii_lowercase(),
        of.pending.to_string(),
        of.last
            .as_ref()
            .map_or_else(|| "-".to_owned(), |last| format!("{} (entry {})", describe::delivery_result(last.result()), of.last_index)),
    ]
}

async fn deliveries(mut asked: v1::ListDeliveriesRequest, connection: &Connection) -> Result<Answer> {
    let (mut found, mut pending) = (Vec::new(), Vec::new());
    loop {
        let request = asked.clone();
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().list_deliveries(request).await }
        };
        let page = connection.client.call(call).await?;
        found.extend(page.deliveries);
        pending.extend(page.pending);
        if page.next_after == 0 {
            break;
        }
        asked.after_index = page.next_after;
    }
    let json = json!({
        "deliveries": found.iter().map(|it| form::to_json("RecordedDelivery", it)).collect::<Result<Vec<_>, _>>()?,
        "pending": pending.iter().map(|it| form::to_json("PendingDelivery", it)).collect::<Result<Vec<_>, _>>()?,
    });
    let headings = ["ENTRY", "OUTLET", "CONTAINMENT", "RESULT", "STATUS", "ERROR", "ATTEMPTS", "AFTER"];
    let mut text = table(headings, found.iter().map(delivery_row));
    if !pending.is_empty() {
        text += "waiting\n";
        text += &table(["CHANGE", "CONTAINMENT", "SINCE", "JTI"], pending.iter().map(pending_row));
    }
    Ok(Answer::new("proofline.deliveries/v1", json, text))
}

fn delivery_row(of: &v1::RecordedDelivery) -> [String; 8] {
    let it = of.delivery.clone().unwrap_or_default();
    [
        of.index.to_string(),
        it.outlet_id.clone(),
        about(it.containment_id),
        describe::delivery_result(it.result()),
        if it.http_status == 0 { "-".to_owned() } else { it.http_status.to_string() },
        it.error.clone(),
        it.attempts.to_string(),
        describe::delay(of.committed_unix_ns.saturating_sub(of.change_unix_ns)),
    ]
}

fn pending_row(of: &v1::PendingDelivery) -> [String; 4] {
    [of.entry_index.to_string(), about(of.containment_id), describe::time(of.change_unix_ns), of.jti.clone()]
}

fn about(containment: u64) -> String {
    if containment == 0 { "verification".to_owned() } else { containment.to_string() }
}
