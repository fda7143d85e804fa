//! The memory for checkpoints: a ledger that shows another past than it showed before is caught here.
//!
//! It holds one file with the newest verified checkpoint of each log. Always true: what it holds was trusted under the
//! policy of its time and continues everything that it held before; it is replaced in one step.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use proofline_proto::v1;
use proofline_verifier::{
    ConsistencyError, ConsistencyProof, HeldCheckpoint, LogHash, Outcome, Policy, Refusal as _, TreeError, TreeSize, TrustError,
    VerifiedCheckpoint, parse_path,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    call::{CallError, RetryPolicy},
    client::{Client, Link},
    refusal::Reason,
    whole_file::{Existing, write_file},
};

const SCHEMA: &str = "proofline.held/v1";
/// How long nodes may show less than the log is known to have before it is said: one that was just behind catches up.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// For nodes that are asked beside the first: one that is down is no reason to wait.
const AT_ONCE: RetryPolicy = RetryPolicy { within: Duration::from_secs(1), attempt: Duration::from_secs(1) };

/// Why a checkpoint is not accepted.
#[derive(Debug, Error)]
pub enum HeldError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not of the known form.
    #[error("{path} holds no checkpoints of this version: {why}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The checkpoint is not trusted under the policy.
    #[error("the checkpoint is not trusted: {0}")]
    Untrusted(#[from] TrustError),
    /// The ledger shows another past than it showed before. This is the proof; both checkpoints are kept.
    #[error("THE LOG WAS REWRITTEN: {source}; the checkpoint of size {shown} contradicts the one of size {held}, kept in {kept}")]
    Rewritten {
        /// Size of the checkpoint that was held.
        held: TreeSize,
        /// Size of the checkpoint that contradicts it.
        shown: TreeSize,
        /// Where the contradicting checkpoint was written.
        kept: PathBuf,
        /// What does not fit.
        source: ConsistencyError,
    },
    /// Every node that answers shows fewer entries than the log is known to have: they lag, or entries are kept back.
    #[error(
        "the ledger shows {shown} entries, and the checkpoint held in {path} covers {held}: the nodes that answer lag, or entries are kept back"
    )]
    WentBack {
        /// Size of the checkpoint that is held.
        held: TreeSize,
        /// Size of the largest that was shown.
        shown: TreeSize,
        /// The file.
        path: PathBuf,
    },
    /// Whether the two checkpoints are of one log could not be decided.
    #[error("could not be compared with the checkpoint held in {path}: {source}")]
    Undecided {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ConsistencyError,
    },
    /// The ledger's proof is malformed.
    #[error("the consistency proof is malformed: {0}")]
    Proof(#[from] TreeError),
    /// No node gave a proof.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl HeldError {
    /// Returns whether this proves the ledger wrong, or leaves it undecided.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Untrusted(error) => error.outcome(),
            Self::Rewritten { .. } => Outcome::Failed,
            Self::File { .. } | Self::Form { .. } | Self::Undecided { .. } | Self::WentBack { .. } | Self::Proof(_) | Self::Call(_) => {
                Outcome::NotChecked
            }
        }
    }
}

/// How a checkpoint stands to the one that was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// None was held.
    First,
    /// It is of the same size, and the same root.
    Same,
    /// It continues the one that was held, and is held now.
    Grew {
        /// Size before.
        from: TreeSize,
    },
    /// It is older than the one that is held, and of the same log.
    Older {
        /// Size of the one that is held.
        held: TreeSize,
    },
}

/// A file of checkpoints, one for each log.
#[derive(Clone, Debug)]
pub struct HeldCheckpoints {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    schema: String,
    checkpoints: BTreeMap<String, String>,
}

impl HeldCheckpoints {
    /// Names the file; it is made with the first checkpoint.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Returns the newest checkpoint that is held of a log, a signed note.
    ///
    /// # Errors
    /// [`HeldError::File`] and [`HeldError::Form`].
    pub fn newest(&self, origin: &str) -> Result<Option<String>, HeldError> {
        Ok(self.read()?.remove(origin))
    }

    /// Verifies a checkpoint under the policy and compares it with the one that is held. On return: the newer of the two is
    /// on disk.
    ///
    /// # Errors
    /// [`HeldError`]; [`HeldError::Rewritten`] is proof that the ledger shows another past than before.
    pub async fn compare(&self, client: &Client, policy: &Policy, note: &[u8]) -> Result<(VerifiedCheckpoint, Comparison), HeldError> {
        let shown = policy.verify_checkpoint(note)?;
        loop {
            let held = self.newest(&shown.origin.to_string())?;
            let comparison = match &held {
                None => Comparison::First,
                Some(held) => self.compare_with(held, &shown, note, policy, client).await?,
            };
            let is_newer = matches!(comparison, Comparison::First | Comparison::Grew { .. });
            if !is_newer || self.replace(&shown, held.as_deref(), note)? == Replaced::Done {
                return Ok((shown, comparison));
            }
        }
    }

