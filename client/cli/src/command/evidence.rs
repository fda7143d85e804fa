//! `proofline evidence`: files that answer a question elsewhere.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use proofline_client::{EvidenceOrder, Existing, Exported, PayloadsWanted};
use proofline_proto::v1;
use proofline_verifier::{Checkpoint, Control, FileReport, HeldCheckpoint, SignedNote, TreeSize, controls, verify};
use serde_json::json;

use super::{
    lineage,
    prove::{Held, compared},
    question,
};
use crate::{
    arguments::{EvidenceArguments, EvidenceCommand},
    connection::Connection,
    exit::Exit,
    output::{Answer, table},
    progress,
};

const PAGE_ENTRIES: u32 = 500;

pub(super) async fn run(command: EvidenceCommand, connect: impl Fn() -> Result<Connection>) -> Result<Answer> {
    match command {
        EvidenceCommand::Export(arguments) => export(*arguments, &connect()?).await,
        EvidenceCommand::Controls => Ok(list()),
    }
}

fn list() -> Answer {
    let rows = controls().map(|it| [it.id.to_owned(), it.source.to_owned(), it.shows.to_owned()]);
    let json: Vec<_> = controls().map(|it| json!({ "id": it.id, "source": it.source, "shows": it.shows })).collect();
    Answer::new("proofline.controls/v1", json!({ "controls": json }), table(["CONTROL", "SOURCE", "WHAT THE LEDGER SHOWS"], rows))
}

async fn export(arguments: EvidenceArguments, connection: &Connection) -> Result<Answer> {
    let control = arguments.control.as_deref().map(find).transpose()?;
    let question = match &control {
        Some(control) => question::of_control(control, &arguments.keys, &arguments.reach)?,
        None if arguments.window => question::of_window(&arguments.reach),
        None => question::of_keys(&arguments.keys, &arguments.reach)?,
    };
    let held = arguments.consistent_with.as_deref().map(read_checkpoint).transpose()?;
    let order = EvidenceOrder {
        asked: question::in_words(&question, control.as_ref()),
        request: v1::TraceLineageRequest {
            question: Some(question),
            kind: v1::AccessKind::EvidenceExport.into(),
            purpose: arguments.reach.purpose,
            page_entries: PAGE_ENTRIES,
        },
        exported_unix_ns: u64::try_from(jiff::Timestamp::now().as_nanosecond())?,
        consistent_with: held.as_ref().map(|(_, size)| *size),
        out: arguments.out,
        payloads: if arguments.payloads { PayloadsWanted::Yes } else { PayloadsWanted::No },
        existing: if arguments.force { Existing::Replaced } else { Existing::Kept },
    };
    let counter = progress::counter("entries");
    let exported = connection.client.export_evidence(connection.policy()?, &order, |entries| counter.inc(entries)).await;
    counter.finish_and_clear();
    let Exported { summary, checkpoint } = exported?;
    // What was written is checked here too: a file that does not verify is evidence against the ledger, and stays.
    let bytes = fs::read(&order.out).with_context(|| order.out.display().to_string())?;
    let held = held.map(|(checkpoint, _)| HeldCheckpoint { checkpoint, proof: None });
    let name = order.out.display().to_string();
    let checked = FileReport { file: name.clone(), report: verify(&bytes, &connection.policy()?, held.as_ref()) };
    // The file is written, and what is said of it is said, whether or not it can be compared.
    let (held, undecided) = match compared(&checked, connection.compare_newest(&checkpoint)).await {
        Ok(held) => (held, None),
        Err(error) => (Held::NotCompared, Some(error)),
    };
    // Nothing that speaks for a control is no misspelled key.
    let note = if control.is_some() { "" } else { lineage::nothing_found(&summary) };
    let text = format!("{name}: {} bytes\n{}{note}", bytes.len(), checked.report);
    let json = json!({
        "file": name,
        "bytes": bytes.len().to_string(),
        "asked": order.asked,
        "summary": lineage::summary_json(&summary),
        "report": checked.to_json(),
        "held": held.in_json(),
    });
    let answer = held.end(Answer::new("proofline.evidence/v1", json, text), &checked);
    Ok(match undecided {
        Some(error) => answer.failing(error),
        None if answer.exit == Exit::Done => answer.ending(lineage::exit_of(&summary.extent)),
        None => answer,
    })
}

fn find(id: &str) -> Result<Control> {
    match Control::find(id) {
        Some(control) => Ok(control),
        None => bail!("there is no control {id:?}; `proofline evidence controls` lists them"),
    }
}

fn read_checkpoint(path: &Path) -> Result<(Vec<u8>, TreeSize)> {
    let note = fs::read(path).with_context(|| path.display().to_string())?;
    let size = Checkpoint::parse_text(SignedNote::parse(&note)?.text())?.size;
    Ok((note, size))
}
