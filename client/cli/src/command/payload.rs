//! `proofline payload` and `proofline retention`

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use proofline_client::{PayloadRead, SessionName, commit_to};
use proofline_proto::v1::{self, command::Action};
use proofline_verifier::{EntryIndex, LogEntry, escape};
use serde_json::json;

use super::signing::submit;
use crate::{
    arguments::{CommitArguments, EraseArguments, GetArguments, PayloadCommand, PutArguments, RetentionCommand, SubjectArguments},
    connection::Connection,
    describe,
    exit::{Exit, WrongArguments},
    form,
    kept_payload::KeptPayload,
    output::{Answer, facts, table},
};

pub(super) async fn run(command: PayloadCommand, connect: impl Fn() -> Result<Connection>) -> Result<Answer> {
    match command {
        PayloadCommand::Commit(it) => commit(&it),
        PayloadCommand::Put(it) => put(it, &connect()?).await,
        PayloadCommand::Get(it) => get(&it, &connect()?).await,
        PayloadCommand::Erase(it) => {
            let EraseArguments { subject: SubjectArguments { tenant, issuer, subject }, ground, signing } = it;
            let erase = v1::EraseSubject { tenant_id: tenant, issuer, subject, ground };
            submit(Action::EraseSubject(erase), &signing, &connect()?).await
        }
        PayloadCommand::Erasure(it) => erasure(it, &connect()?).await,
    }
}

pub(super) async fn retention(command: RetentionCommand, connection: &Connection) -> Result<Answer> {
    match command {
        RetentionCommand::Set { days, tenant, reason, signing } => {
            submit(Action::SetRetention(v1::SetRetention { tenant_id: tenant, days, reason }), &signing, connection).await
        }
        RetentionCommand::Show { tenant } => show(&tenant, connection).await,
    }
}

fn commit(arguments: &CommitArguments) -> Result<Answer> {
    let content = fs::read(&arguments.file).with_context(|| arguments.file.display().to_string())?;
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(|error| anyhow::anyhow!("the system gives no randomness: {error}"))?;
    let mut commitment = commit_to(&arguments.name, &arguments.media_type, &salt, &content);
    if let Some(subject) = &arguments.subject {
        if !subject.contains(' ') {
            return Err(WrongArguments("--subject takes the issuer, a space, and the subject").into());
        }
        commitment.key_ref = format!("subject:{subject}");
    }
    let kept = KeptPayload { digest: commitment.digest.clone(), salt: salt.to_vec(), content };
    kept.append(&arguments.keep, &arguments.name)?;
    let json = form::to_json("Commitment", &commitment)?;
    let text = format!("{}\n", serde_json::to_string(&json)?);
    Ok(Answer::new("proofline.commitment/v1", json!({ "commitment": json }), text))
}

async fn put(arguments: PutArguments, connection: &Connection) -> Result<Answer> {
    let mut kept = Vec::new();
    for file in &arguments.files {
        kept.extend(KeptPayload::read_all(file)?);
    }
    let places = match (&arguments.session, &arguments.tenant) {
        (Some(session), Some(tenant)) => committed_in(session, tenant, connection).await?,
        _ => BTreeMap::new(),
    };
    let (mut given, mut rows) = (Vec::new(), Vec::new());
    for KeptPayload { digest, salt, content } in kept {
        let index = arguments.index.or_else(|| places.get(&digest).copied());
        let index = index.with_context(|| format!("no published entry of the session commits to {}", hex::encode(&digest)))?;
        let bytes = content.len();
        let request = v1::PutPayloadRequest { collector_id: arguments.collector.clone(), index, digest: digest.clone(), salt, content };
        let answer = connection.client.put_payload(request).await?;
        let on = format!("{} of {} voters", answer.voters_holding, answer.voters);
        given.push(json!({
            "index": index.to_string(), "digest": hex::encode(&digest),
            "voters_holding": answer.voters_holding, "voters": answer.voters,
        }));
        rows.push([index.to_string(), hex::encode(&digest), bytes.to_string(), on]);
    }
    Ok(Answer::new("proofline.payloads-put/v1", json!({ "payloads": given }), table(["ENTRY", "DIGEST", "BYTES", "ON DISK AT"], rows)))
}

/// Finds which entry of a session commits to which digest.
async fn committed_in(session: &str, tenant: &str, connection: &Connection) -> Result<BTreeMap<Vec<u8>, u64>> {
    let name = SessionName { tenant_id: tenant.to_owned(), session_id: session.to_owned() };
    let members = connection.client.session(&name).await?.members;
    let mut found = BTreeMap::new();
    for member in members {
        let entry = LogEntry::parse(&member.entry)?;
        for commitment in entry.event.iter().flat_map(|event| &event.payloads) {
            found.insert(commitment.digest.clone(), entry.index.0);
        }
    }
    Ok(found)
}

