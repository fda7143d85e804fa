//! The report for scripts: schema `proofline.verify/v1`, described in docs/FORMATS.md. Every 64-bit number is a string.

use std::io;
use std::path::PathBuf;

use proofline_verifier::{Completeness, EvidenceKind, Integrity, Outcome, Report};
use serde_json::{Value, json};

const SCHEMA: &str = "proofline.verify/v1";

/// Prints one document about all files. Returns the worst verdict.
pub(crate) fn print<'a>(output: &mut impl io::Write, reports: impl Iterator<Item = (&'a PathBuf, Report)>) -> io::Result<Integrity> {
    let mut worst = Integrity::Verified;
    let mut files = Vec::new();
    for (file, report) in reports {
        worst = worst.max(report.integrity());
        files.push(describe(&file.to_string_lossy(), &report));
    }
    let document = json!({ "schema": SCHEMA, "exit_code": worst.exit_code(), "files": files });
    writeln!(output, "{}", escape_unprintable(&serde_json::to_string_pretty(&document)?))?;
    Ok(worst)
}

/// Escapes what a terminal would act on instead of showing it. Outside strings the document has no such character.
fn escape_unprintable(document: &str) -> String {
    let mut safe = String::with_capacity(document.len());
    for character in document.chars() {
        if character.is_ascii_graphic() || character == ' ' || character == '\n' || character.escape_debug().len() == 1 {
            safe.push(character);
        } else {
            let mut units = [0; 2];
            safe.extend(character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    safe
}

fn describe(file: &str, of: &Report) -> Value {
    let check = |it: &proofline_verifier::Check| json!({ "name": it.name.as_str(), "outcome": outcome(it.outcome), "detail": it.detail });
    let fact = |it: &proofline_verifier::Fact| json!({ "name": it.name, "value": it.value });
    let open = |it: &proofline_verifier::NotProven| json!({ "name": it.as_str(), "sentence": it.sentence() });
    json!({
        "file": file,
        "kind": of.kind.map(EvidenceKind::as_str),
        "exit_code": of.integrity().exit_code(),
        "integrity": integrity(of.integrity()),
        "completeness": completeness(of.completeness),
        "checks": of.checks.iter().map(check).collect::<Vec<_>>(),
        "facts": of.facts.iter().map(fact).collect::<Vec<_>>(),
        "not_proven": of.not_proven.iter().map(open).collect::<Vec<_>>(),
        "warnings": of.warnings,
    })
}

fn outcome(of: Outcome) -> &'static str {
    match of {
        Outcome::Passed => "pass",
        Outcome::Failed => "fail",
        Outcome::NotChecked => "not_checked",
    }
}

fn integrity(of: Integrity) -> &'static str {
    match of {
        Integrity::Verified => "verified",
        Integrity::ProvenWrong => "proven_wrong",
        Integrity::Undecided => "undecided",
    }
}

fn completeness(of: Completeness) -> &'static str {
    match of {
        Completeness::NotClaimed => "not_claimed",
        Completeness::Unknown => "unknown",
        Completeness::OpenEnded => "open_ended",
        Completeness::Complete => "complete",
    }
}
