//! `proofline review`: questions of compliance, answered from entries that were verified and are shown to be all.

use anyhow::{Context as _, Result};
use proofline_client::{
    AccessReview, Authority, Coverage, Declared, Numbering, Use, authority_of, coverage_of, explain, numbering_of, review_access,
};
use proofline_proto::v1;
use proofline_verifier::{AnswerSummary, EntryIndex, LogEntry, escape, rfc3339_of_nanoseconds};
use serde_json::{Value, json};

use super::{lineage, purpose, question};
use crate::{
    arguments::{DirectionName, KeyArguments, ReachArguments, ReviewCommand, WindowArguments, WindowEnd},
    connection::Connection,
    output::{Answer, table},
};

pub(super) async fn run(command: ReviewCommand, connection: &Connection) -> Result<Answer> {
    match command {
        ReviewCommand::Action { index, to, purpose } => action(index, to, purpose, connection).await,
        ReviewCommand::Authority { session, tenant, window } => {
            let keys = KeyArguments { session: vec![session], tenant: Some(tenant), ..KeyArguments::default() };
            let (entries, summary) = of_keys(&keys, window, connection).await?;
            Ok(authority(&authority_of(&entries), &summary))
        }
        ReviewCommand::Access { agent, tenant, window } => {
            let declared = purpose::declared(&tenant, connection).await?;
            let keys = KeyArguments { agent: vec![agent], tenant: Some(tenant), ..KeyArguments::default() };
            let (entries, summary) = of_keys(&keys, window, connection).await?;
            let reviewed = access(&review_access(&entries, &declared), &summary);
            Ok(reviewed.resting_on("what the purposes grant is the node's word; what was used is proven as far as the summary says"))
        }
        ReviewCommand::Coverage { window } => {
            let (reach, purpose) = reach(window);
            let (entries, summary) = gather(question::of_window(&reach), purpose, connection).await?;
            Ok(coverage(&coverage_of(&entries), &summary))
        }
        ReviewCommand::Collector { collector, silence, window } => {
            let keys = KeyArguments { collector: vec![collector], ..KeyArguments::default() };
            let (entries, summary) = of_keys(&keys, window, connection).await?;
            Ok(numbering(&numbering_of(&entries, silence.saturating_mul(1_000_000_000)), &summary))
        }
    }
}

/// The entries of keys alone: nothing is gone on to.
fn reach(window: WindowArguments) -> (ReachArguments, String) {
    let WindowArguments { from, to, purpose } = window;
    (ReachArguments { direction: DirectionName::Down, depth: 0, kind: Vec::new(), from, to, purpose: String::new() }, purpose)
}

async fn of_keys(keys: &KeyArguments, window: WindowArguments, connection: &Connection) -> Result<(Vec<LogEntry>, AnswerSummary)> {
    let (reach, purpose) = reach(window);
    let asked = v1::LineageQuestion { direction: 0, ..question::of_keys(keys, &reach)? };
    gather(asked, purpose, connection).await
}

/// Asks, and keeps the entries in log order.
async fn gather(asked: v1::LineageQuestion, purpose: String, connection: &Connection) -> Result<(Vec<LogEntry>, AnswerSummary)> {
    let mut entries = Vec::new();
    let summary = lineage::trace(asked, purpose, connection, |traced, _| {
        entries.extend(traced.verified.found.iter().map(|one| one.entry.clone()));
        Ok(())
    })
    .await?;
    entries.sort_by_key(|entry| entry.index);
    entries.dedup_by_key(|entry| entry.index);
    Ok((entries, summary))
}

fn answer(schema: &'static str, mut json: Value, text: &str, summary: &AnswerSummary) -> Answer {
    if let Some(object) = json.as_object_mut() {
        object.insert("summary".to_owned(), lineage::summary_json(summary));
    }
    Answer::new(schema, json, format!("{text}\n{}", lineage::summary_text(summary))).ending(lineage::exit_of(&summary.extent))
}

async fn action(index: u64, to: Option<WindowEnd>, purpose: String, connection: &Connection) -> Result<Answer> {
    let entry = LogEntry::parse(&connection.client.entry(EntryIndex(index)).await?)?;
    let place = entry.session.context("the entry belongs to no session, so no action stands in it")?;
    let keys = KeyArguments { session: vec![place.session_id], tenant: Some(place.tenant_id), ..KeyArguments::default() };
    let (entries, summary) = of_keys(&keys, WindowArguments { from: None, to, purpose }, connection).await?;
    let own: Vec<LogEntry> = entries.into_iter().filter(|it| it.session.is_some()).collect();
    let explained = explain(&own, EntryIndex(index))?;
    let rows = explained.links.iter().map(|(name, found)| match found {
        Some(it) => [name.as_str().to_owned(), it.index.to_string(), it.detail.clone()],
        None => [name.as_str().to_owned(), "-".to_owned(), format!("ABSENT: {}", name.absence())],
    });
    let links = explained.links.iter().map(|(name, found)| {
        let index = found.as_ref().map(|it| it.index.to_string());
        json!({ "link": name.as_str(), "index": index, "detail": found.as_ref().map(|it| it.detail.clone()) })
    });
    let absent: Vec<_> = explained.absent().map(|it| it.as_str()).collect();
    let json = json!({ "links": links.collect::<Vec<_>>(), "absent": absent });
    Ok(answer("proofline.explanation/v1", json, &table(["LINK", "ENTRY", "WHAT"], rows), &summary))
}