    /// Fetches the newest checkpoint, verifies it, and compares it with the one that is held. Where a node shows an older one,
    /// every node is asked: published checkpoints never go back.
    ///
    /// # Errors
    /// [`HeldError`]; [`HeldError::WentBack`] when no node shows as many entries as the log is known to have.
    pub async fn newest_of(&self, client: &Client, policy: &Policy) -> Result<(Vec<u8>, VerifiedCheckpoint, Comparison), HeldError> {
        let until = Instant::now() + CAUGHT_UP_WITHIN.min(client.retry().within);
        loop {
            match self.newest_shown(client, policy).await {
                // A node that was just behind is not for long.
                Err(HeldError::WentBack { .. }) if Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
                shown => return shown,
            }
        }
    }

    /// Asks until a node shows a checkpoint that is not older than the one that is held, every node once at most.
    async fn newest_shown(&self, client: &Client, policy: &Policy) -> Result<(Vec<u8>, VerifiedCheckpoint, Comparison), HeldError> {
        let others = (0..client.links().len()).filter_map(|place| Some(client.pinned(place)?.with_retry(AT_ONCE)));
        let mut behind: Option<(TreeSize, TreeSize)> = None;
        for node in std::iter::once(client.clone()).chain(others) {
            let shown = match self.shown_by(&node, policy).await {
                Ok((_, shown, Comparison::Older { held })) => (shown.size, held),
                Err(HeldError::WentBack { held, shown, .. }) => (shown, held),
                Ok(newest) => return Ok(newest),
                // A node beside the first that does not answer keeps nothing back.
                Err(HeldError::Call(_)) if behind.is_some() => continue,
                Err(error) => return Err(error),
            };
            behind = behind.max(Some(shown));
        }
        let (shown, held) = behind.unwrap_or((TreeSize(0), TreeSize(0)));
        Err(HeldError::WentBack { held, shown, path: self.path.clone() })
    }

    /// Compares as [`Self::compare`] does, and refuses a checkpoint that is older than the one that is held.
    ///
    /// # Errors
    /// [`HeldError`]; [`HeldError::WentBack`] for an older one.
    pub async fn compare_newest(&self, client: &Client, policy: &Policy, note: &[u8]) -> Result<VerifiedCheckpoint, HeldError> {
        match self.compare(client, policy, note).await? {
            (shown, Comparison::Older { held }) => Err(HeldError::WentBack { held, shown: shown.size, path: self.path.clone() }),
            (shown, Comparison::First | Comparison::Same | Comparison::Grew { .. }) => Ok(shown),
        }
    }

    async fn shown_by(&self, client: &Client, policy: &Policy) -> Result<(Vec<u8>, VerifiedCheckpoint, Comparison), HeldError> {
        let note = client.checkpoint().await?;
        let (shown, comparison) = self.compare(client, policy, &note).await?;
        Ok((note, shown, comparison))
    }

    async fn compare_with(
        &self,
        held: &str,
        shown: &VerifiedCheckpoint,
        note: &[u8],
        policy: &Policy,
        client: &Client,
    ) -> Result<Comparison, HeldError> {
        let undecided = |source| HeldError::Undecided { path: self.path.clone(), source };
        let before = policy.verify_checkpoint(held.as_bytes()).map_err(|source| undecided(ConsistencyError::OtherCheckpoint(source)))?;
        let (older, newer) = (before.size.min(shown.size), before.size.max(shown.size));
        let verified = if older == newer {
            HeldCheckpoint { checkpoint: held.as_bytes().to_vec(), proof: None }.verify_with(shown, policy).map(drop)
        } else {
            match proven_by_any(client, policy, held, shown, (older, newer)).await {
                // Nobody who answers knows as much as is held.
                Err(HeldError::Call(error)) if shown.size == older && is_behind(&error) => {
                    return Err(HeldError::WentBack { held: newer, shown: older, path: self.path.clone() });
                }
                verified => verified?,
            }
        };
        match verified {
            Ok(_) if older == newer => Ok(Comparison::Same),
            Ok(_) if shown.size == newer => Ok(Comparison::Grew { from: before.size }),
            Ok(_) => Ok(Comparison::Older { held: before.size }),
            Err(source) if source.outcome() == Outcome::Failed => {
                Err(HeldError::Rewritten { held: before.size, shown: shown.size, kept: self.keep(shown.size, note)?, source })
            }
            Err(source) => Err(undecided(source)),
        }
    }

