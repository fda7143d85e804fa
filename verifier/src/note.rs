//! C2SP signed notes: a text and the signatures below it. Parsing checks form alone; see `policy` for the signatures.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::key::{KeyError, KeyId, KeyName, VerifierKey};
use crate::report::{Outcome, Refusal};

/// Longest note that is parsed.
pub const NOTE_BYTES_MAX: usize = 256 * 1024;
/// Most signatures of a note that is parsed.
pub const NOTE_SIGNATURES_MAX: usize = 64;

const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Why bytes are not a signed note.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoteError {
    /// Longer than [`NOTE_BYTES_MAX`].
    #[error("the note has {bytes} bytes, at most {NOTE_BYTES_MAX} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// More than [`NOTE_SIGNATURES_MAX`] signatures.
    #[error("the note has more than {NOTE_SIGNATURES_MAX} signatures")]
    TooManySignatures,
    /// Not UTF-8, or with a control character other than newline.
    #[error("the note is not plain UTF-8 text")]
    NotText,
    /// No empty line between text and signatures, or nothing on one side of it, or no newline at the end.
    #[error("the note is not a text, an empty line and signature lines")]
    Form,
    /// A line that is no signature line.
    #[error("signature line {line} is malformed")]
    SignatureLine {
        /// Counted from 1.
        line: usize,
    },
    /// A signature line whose key name is malformed.
    #[error("signature line {line}: {source}")]
    SignerName {
        /// Counted from 1.
        line: usize,
        /// What is wrong with the name.
        source: KeyError,
    },
    /// Two signatures with one name and key id.
    #[error("{name} signed twice with key {id}")]
    SignedTwice {
        /// Whose.
        name: KeyName,
        /// Which key.
        id: KeyId,
    },
}

impl Refusal for NoteError {
    fn outcome(&self) -> Outcome {
        Outcome::NotChecked
    }
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: KeyName,
    /// Id of the key.
    pub id: KeyId,
    /// What follows the key id; its form depends on the key's type.
    pub signature: Vec<u8>,
}

impl NoteSignature {
    /// Wraps a log's Ed25519 signature over the note text.
    #[must_use]
    pub fn of_log(key: &VerifierKey, signature: &[u8; 64]) -> Self {
        Self { name: key.name().clone(), id: key.id(), signature: signature.to_vec() }
    }

    /// Wraps a cosignature, made at `unix_s` over [`crate::cosignature_signed_bytes`].
    #[must_use]
    pub fn of_cosigner(key: &VerifierKey, unix_s: u64, signature: &[u8; 64]) -> Self {
        Self { name: key.name().clone(), id: key.id(), signature: [&unix_s.to_be_bytes()[..], signature].concat() }
    }

    fn parse(line: &str, number: usize) -> Result<Self, NoteError> {
        let malformed = || NoteError::SignatureLine { line: number };
        let rest = line.strip_prefix(SIGNATURE_PREFIX).ok_or_else(malformed)?;
        let (name, encoded) = rest.split_once(' ').ok_or_else(malformed)?;
        let blob = STANDARD.decode(encoded).map_err(|_| malformed())?;
        let (id, signature) = blob.split_first_chunk::<4>().filter(|(_, signature)| !signature.is_empty()).ok_or_else(malformed)?;
        let name = KeyName::parse(name).map_err(|source| NoteError::SignerName { line: number, source })?;
        Ok(Self { name, id: KeyId(*id), signature: signature.to_vec() })
    }

    pub(crate) fn is_by(&self, key: &VerifierKey) -> bool {
        self.id == key.id() && &self.name == key.name()
    }
}

/// A text with signatures. [`SignedNote::parse`] and [`SignedNote::encode`] are inverse to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl SignedNote {
    /// Joins a text, which ends with a newline, and signatures over it.
    ///
    /// # Errors
    /// [`NoteError`] when the result would not parse.
    pub fn new(text: String, signatures: Vec<NoteSignature>) -> Result<Self, NoteError> {
        let note = Self { text, signatures };
        Self::parse(note.encode().as_bytes())
    }

    /// Parses a note strictly. Nothing is verified.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong { bytes: bytes.len() });
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::NotText)?;
        if note.contains(|it: char| it < ' ' && it != '\n') {
            return Err(NoteError::NotText);
        }
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        let lines = lines.strip_suffix('\n').filter(|_| !text.is_empty()).ok_or(NoteError::Form)?;
        Ok(Self { text: format!("{text}\n"), signatures: parse_signatures(lines)? })
    }

    /// Returns the note's bytes.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut note = format!("{}\n", self.text);
        for one in &self.signatures {
            let encoded = STANDARD.encode([&one.id.0[..], &one.signature].concat());
            note.push_str(&format!("{SIGNATURE_PREFIX}{} {encoded}\n", one.name));
        }
        note
    }

    /// Returns the signed text, with its final newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the signature lines.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }
}

fn parse_signatures(lines: &str) -> Result<Vec<NoteSignature>, NoteError> {
    let mut seen = BTreeSet::new();
    let mut signatures = Vec::new();
    for (line, number) in lines.split('\n').zip(1..) {
        if number > NOTE_SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures);
        }
        let one = NoteSignature::parse(line, number)?;
        if !seen.insert((one.name.clone(), one.id)) {
            return Err(NoteError::SignedTwice { name: one.name, id: one.id });
        }
        signatures.push(one);
    }
    Ok(signatures)
}
