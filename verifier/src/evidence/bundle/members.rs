//! The members of a file of evidence: which there are, and whether they are those of the manifest.

use std::collections::BTreeSet;

use thiserror::Error;

use super::archive::{Archive, ArchiveError};
use super::manifest::{Manifest, ManifestMember};
use super::payloads::content_name;
use crate::checkpoint::parse_decimal;
use crate::coordinate::EntryIndex;
use crate::evidence::{FormatError, part};
use crate::key::KeyName;
use crate::report::{Outcome, Refusal};

const MANIFEST: &str = "manifest.json";
const PAGE_DIGITS: usize = 6;

/// Why the members are not what the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum MemberError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("the manifest names {manifest:?}, the file has {file:?}")]
    Names { manifest: Vec<String>, file: Vec<String> },
    #[error("{0:?} is not the member that the manifest names: its bytes are others")]
    Bytes(String),
    #[error("the manifest names origin {manifest:?}, the checkpoint {checkpoint}")]
    OtherOrigin { manifest: String, checkpoint: KeyName },
    #[error("the manifest says {what} {named}, the file has {found}")]
    Count { what: &'static str, named: u64, found: u64 },
}

impl Refusal for MemberError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Archive(_) => Outcome::NotChecked,
            Self::Names { .. } | Self::Bytes(_) | Self::OtherOrigin { .. } | Self::Count { .. } => Outcome::Failed,
        }
    }
}

/// A file of evidence, opened.
pub(super) struct Members<'a> {
    archive: Archive<'a>,
    pub(super) manifest: Manifest,
    /// Number of pages.
    pub(super) pages: u64,
    /// Entries whose facts are there.
    pub(super) facts: BTreeSet<EntryIndex>,
    /// Entry and digest of the payloads whose contents are there.
    pub(super) contents: BTreeSet<(EntryIndex, Vec<u8>)>,
}

impl<'a> Members<'a> {
    /// Opens a file: every name is one of the format, and pages have no gap.
    pub(super) fn open(file: &'a [u8]) -> Result<Self, FormatError> {
        let archive = Archive::parse(file)?;
        let (mut pages, mut facts, mut contents) = (0_u64, BTreeSet::new(), BTreeSet::new());
        for name in archive.names() {
            match (page_number(name), facts_index(name)) {
                (Some(number), _) if number == pages => pages += 1,
                (None, Some(index)) => drop(facts.insert(index)),
                (None, None) if let Some(place) = content_place(name) => drop(contents.insert(place)),
                (None, None) if [MANIFEST, "checkpoint", "registrations.binpb", "consistency-proof", "payloads.binpb"].contains(&name) => {}
                _ => return Err(ArchiveError::Name(name.to_owned()).into()),
            }
        }
        if pages == 0 {
            return Err(FormatError::Missing("page"));
        }
        let manifest = Manifest::parse(&part(archive.read(MANIFEST)?, "manifest.json")?)?;
        Ok(Self { archive, manifest, pages, facts, contents })
    }

    /// Unpacks a member.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        self.archive.read(name)
    }

    /// Checks that the members are those of the manifest, byte for byte.
    pub(super) fn check(&self) -> Result<(), MemberError> {
        let named: Vec<_> = self.manifest.members.iter().map(|it| it.name.clone()).collect();
        let found: Vec<_> = self.archive.names().filter(|name| *name != MANIFEST).map(str::to_owned).collect();
        if named != found {
            return Err(MemberError::Names { manifest: named, file: found });
        }
        for member in &self.manifest.members {
            let bytes = self.read(&member.name)?.unwrap_or_default();
            if ManifestMember::of(&member.name, &bytes) != *member {
                return Err(MemberError::Bytes(member.name.clone()));
            }
        }
        Ok(())
    }

    /// Unpacks a page.
    pub(super) fn page(&self, number: u64) -> Result<Vec<u8>, FormatError> {
        part(self.read(&format!("pages/{number:06}.binpb"))?, "page")
    }

    /// Unpacks the facts of a decision.
    pub(super) fn facts_of(&self, index: EntryIndex) -> Result<Option<Vec<u8>>, ArchiveError> {
        self.read(&format!("facts/{index}.binpb"))
    }
}

fn page_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("pages/")?.strip_suffix(".binpb")?;
    let is_number = digits.len() == PAGE_DIGITS && digits.bytes().all(|it| it.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

fn content_place(name: &str) -> Option<(EntryIndex, Vec<u8>)> {
    let (index, digest) = name.strip_prefix("payloads/")?.split_once('-')?;
    let place = (EntryIndex(parse_decimal(index)?), parse_digest(digest)?);
    // One name for each place.
    (content_name(&place) == name).then_some(place)
}

fn parse_digest(text: &str) -> Option<Vec<u8>> {
    let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (text.len() == 64).then(|| (0..64).step_by(2).map(byte).collect()).flatten()
}

fn facts_index(name: &str) -> Option<EntryIndex> {
    parse_decimal(name.strip_prefix("facts/")?.strip_suffix(".binpb")?).map(EntryIndex)
}