    /// Writes a checkpoint that contradicts the held one beside it: together they are the proof.
    fn keep(&self, size: TreeSize, note: &[u8]) -> Result<PathBuf, HeldError> {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".contradiction-{size}"));
        let path = PathBuf::from(path);
        write_file(&path, note, Existing::Replaced).map_err(|source| HeldError::File { path: path.clone(), source })?;
        Ok(path)
    }

    fn read(&self) -> Result<BTreeMap<String, String>, HeldError> {
        let form = |why: String| HeldError::Form { path: self.path.clone(), why };
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(HeldError::File { path: self.path.clone(), source }),
        };
        let written: Written = serde_json::from_str(&text).map_err(|error| form(error.to_string()))?;
        if written.schema == SCHEMA { Ok(written.checkpoints) } else { Err(form(format!("its schema is {:?}", written.schema))) }
    }

    /// Replaces the held checkpoint, unless another process did so since it was compared.
    fn replace(&self, with: &VerifiedCheckpoint, compared: Option<&str>, note: &[u8]) -> Result<Replaced, HeldError> {
        let origin = with.origin.to_string();
        let note = std::str::from_utf8(note).map_err(|error| HeldError::Form { path: self.path.clone(), why: error.to_string() })?;
        // Released when it goes out of scope.
        let _lock = self.lock()?;
        let mut checkpoints = self.read()?;
        if checkpoints.get(&origin).map(String::as_str) != compared {
            return Ok(Replaced::ChangedMeanwhile);
        }
        checkpoints.insert(origin, note.to_owned());
        self.write(&Written { schema: SCHEMA.to_owned(), checkpoints })
            .map_err(|source| HeldError::File { path: self.path.clone(), source })?;
        Ok(Replaced::Done)
    }

    fn lock(&self) -> Result<File, HeldError> {
        let path = self.beside("lock");
        let locked = File::options().create(true).truncate(false).write(true).open(&path).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| HeldError::File { path, source })
    }

    /// A crash leaves the old file or the new one.
    fn write(&self, written: &Written) -> io::Result<()> {
        let mut document = serde_json::to_vec_pretty(written)?;
        document.push(b'\n');
        write_file(&self.path, &document, Existing::Replaced)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".");
        path.push(ending);
        path.into()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replaced {
    Done,
    ChangedMeanwhile,
}

/// Looks for a node that proves one checkpoint to continue the other. A path that does not fit is no proof that they
/// contradict each other: a node that lies could accuse the whole ledger with it. Only when no node has a path that fits, they do.
async fn proven_by_any(
    client: &Client,
    policy: &Policy,
    held: &str,
    shown: &VerifiedCheckpoint,
    (older, newer): (TreeSize, TreeSize),
) -> Result<Result<(), ConsistencyError>, HeldError> {
    let verify = |proof| HeldCheckpoint { checkpoint: held.as_bytes().to_vec(), proof: Some(proof) }.verify_with(shown, policy).map(drop);
    let first = verify(consistency_proof(client, older, newer).await?);
    if !first.as_ref().is_err_and(|error| error.outcome() == Outcome::Failed) {
        return Ok(first);
    }
    for node in (0..client.links().len()).filter_map(|place| client.pinned(place)) {
        match consistency_proof(&node.with_retry(AT_ONCE), older, newer).await.map(verify) {
            Ok(Ok(())) => {
                tracing::warn!(%older, %newer, "a node gave a path that does not prove consistency, and another one that does");
                return Ok(Ok(()));
            }
            Ok(Err(_)) | Err(HeldError::Call(_) | HeldError::Proof(_)) => (),
            Err(error) => return Err(error),
        }
    }
    Ok(first)
}

/// Fetches the path from one size to another. A node that has not published the newer size yet is passed over.
async fn consistency_proof(client: &Client, older: TreeSize, newer: TreeSize) -> Result<ConsistencyProof, HeldError> {
    let request = v1::GetConsistencyProofRequest { first_size: older.0, second_size: newer.0 };
    let call = |link: Link| async move { link.audit().get_consistency_proof(request).await };
    let mut answer = client.call(call).await;
    for node in (0..client.links().len()).filter_map(|place| client.pinned(place)) {
        if !answer.as_ref().is_err_and(is_behind) {
            break;
        }
        answer = node.call(call).await;
    }
    Ok(ConsistencyProof { older, newer, path: parse_path::<LogHash>(&answer?.path)? })
}

fn is_behind(error: &CallError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.reason == Reason::BeyondCheckpoint)
}

#[cfg(test)]
mod tests;
