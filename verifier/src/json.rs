//! The reports for scripts: schema `proofline.verify/v1`, described in docs/FORMATS.md. Every 64-bit number is a string.

use serde_json::{Value, json};

use crate::report::{Check, Completeness, EvidenceKind, Fact, Integrity, NotProven, Outcome};
use crate::reports::{FileReport, FileReports};

/// Name and version of the document.
pub const VERIFY_SCHEMA: &str = "proofline.verify/v1";

impl FileReports {
    /// Returns the document about all files.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let files: Vec<Value> = self.files().iter().map(FileReport::to_json).collect();
        json!({ "schema": VERIFY_SCHEMA, "exit_code": self.integrity().exit_code(), "files": files })
    }
}

impl FileReport {
    /// Returns the part of the document that is about this file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let of = &self.report;
        let check = |it: &Check| json!({ "name": it.name.as_str(), "outcome": outcome(it.outcome), "detail": it.detail });
        let fact = |it: &Fact| json!({ "name": it.name, "value": it.value });
        let open = |it: &NotProven| json!({ "name": it.as_str(), "sentence": it.sentence() });
        json!({
            "file": self.file,
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
        Completeness::Incomplete => "incomplete",
        Completeness::Complete => "complete",
    }
}