fn authority(of: &Authority, summary: &AnswerSummary) -> Answer {
    let index = |it: Option<EntryIndex>| it.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let rows = of.credentials.iter().map(|(id, held)| {
        let end = if held.not_after_unix_ns == 0 { "none named".to_owned() } else { rfc3339_of_nanoseconds(held.not_after_unix_ns) };
        let scopes = held.scopes.iter().cloned().collect::<Vec<_>>().join(" ");
        let used = held.used.map_or_else(|| "never".to_owned(), |(first, last)| format!("{first} to {last}"));
        [id.clone(), held.audience.clone(), scopes, end, index(held.issued), used]
    });
    let held = table(["CREDENTIAL", "AUDIENCE", "SCOPES", "END", "ISSUED", "USED"], rows);
    let counts = table(
        ["CREDENTIALS", "SCOPES", "AUDIENCES", "TOOLS", "SYSTEMS", "RESOURCES", "SPAWNED"],
        [[
            of.credentials.len(),
            of.scopes.len(),
            of.audiences.len(),
            of.tools.len(),
            of.systems.len(),
            of.resources.len(),
            of.spawned.len(),
        ]
        .map(|it| it.to_string())],
    );
    let credentials = of.credentials.iter().map(|(id, held)| {
        json!({
            "credential_id": id, "kind": held.kind.as_str_name(), "audience": held.audience, "scopes": held.scopes,
            "not_after_unix_ns": held.not_after_unix_ns.to_string(), "issued": held.issued.map(|it| it.to_string()),
            "first_used": held.used.map(|it| it.0.to_string()), "last_used": held.used.map(|it| it.1.to_string()),
        })
    });
    let json = json!({
        "credentials": credentials.collect::<Vec<_>>(), "scopes": of.scopes, "audiences": of.audiences, "tools": of.tools,
        "systems": of.systems, "resources": of.resources, "spawned": of.spawned,
    });
    answer("proofline.authority/v1", json, &format!("{counts}\n{held}"), summary)
}

fn access(of: &AccessReview, summary: &AnswerSummary) -> Answer {
    let tier = |it: &Use| it.tier.as_str_name().trim_start_matches("RISK_TIER_").to_owned();
    let last = |it: &Use| format!("{} at {}", it.last.0, rfc3339_of_nanoseconds(it.last.1));
    let used = |what: &str, name: &String, it: Option<&Use>| {
        ["used, not granted".to_owned(), what.to_owned(), name.clone(), it.map(tier).unwrap_or_default(), it.map(last).unwrap_or_default()]
    };
    let idle =
        |what: &str, name: &String| ["granted, not used".to_owned(), what.to_owned(), name.clone(), String::new(), "never".to_owned()];
    let mut rows: Vec<[String; 5]> = of.tools_not_granted.iter().map(|name| used("tool", name, of.tools.get(name))).collect();
    rows.extend(of.resources_not_granted.iter().map(|uri| used("resource", uri, of.resources.get(uri))));
    rows.extend(of.tools_not_used.iter().map(|name| idle("tool", name)));
    rows.extend(of.resources_not_used.iter().map(|uri| idle("resource", uri)));
    rows.extend(of.credentials_not_used.iter().map(|id| idle("credential", id)));
    let purposes = of.purposes.iter().map(|(id, declared)| match declared {
        Declared::Yes => escape(id),
        Declared::No => format!("{} (declared by nobody)", escape(id)),
    });
    let mut text = format!("purposes: {}\n", purposes.collect::<Vec<_>>().join(", "));
    for (is_any, what) in [(of.any_tool, "tool"), (of.any_resource, "resource")] {
        if is_any {
            text.push_str(&format!("a purpose grants any {what}: none can be used beyond it\n"));
        }
    }
    text.push_str(&table(["FINDING", "KIND", "NAME", "RISK", "LAST USE"], rows));
    let uses = |of: &std::collections::BTreeMap<String, Use>| -> Vec<Value> {
        let one = |(name, it): (&String, &Use)| {
            let (index, at) = (it.last.0.to_string(), it.last.1.to_string());
            json!({ "name": name, "times": it.times.to_string(), "risk": tier(it), "last_index": index, "last_unix_ns": at })
        };
        of.iter().map(one).collect()
    };
    let json = json!({
        "purposes": of.purposes.iter().map(|(id, it)| json!({ "id": id, "declared": *it == Declared::Yes })).collect::<Vec<_>>(),
        "any_tool": of.any_tool, "any_resource": of.any_resource,
        "tools_used": uses(&of.tools), "resources_used": uses(&of.resources),
        "granted_not_used": { "tools": of.tools_not_used, "resources": of.resources_not_used, "credentials": of.credentials_not_used },
        "used_not_granted": { "tools": of.tools_not_granted, "resources": of.resources_not_granted },
    });
    answer("proofline.access-review/v1", json, &text, summary)
}

