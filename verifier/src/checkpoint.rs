//! Checkpoints: the signed statement "this log has this size and this root".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::coordinate::TreeSize;
use crate::hash::{LogHash, TreeHash};
use crate::key::{KeyError, KeyName};
use crate::note::NoteError;
use crate::report::{Outcome, Refusal};
use crate::tree::TreeHead;

/// Why a checkpoint cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// It is no signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// Its text is not exactly origin, size and root.
    #[error("a checkpoint's text is three lines: origin, size, root")]
    Form,
    /// The origin could not name a log key.
    #[error("the origin is malformed: {0}")]
    Origin(#[source] KeyError),
    /// The size is not a decimal number without leading zeros.
    #[error("the tree size is not a plain decimal number")]
    Size,
    /// The root is not canonical base64 of 32 bytes.
    #[error("the root is not canonical base64 of 32 bytes")]
    Root,
}

impl Refusal for CheckpointError {
    fn outcome(&self) -> Outcome {
        Outcome::NotChecked
    }
}

/// The text of a checkpoint, parsed. Says nothing about who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log.
    pub origin: KeyName,
    /// Entries in the log.
    pub size: TreeSize,
    /// Root of the log tree at that size.
    pub root: LogHash,
}

impl Checkpoint {
    /// Parses the text of a note: exactly three lines, no extension lines.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn parse_text(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Form)?.split('\n');
        let (Some(origin), Some(size), Some(root), None) = (lines.next(), lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Form);
        };
        Ok(Self {
            origin: KeyName::parse(origin).map_err(CheckpointError::Origin)?,
            size: TreeSize(parse_decimal(size).ok_or(CheckpointError::Size)?),
            root: parse_base64_hash(root).ok_or(CheckpointError::Root)?,
        })
    }

    /// Returns the text that the log signs.
    #[must_use]
    pub fn note_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }

    /// Returns size and root.
    #[must_use]
    pub fn head(&self) -> TreeHead<LogHash> {
        TreeHead { size: self.size, root: self.root }
    }
}

/// Returns the bytes that a cosignature/v1 made at `unix_s` covers.
#[must_use]
pub fn cosignature_signed_bytes(unix_s: u64, note_text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {unix_s}\n{note_text}").into_bytes()
}

/// Parses a decimal number in its one form: digits, no sign, no leading zero.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Parses a hash of the log tree from canonical base64.
pub(crate) fn parse_base64_hash(text: &str) -> Option<LogHash> {
    STANDARD.decode(text).ok()?.try_into().ok().map(LogHash::from_bytes)
}
