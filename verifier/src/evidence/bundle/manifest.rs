//! `manifest.json`: what the members of a file of evidence are. Signed by nobody: everything in it is compared, or a claim.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::checkpoint::parse_decimal;

/// What the manifest of this version names as its format.
pub const EVIDENCE_FORMAT: &str = "proofline/evidence/v1";

/// Why a manifest cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// Not JSON.
    #[error("it is not JSON: {0}")]
    Json(String),
    /// Of another version.
    #[error("the format is {0:?}, this version reads {EVIDENCE_FORMAT:?}")]
    Version(String),
    /// A part is missing or malformed.
    #[error("{0} is missing or malformed")]
    Part(&'static str),
    /// A part that this version does not know.
    #[error("{0:?} is unknown to this version")]
    Unknown(String),
}

/// One member of a file of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestMember {
    /// Its name.
    pub name: String,
    /// SHA-256 of its bytes, in lower-case hex.
    pub sha256: String,
    /// How many there are.
    pub bytes: u64,
}

impl ManifestMember {
    /// Describes a member by its bytes.
    #[must_use]
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name: name.to_owned(), sha256, bytes: bytes.len() as u64 }
    }
}

/// What a file of evidence says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The ledger.
    pub origin: String,
    /// When the file was made, by the clock of whoever made it.
    pub exported_unix_ns: u64,
    /// The words of the question.
    pub asked: String,
    /// Entries that the checkpoint covers.
    pub tree_size: u64,
    /// Entries that the commitment covers; 0 without one.
    pub commitment_size: u64,
    /// Pages of the answer.
    pub pages: u64,
    /// Entries of the answer, each counted once.
    pub entries: u64,
    /// All members but the manifest, by name.
    pub members: Vec<ManifestMember>,
}

impl Manifest {
    /// Parses a manifest. Members that this version does not know are refused.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let document: Value = serde_json::from_slice(bytes).map_err(|error| ManifestError::Json(error.to_string()))?;
        let mut parts = Parts(document.as_object().cloned().ok_or(ManifestError::Part("an object"))?);
        let format = parts.text("format")?;
        if format != EVIDENCE_FORMAT {
            return Err(ManifestError::Version(format));
        }
        let manifest = Self {
            origin: parts.text("origin")?,
            exported_unix_ns: parts.number("exported_unix_ns")?,
            asked: parts.text("asked")?,
            tree_size: parts.number("tree_size")?,
            commitment_size: parts.number("commitment_size")?,
            pages: parts.number("pages")?,
            entries: parts.number("entries")?,
            members: parse_members(&parts.take("members")?)?,
        };
        parts.end()?;
        Ok(manifest)
    }

    /// Returns the text of the manifest.
    #[must_use]
    pub fn encode(&self) -> String {
        let member = |it: &ManifestMember| json!({ "name": it.name, "sha256": it.sha256, "bytes": it.bytes.to_string() });
        let document = json!({
            "format": EVIDENCE_FORMAT,
            "origin": self.origin,
            "exported_unix_ns": self.exported_unix_ns.to_string(),
            "asked": self.asked,
            "tree_size": self.tree_size.to_string(),
            "commitment_size": self.commitment_size.to_string(),
            "pages": self.pages.to_string(),
            "entries": self.entries.to_string(),
            "members": self.members.iter().map(member).collect::<Vec<_>>(),
        });
        format!("{document:#}\n")
    }
}

fn parse_members(of: &Value) -> Result<Vec<ManifestMember>, ManifestError> {
    let mut members: Vec<ManifestMember> = Vec::new();
    for one in of.as_array().ok_or(ManifestError::Part("members"))? {
        let mut parts = Parts(one.as_object().cloned().ok_or(ManifestError::Part("a member"))?);
        let member = ManifestMember { name: parts.text("name")?, sha256: parts.text("sha256")?, bytes: parts.number("bytes")? };
        parts.end()?;
        if members.last().is_some_and(|last| last.name >= member.name) {
            return Err(ManifestError::Part("the order of the members"));
        }
        members.push(member);
    }
    Ok(members)
}

/// The parts of an object that were not taken yet.
struct Parts(Map<String, Value>);

impl Parts {
    fn take(&mut self, name: &'static str) -> Result<Value, ManifestError> {
        self.0.remove(name).ok_or(ManifestError::Part(name))
    }

    fn text(&mut self, name: &'static str) -> Result<String, ManifestError> {
        match self.take(name)? {
            Value::String(text) => Ok(text),
            _ => Err(ManifestError::Part(name)),
        }
    }

    fn number(&mut self, name: &'static str) -> Result<u64, ManifestError> {
        parse_decimal(&self.text(name)?).ok_or(ManifestError::Part(name))
    }

    fn end(self) -> Result<(), ManifestError> {
        self.0.into_iter().next().map_or(Ok(()), |(name, _)| Err(ManifestError::Unknown(name)))
    }
}
