//! The text of a C2SP `.tlog-proof`: one entry, its path, and a checkpoint.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::checkpoint::{parse_base64_hash, parse_decimal};
use crate::coordinate::EntryIndex;
use crate::hash::{LogHash, TreeHash};
use crate::note::NOTE_BYTES_MAX;
use crate::report::{Outcome, Refusal};

/// First line of a proof of this version.
pub const TLOG_PROOF_HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Longest proof that is parsed.
pub const TLOG_PROOF_BYTES_MAX: usize = NOTE_BYTES_MAX + 128 * 1024;

const PATH_HASHES_MAX: usize = 64;

/// Why a text is no tlog-proof that can be decided.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlogProofError {
    /// Longer than [`TLOG_PROOF_BYTES_MAX`].
    #[error("the proof has {bytes} bytes, at most {TLOG_PROOF_BYTES_MAX} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Another first line, or no UTF-8.
    #[error("the first line is not {TLOG_PROOF_HEADER}")]
    Header,
    /// The `extra` line is not canonical base64, or empty.
    #[error("the extra line is not canonical base64")]
    Extra,
    /// The `index` line is missing or not a plain decimal number.
    #[error("the index line is missing or malformed")]
    Index,
    /// A path line is not canonical base64 of 32 bytes, or there are too many.
    #[error("path line {0} is not canonical base64 of 32 bytes, or one too many")]
    Path(usize),
    /// No empty line with a checkpoint below it.
    #[error("no checkpoint below the path")]
    NoCheckpoint,
    /// No `extra` line: the entry itself is not in the file.
    #[error("the file has no extra line, so it does not hold the entry")]
    NoEntry,
}

impl Refusal for TlogProofError {
    fn outcome(&self) -> Outcome {
        Outcome::NotChecked
    }
}

/// A tlog-proof as its lines say it. [`TlogProof::parse`] and [`TlogProof::encode`] are inverse to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Exact bytes of the entry: the `extra` line.
    pub entry: Option<Vec<u8>>,
    /// Where the entry stands in the log.
    pub index: EntryIndex,
    /// Siblings, leaf side first.
    pub path: Vec<LogHash>,
    /// The checkpoint, a signed note, verbatim.
    pub checkpoint: String,
}

impl TlogProof {
    /// Parses a proof strictly. Nothing is verified.
    ///
    /// # Errors
    /// [`TlogProofError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        if bytes.len() > TLOG_PROOF_BYTES_MAX {
            return Err(TlogProofError::TooLong { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| TlogProofError::Header)?;
        let body = text.strip_prefix(TLOG_PROOF_HEADER).and_then(|rest| rest.strip_prefix('\n')).ok_or(TlogProofError::Header)?;
        let (head, checkpoint) = body.split_once("\n\n").ok_or(TlogProofError::NoCheckpoint)?;
        let mut lines = head.split('\n').peekable();
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(parse_decimal).ok_or(TlogProofError::Index)?;
        Ok(Self {
            entry: extra.map(parse_extra).transpose()?,
            index: EntryIndex(index),
            path: lines.zip(1..).map(parse_path_line).collect::<Result<_, _>>()?,
            checkpoint: checkpoint.to_owned(),
        })
    }

    /// Returns the text of the proof.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("{TLOG_PROOF_HEADER}\n");
        if let Some(entry) = &self.entry {
            text.push_str(&format!("extra {}\n", STANDARD.encode(entry)));
        }
        text.push_str(&format!("index {}\n", self.index));
        for hash in &self.path {
            text.push_str(&format!("{}\n", STANDARD.encode(hash.as_bytes())));
        }
        text.push_str(&format!("\n{}", self.checkpoint));
        text
    }
}

fn parse_extra(line: &str) -> Result<Vec<u8>, TlogProofError> {
    let encoded = line.strip_prefix("extra ").filter(|encoded| !encoded.is_empty()).ok_or(TlogProofError::Extra)?;
    STANDARD.decode(encoded).map_err(|_| TlogProofError::Extra)
}

fn parse_path_line((line, number): (&str, usize)) -> Result<LogHash, TlogProofError> {
    parse_base64_hash(line).filter(|_| number <= PATH_HASHES_MAX).ok_or(TlogProofError::Path(number))
}