async fn get(arguments: &GetArguments, connection: &Connection) -> Result<Answer> {
    let index = EntryIndex(arguments.index);
    let entry = LogEntry::parse_at(&connection.client.entry(index).await?, index)?;
    let commitments = entry.event.map(|event| event.payloads).unwrap_or_default();
    if commitments.is_empty() {
        bail!("entry {index} commits to no payload");
    }
    let is_wanted = |it: &&v1::Commitment| arguments.name.as_ref().is_none_or(|name| *name == it.name);
    let wanted: Vec<_> = commitments.iter().filter(is_wanted).collect();
    let [commitment] = wanted[..] else {
        let names: Vec<_> = commitments.iter().map(|it| escape(&it.name)).collect();
        bail!("entry {index} commits to {} payloads: {}; choose one with --name", names.len(), names.join(", "));
    };
    match connection.client.payload(index, commitment, &arguments.purpose).await? {
        PayloadRead::Given { content, .. } => {
            write_new(&arguments.out, &content)?;
            let text = format!("{}: {} bytes, as entry {index} commits to\n", arguments.out.display(), content.len());
            Ok(Answer::new("proofline.payload-read/v1", json!({ "index": index.to_string(), "bytes": content.len().to_string() }), text))
        }
        PayloadRead::Erased { by } => {
            let json = json!({ "index": index.to_string(), "erased_by": by.to_string() });
            Ok(Answer::new("proofline.payload-read/v1", json, format!("payload erased at index {by}\n")).ending(Exit::Failed))
        }
        PayloadRead::NotHeld(reason) => {
            let json = json!({ "index": index.to_string(), "not_held": reason.as_str() });
            let text = format!("the ledger does not have the payload ({})\n", reason.as_str());
            Ok(Answer::new("proofline.payload-read/v1", json, text).ending(Exit::Failed))
        }
    }
}

fn write_new(path: &Path, content: &[u8]) -> Result<()> {
    let write = || File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(content);
    write().with_context(|| path.display().to_string())
}

async fn erasure(of: SubjectArguments, connection: &Connection) -> Result<Answer> {
    let request = v1::GetErasureRequest { tenant_id: of.tenant, issuer: of.issuer, subject: of.subject };
    let found = connection.client.erasure(request).await?;
    if found.erased_by == 0 {
        return Ok(Answer::new("proofline.erasure/v1", form::to_json("GetErasureResponse", &found)?, "never erased\n".to_owned()));
    }
    let is_done = |node: &v1::NodeErasure| node.error.is_empty() && node.destroyed_by >= found.erased_by;
    let rows = found.nodes.iter().map(|node| {
        let state = match (node.error.as_str(), is_done(node)) {
            ("", true) => format!("destroyed at {}", describe::time(node.destroyed_unix_ns)),
            ("", false) => "not yet".to_owned(),
            (error, _) => format!("no answer: {error}"),
        };
        let files = match (is_done(node), node.rewritten) {
            (false, _) => "",
            (true, true) => "written again",
            (true, false) => "not written again yet",
        };
        [node.node_id.to_string(), node.name.clone(), state, files.to_owned(), node.keys.to_string()]
    });
    let at = describe::time(found.erased_unix_ns);
    let text = format!(
        "erased at index {}, committed at {at}\n{}",
        found.erased_by,
        table(["NODE", "NAME", "KEYS FROM BEFORE", "FILES", "KEYS NOW"], rows)
    );
    let exit = if found.nodes.iter().all(is_done) { Exit::Done } else { Exit::Degraded };
    Ok(Answer::new("proofline.erasure/v1", form::to_json("GetErasureResponse", &found)?, text).ending(exit))
}

async fn show(tenant: &str, connection: &Connection) -> Result<Answer> {
    let report = connection.client.retention(tenant).await?;
    let setting = match report.days {
        0 => "none: nothing is deleted by age".to_owned(),
        days => format!("{days} days, by entry {}", report.set_by_index),
    };
    let oldest = match report.oldest_unix_ns {
        0 => String::new(),
        at => format!("entry {} at {}", report.oldest_index, describe::time(at)),
    };
    let mut text = facts([
        ("floor", format!("{} days", report.floor_days)),
        ("setting", setting),
        ("payloads", format!("{} ({} bytes) on the node that answers", report.payloads, report.bytes)),
        ("oldest", oldest),
        ("kept by holds", format!("{} past their time", report.kept_by_holds)),
    ]);
    let rows = report.holds.iter().map(|hold| {
        let target = hold.target.as_ref().map_or_else(String::new, describe::target);
        [hold.hold_id.to_string(), target, hold.matter.clone(), hold.authority.clone()]
    });
    text += &table(["HOLD", "ON", "MATTER", "AUTHORITY"], rows);
    Ok(Answer::new("proofline.retention/v1", form::to_json("RetentionReport", &report)?, text))
}
