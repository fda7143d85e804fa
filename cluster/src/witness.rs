//! A witness: cosigns the checkpoints of logs that it knows, each only when it extends what it cosigned before. Speaks C2SP
//! tlog-witness.
//!
//! What it cosigned last for a log is on the disk before the cosignature leaves, so that no crash makes it cosign two
//! histories.

mod http;
mod memory;

use std::{path::Path, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use proofline_verifier::{
    Checkpoint, KeyName, LogHash, NoteSignature, Policy, PolicyDraft, SignatureType, SignedNote, TreeHash as _, TreeHead, TreeSize,
    TrustError, VerifierKey, cosignature_signed_bytes, verify_consistency,
};
use thiserror::Error;

pub use http::serve;
use memory::Memory;

/// Hashes in the longest consistency proof: RFC 6962 over 2^63 leaves.
const PROOF_HASHES_MAX: usize = 63;

/// Why a witness cannot begin.
#[derive(Debug, Error)]
pub enum WitnessError {
    /// Its name or key is none.
    #[error(transparent)]
    Key(#[from] proofline_verifier::KeyError),
    /// The logs cannot be taken from the policy.
    #[error(transparent)]
    Policy(#[from] proofline_verifier::PolicyError),
    /// A log of the policy cannot stand in one of the witness' own.
    #[error(transparent)]
    Line(#[from] proofline_verifier::PolicyLineError),
    /// The policy names no log.
    #[error("the policy names no log; a witness cosigns for the logs of its policy alone")]
    NoLogs,
    /// Its directory cannot be used.
    #[error("{path}: {source}")]
    Directory {
        /// Which one.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Why a checkpoint is not cosigned. The names are those of C2SP tlog-witness' status codes.
#[derive(Debug, Error)]
pub enum NotCosigned {
    /// 400: the request cannot be read, or its old size is beyond the checkpoint's.
    #[error("{0}")]
    Malformed(&'static str),
    /// 403: no key of the log that the witness knows signed.
    #[error("{0}")]
    NotSigned(TrustError),
    /// 404: not a log of this witness.
    #[error("this witness knows no log {0}")]
    UnknownLog(KeyName),
    /// 409: the request begins somewhere else than at what was cosigned last. The answer says where that is.
    #[error("the newest checkpoint that was cosigned has size {newest}")]
    Conflict {
        /// Entries of what was cosigned last.
        newest: u64,
    },
    /// 422: the checkpoint does not extend what was cosigned last. Somebody shows two histories.
    #[error("the checkpoint does not extend what was cosigned: {0}")]
    Inconsistent(#[from] proofline_verifier::TreeError),
    /// 500: what it cosigned last cannot be read or kept.
    #[error("the memory of the witness failed: {0}")]
    Memory(#[from] std::io::Error),
}

/// A witness and its memory.
#[derive(Debug)]
pub struct Witness {
    logs: Policy,
    key: SigningKey,
    name: VerifierKey,
    memory: Memory,
}

/// A request, read.
struct Asked<'a> {
    old: u64,
    proof: Vec<LogHash>,
    note: &'a [u8],
}

impl Witness {
    /// Makes a witness for the logs of a policy. The policy's own witnesses and quorum are of no interest to it.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn open(policy: &[u8], name: &str, key: SigningKey, directory: &Path) -> Result<Self, WitnessError> {
        let mut logs = PolicyDraft::default();
        for log in Policy::parse(policy)?.logs() {
            logs.add_log(log.key.clone(), None)?;
        }
        logs.set_quorum("none")?;
        let logs = logs.finish()?;
        if logs.logs().is_empty() {
            return Err(WitnessError::NoLogs);
        }
        let name = VerifierKey::new(KeyName::parse(name)?, SignatureType::CosignatureV1, key.verifying_key().as_bytes())?;
        let memory = Memory::open(directory).map_err(|source| WitnessError::Directory { path: directory.to_owned(), source })?;
        Ok(Self { logs, key, name, memory })
    }

    /// Returns what stands for this witness in the policy of whoever relies on it.
    #[must_use]
    pub fn verifier_key(&self) -> &VerifierKey {
        &self.name
    }

    /// Answers `add-checkpoint`: a signature line when the checkpoint extends what was cosigned last.
    ///
    /// # Errors
    /// [`NotCosigned`]; then nothing was signed and nothing is remembered.
    pub async fn add_checkpoint(&self, request: &[u8]) -> Result<String, NotCosigned> {
        let asked = Asked::parse(request)?;
        let checkpoint = self.check_log(asked.note)?;
        if asked.old > checkpoint.size.0 {
            return Err(NotCosigned::Malformed("the old size is beyond the checkpoint's"));
        }
        // One at a time: what is compared is what is replaced.
        let mut turn = self.memory.turn().await;
        let newest = turn.newest(&checkpoint.origin)?;
        let older = newest.map_or(TreeHead { size: TreeSize(0), root: LogHash::empty() }, |it| it.head());
        if asked.old != older.size.0 {
            return Err(NotCosigned::Conflict { newest: older.size.0 });
        }
        verify_consistency(older, checkpoint.head(), &asked.proof)?;
        if checkpoint.size.0 == 0 && checkpoint.root != LogHash::empty() {
            return Err(NotCosigned::Malformed("the root of a log without entries is not the hash of nothing"));
        }
        let text = checkpoint.note_text();
        let unix_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |since| since.as_secs().max(1));
        let signature = self.key.sign(&cosignature_signed_bytes(unix_s, &text)).to_bytes();
        let line = NoteSignature::of_cosigner(&self.name, unix_s, &signature);
        let signatures = SignedNote::parse(asked.note).map_err(|_| NotCosigned::Malformed("the checkpoint is no signed note"))?;
        let of_log = signatures.signatures().iter().filter(|it| it.name == checkpoint.origin).cloned();
        let note = SignedNote::new(text.clone(), of_log.chain([line.clone()]).collect());
        let note = note.map_err(|_| NotCosigned::Malformed("the checkpoint is no signed note"))?;
        turn.keep(&checkpoint.origin, &note.encode())?;
        SignedNote::new(text, vec![line])
            .map(|alone| alone.encode().rsplit("\n\n").next().unwrap_or_default().to_owned())
            .map_err(|_| NotCosigned::Malformed("the checkpoint is no signed note"))
    }

    /// Returns the newest note that was cosigned for the log whose origin has this SHA-256, in hexadecimal digits.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn newest(&self, origin_sha256: &str) -> std::io::Result<Option<String>> {
        self.memory.named(origin_sha256)
    }

    fn check_log(&self, note: &[u8]) -> Result<Checkpoint, NotCosigned> {
        match self.logs.verify_checkpoint(note) {
            Ok(it) => Ok(Checkpoint { origin: it.origin, size: it.size, root: it.root }),
            Err(TrustError::UnknownOrigin { origin }) => Err(NotCosigned::UnknownLog(origin)),
            Err(TrustError::Checkpoint(_)) => Err(NotCosigned::Malformed("the checkpoint cannot be read")),
            Err(other) => Err(NotCosigned::NotSigned(other)),
        }
    }
}

impl<'a> Asked<'a> {
    fn parse(request: &'a [u8]) -> Result<Self, NotCosigned> {
        let malformed = NotCosigned::Malformed;
        let end = request.windows(2).position(|window| window == b"\n\n").ok_or(malformed("no empty line ends the proof"))?;
        let (head, note) = request.split_at(end);
        let head = std::str::from_utf8(head).map_err(|_| malformed("the request is no text"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).ok_or(malformed("the request does not begin with \"old\""))?;
        let size = old.parse::<u64>().ok().filter(|size| size.to_string() == old).ok_or(malformed("the old size is no number"))?;
        let hash = |line: &str| STANDARD.decode(line).ok()?.try_into().ok().map(LogHash::from_bytes);
        let proof = lines.map(hash).collect::<Option<Vec<_>>>().ok_or(malformed("a line of the proof is no hash"))?;
        if proof.len() > PROOF_HASHES_MAX {
            return Err(malformed("the proof has more than 63 hashes"));
        }
        Ok(Self { old: size, proof, note: note.get(2..).unwrap_or_default() })
    }
}