fn coverage(of: &Coverage, summary: &AnswerSummary) -> Answer {
    let share = |count: u64| if of.events == 0 { "-".to_owned() } else { format!("{:.1} %", 100.0 * count as f64 / of.events as f64) };
    let row = |name: &str, count: u64| [name.to_owned(), count.to_string(), share(count)];
    let mut rows = vec![
        row("events", of.events),
        row("initiator and agent named", of.attributed),
        row("credential named", of.with_credential),
        row("purpose named", of.with_purpose),
        row("every delegation hop verified", of.delegation_verified),
        row("a delegation hop only asserted", of.delegation_asserted),
    ];
    let reason = |it: &v1::UnattributedReason| it.as_str_name().trim_start_matches("UNATTRIBUTED_REASON_").to_owned();
    let vantage = |it: &v1::Vantage| it.as_str_name().trim_start_matches("VANTAGE_").to_owned();
    rows.extend(of.unattributed.iter().map(|(why, count)| row(&format!("unattributed: {}", reason(why)), *count)));
    rows.extend(of.vantages.iter().map(|(from, count)| row(&format!("seen from: {}", vantage(from)), *count)));
    rows.push(["rejected (not in the log)".to_owned(), of.rejected.to_string(), String::new()]);
    let json = json!({
        "events": of.events.to_string(), "attributed": of.attributed.to_string(), "with_credential": of.with_credential.to_string(),
        "with_purpose": of.with_purpose.to_string(), "delegation_verified": of.delegation_verified.to_string(),
        "delegation_asserted": of.delegation_asserted.to_string(), "rejected": of.rejected.to_string(),
        "unattributed": of.unattributed.iter().map(|(why, count)| (reason(why), json!(count.to_string()))).collect::<serde_json::Map<_, _>>(),
        "vantages": of.vantages.iter().map(|(from, count)| (vantage(from), json!(count.to_string()))).collect::<serde_json::Map<_, _>>(),
    });
    answer("proofline.attribution-coverage/v1", json, &table(["WHAT", "EVENTS", "SHARE"], rows), summary)
}

fn numbering(of: &Numbering, summary: &AnswerSummary) -> Answer {
    let missing = |it: &[u64]| it.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    let rows = of.epochs.iter().map(|((lane, epoch), it)| {
        let opened = it.opened.map_or_else(|| "-".to_owned(), |it| it.to_string());
        let end = if it.closed { "closed" } else { "no closing batch" };
        let (events, rejected) = (it.events.to_string(), it.rejected.to_string());
        [lane.to_string(), epoch.to_string(), opened, it.batches.to_string(), events, rejected, missing(&it.missing), end.to_owned()]
    });
    let mut text = table(["LANE", "EPOCH", "OPENED", "BATCHES", "EVENTS", "REJECTED", "MISSING", "END"], rows);
    text.push_str(&format!("\nheartbeats: {}, events that it says it dropped: {}\n", of.heartbeats, of.dropped));
    for (before, behind, ns) in &of.silences {
        text.push_str(&format!("silent for {} s between entries {before} and {behind}\n", ns / 1_000_000_000));
    }
    for (index, said, there) in &of.miscounted {
        text.push_str(&format!("the heartbeat at entry {index} counts {said} events, the log has {there}\n"));
    }
    for index in &of.equivocations {
        text.push_str(&format!("two batches were signed for one place: entry {index}\n"));
    }
    let epochs = of.epochs.iter().map(|((lane, epoch), it)| {
        json!({
            "lane": lane, "epoch": epoch.to_string(), "opened": it.opened.map(|it| it.to_string()), "batches": it.batches.to_string(),
            "events": it.events.to_string(), "rejected": it.rejected.to_string(), "closed": it.closed,
            "missing": it.missing.iter().map(u64::to_string).collect::<Vec<_>>(),
        })
    });
    let silence = |(before, behind, ns): &(EntryIndex, EntryIndex, u64)| json!({ "before": before.to_string(), "behind": behind.to_string(), "ns": ns.to_string() });
    let miscount = |(index, said, there): &(EntryIndex, u64, u64)| json!({ "index": index.to_string(), "said": said.to_string(), "recorded": there.to_string() });
    let json = json!({
        "epochs": epochs.collect::<Vec<_>>(), "heartbeats": of.heartbeats.to_string(), "dropped": of.dropped.to_string(),
        "silences": of.silences.iter().map(silence).collect::<Vec<_>>(),
        "miscounted": of.miscounted.iter().map(miscount).collect::<Vec<_>>(),
        "equivocations": of.equivocations.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    answer("proofline.collector-completeness/v1", json, &text, summary)
}
