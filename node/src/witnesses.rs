//! Witnesses outside the cluster: before a checkpoint is published, each is asked to cosign it. C2SP tlog-witness.
//!
//! Nothing waits for a witness longer than a second, and one that does not answer is left in peace for a while: a checkpoint is
//! published with the cosignatures that came. Whose are needed is for the policy of those who verify to say.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use proofline_ledger::{Endpoint, LogTree, Scheme, StoreFault, TreeSize, signed};
use proofline_verifier::{KeyError, NoteSignature, SignatureType, SignedNote, VerifierKey, cosignature_signed_bytes};
use serde::Deserialize;
use thiserror::Error;

use crate::{
    metrics::Metrics,
    outlets::Plaintext,
    post::{Answer, Message, NoAnswer, Post},
    signed_tree::SignedTree,
    store::StateDb,
};

/// Longest time for one request.
const WITHIN: Duration = Duration::from_secs(1);
/// Pause after the first failure; it doubles with each one that follows.
const PAUSE: Duration = Duration::from_secs(1);
/// An answer that took longer is slow.
const SLOW: Duration = Duration::from_millis(500);
/// How long a witness that cosigns slowly is left in peace.
const PAUSE_IF_SLOW: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(64);
/// Witnesses of one node.
pub const WITNESSES_MAX: usize = 8;

/// A witness as the configuration names it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessEntry {
    /// Its verifier key: name, id and public key of type cosignature/v1.
    pub key: String,
    /// Where it takes checkpoints: the URL before `add-checkpoint`.
    pub url: String,
}

/// Why a witness cannot be asked.
#[derive(Debug, Error)]
pub enum WitnessError {
    /// Its key is none.
    #[error("the key of witness {key:?} cannot be read: {source}")]
    Key {
        /// What stands there.
        key: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// Its key is a log's.
    #[error("the key of witness {0} is not of type cosignature/v1")]
    KeyType(String),
    /// Its URL is none, or not secure.
    #[error("the URL of witness {name} must be https (http is for loopback, with --insecure-loopback): {url:?}")]
    Url {
        /// Which one.
        name: String,
        /// What stands there.
        url: String,
    },
    /// Two have one name.
    #[error("witness {0} is named twice")]
    Twice(String),
    /// There are too many.
    #[error("there are more than {WITNESSES_MAX} witnesses")]
    TooMany,
}

/// A witness that may be asked.
#[derive(Clone, Debug)]
pub struct Witness {
    key: VerifierKey,
    endpoint: String,
}

impl Witness {
    /// Checks what the configuration says.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub fn of(entries: &[WitnessEntry], plaintext: Plaintext) -> Result<Vec<Self>, WitnessError> {
        if entries.len() > WITNESSES_MAX {
            return Err(WitnessError::TooMany);
        }
        let mut witnesses: Vec<Self> = Vec::with_capacity(entries.len());
        for entry in entries {
            let witness = Self::new(entry, plaintext)?;
            if witnesses.iter().any(|known| known.key.name() == witness.key.name()) {
                return Err(WitnessError::Twice(witness.key.name().to_string()));
            }
            witnesses.push(witness);
        }
        Ok(witnesses)
    }

    fn new(entry: &WitnessEntry, plaintext: Plaintext) -> Result<Self, WitnessError> {
        let key = VerifierKey::parse(&entry.key).map_err(|source| WitnessError::Key { key: entry.key.clone(), source })?;
        if key.signature_type() != SignatureType::CosignatureV1 {
            return Err(WitnessError::KeyType(key.name().to_string()));
        }
        let endpoint = format!("{}/add-checkpoint", entry.url.trim_end_matches('/'));
        match (Endpoint::parse(&endpoint).map(|it| it.scheme), plaintext) {
            (Some(Scheme::Https), _) | (Some(Scheme::HttpLoopback), Plaintext::Loopback) => Ok(Self { key, endpoint }),
            (Some(Scheme::HttpLoopback) | None, _) => Err(WitnessError::Url { name: key.name().to_string(), url: entry.url.clone() }),
        }
    }
}

/// What was learned of a witness: gone with the process, learned again from its answers.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Entries of what it cosigned last, as far as it said.
    size: TreeSize,
    failures: u32,
    /// It is left in peace until then.
    resting_until: Instant,
}

/// Asks witnesses.
pub struct Witnesses {
    asked: Vec<(Witness, Mutex<Known>)>,
    post: Option<Post>,
    metrics: Arc<Metrics>,
}

/// Why a witness did not cosign.
#[derive(Debug, Error)]
enum NotCosigned {
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    #[error(transparent)]
    Store(#[from] StoreFault),
    #[error("it has cosigned {witness} entries of this log, and there are {here}: this log was set back, or another one bears its name")]
    Ahead { witness: TreeSize, here: TreeSize },
    #[error("it refused with HTTP status {status}: {reason}")]
    Refused { status: u16, reason: String },
    #[error("its answer holds no valid cosignature of its key")]
    NotItsSignature,
    #[error("its newest size changed while it was asked")]
    Moving,
}

impl Witnesses {
    /// Takes the witnesses that a node is to ask. They are trusted for nothing but their cosignatures.
    ///
    /// # Errors
    /// When there are witnesses and no roots to check their certificates with.
    pub fn new(witnesses: Vec<Witness>, metrics: Arc<Metrics>) -> Result<Self, String> {
        let known = || Known { size: TreeSize(0), failures: 0, resting_until: Instant::now() };
        let post = if witnesses.is_empty() { None } else { Some(Post::new(None, WITHIN)?) };
        Ok(Self { asked: witnesses.into_iter().map(|it| (it, Mutex::new(known()))).collect(), post, metrics })
    }

    /// Asks every witness that is not resting, all at once, and returns the cosignatures that came and verify.
    pub async fn cosign(&self, state: &StateDb, tree: SignedTree, note: &SignedNote) -> Vec<NoteSignature> {
        let asked = self.asked.iter().map(|(witness, known)| self.ask(witness, known, state, tree, note));
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    async fn ask(
        &self,
        witness: &Witness,
        known: &Mutex<Known>,
        state: &StateDb,
        tree: SignedTree,
        note: &SignedNote,
    ) -> Option<NoteSignature> {
        let mut now = *known.lock().unwrap_or_else(PoisonError::into_inner);
        if now.resting_until > Instant::now() {
            return None;
        }
        let name = witness.key.name().to_string();
        let began = Instant::now();
        let answered = self.cosigned_by(witness, &mut now.size, state, tree, note).await;
        let cosigned = match answered {
            Ok(signature) => {
                if now.failures > 0 {
                    tracing::info!(witness = name, "the witness cosigns again");
                }
                (now.size, now.failures) = (tree.size, 0);
                if began.elapsed() > SLOW {
                    // A checkpoint waits for the slowest: this one gets every so often one of them, and not all.
                    now.resting_until = Instant::now() + PAUSE_IF_SLOW;
                }
                Some(signature)
            }
            Err(error) => {
                if now.failures == 0 || matches!(error, NotCosigned::Ahead { .. }) {
                    tracing::error!(witness = name, %error, "a witness did not cosign; checkpoints are published without it");
                }
                if matches!(error, NotCosigned::Ahead { .. }) {
                    // Asked anew next time: what it said was its word, and may have been a slip.
                    now.size = TreeSize(0);
                }
                now.resting_until = Instant::now() + PAUSE.saturating_mul(1 << now.failures.min(6)).min(PAUSE_MAX);
                now.failures = now.failures.saturating_add(1);
                None
            }
        };
        self.metrics.witness_answered(name, cosigned.is_some());
        *known.lock().unwrap_or_else(PoisonError::into_inner) = now;
        cosigned
    }

    /// Asks from the size that the witness is thought to have; it is asked again, once, from the size that it says it has.
    async fn cosigned_by(
        &self,
        witness: &Witness,
        known: &mut TreeSize,
        state: &StateDb,
        tree: SignedTree,
        note: &SignedNote,
    ) -> Result<NoteSignature, NotCosigned> {
        for _ in 0..2 {
            if *known > tree.size {
                return Err(NotCosigned::Ahead { witness: *known, here: tree.size });
            }
            let message = message(witness, *known, state, tree, note)?;
            let Some(post) = &self.post else { return Err(NotCosigned::Moving) };
            let answer = post.send(&message, |_| true).await?;
            match (answer.status, size(&answer)) {
                (200, _) => return signature(witness, note, answer.body.as_ref()),
                (409, Some(size)) => *known = size,
                (status, _) => return Err(NotCosigned::Refused { status, reason: reason(&answer) }),
            }
        }
        Err(NotCosigned::Moving)
    }
}

fn message(witness: &Witness, old: TreeSize, state: &StateDb, tree: SignedTree, note: &SignedNote) -> Result<Message, StoreFault> {
    let path = if old.0 == 0 || old == tree.size { None } else { LogTree::new(state, tree.size).consistency_path(old)? };
    let mut body = format!("old {old}\n");
    for hash in path.unwrap_or_default() {
        writeln!(body, "{}", STANDARD.encode(hash.0)).unwrap_or_default();
    }
    body.push('\n');
    body.push_str(&note.encode());
    Ok(Message { endpoint: witness.endpoint.clone(), headers: vec![("content-type", "text/plain; charset=utf-8".to_owned())], body })
}

/// Reads where a witness is, from the body of its 409.
fn size(answer: &Answer) -> Option<TreeSize> {
    let text = std::str::from_utf8(answer.body.as_ref()?).ok()?.strip_suffix('\n')?;
    text.parse().ok().filter(|size: &u64| size.to_string() == text).map(TreeSize)
}

/// What a witness says of its refusal, short and on one line: it goes into the log of this process.
fn reason(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(answer.body.as_deref().unwrap_or_default()).into_owned();
    text.chars().take(200).map(|it| if it.is_control() { ' ' } else { it }).collect()
}

/// Takes the line of the witness' own key from its answer and checks it. What else it sent is left out.
fn signature(witness: &Witness, note: &SignedNote, body: Option<&Bytes>) -> Result<NoteSignature, NotCosigned> {
    let none = || NotCosigned::NotItsSignature;
    let lines = std::str::from_utf8(body.ok_or_else(none)?).map_err(|_| none())?;
    let answered = SignedNote::parse(format!("{}\n{lines}", note.text()).as_bytes()).map_err(|_| none())?;
    let is_its_own = |it: &&NoteSignature| it.id == witness.key.id() && it.name == *witness.key.name();
    let line = answered.signatures().iter().find(is_its_own).ok_or_else(none)?;
    let (time, signature) = line.signature.split_first_chunk::<8>().ok_or_else(none)?;
    let message = cosignature_signed_bytes(u64::from_be_bytes(*time), note.text());
    match signed::check(witness.key.public_key(), &message, signature) {
        signed::Signed::Authentic => Ok(line.clone()),
        signed::Signed::Forged => Err(none()),
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};
    use proofline_verifier::KeyName;

    use super::*;

    const TEXT: &str = "ledger.example/agents\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

    fn keys(seed: u8) -> (SigningKey, VerifierKey) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let name = KeyName::parse(&format!("witness.example/w{seed}")).unwrap();
        let public = VerifierKey::new(name, SignatureType::CosignatureV1, key.verifying_key().as_bytes()).unwrap();
        (key, public)
    }

    fn note() -> SignedNote {
        let (key, _) = keys(9);
        let log =
            VerifierKey::new(KeyName::parse("ledger.example/agents").unwrap(), SignatureType::Ed25519, key.verifying_key().as_bytes());
        let signature = NoteSignature::of_log(&log.unwrap(), &key.sign(TEXT.as_bytes()).to_bytes());
        SignedNote::new(TEXT.to_owned(), vec![signature]).unwrap()
    }

    fn line(seed: u8, text: &str) -> String {
        let (key, public) = keys(seed);
        let signature = key.sign(&cosignature_signed_bytes(1_700_000_000, text)).to_bytes();
        let of = NoteSignature::of_cosigner(&public, 1_700_000_000, &signature);
        let alone = SignedNote::new(text.to_owned(), vec![of]).unwrap().encode();
        alone.strip_prefix(&format!("{text}\n")).unwrap().to_owned()
    }

    fn witness(seed: u8) -> Witness {
        Witness { key: keys(seed).1, endpoint: "https://witness.example/add-checkpoint".to_owned() }
    }

    fn taken(lines: &str) -> bool {
        signature(&witness(1), &note(), Some(&Bytes::from(lines.to_owned()))).is_ok()
    }

    #[test]
    fn only_the_line_of_the_witness_own_key_over_this_checkpoint_is_taken() {
        assert!(taken(&line(1, TEXT)));
        assert!(taken(&(line(2, TEXT) + &line(1, TEXT))), "other lines are left out");
        assert!(!taken(&line(2, TEXT)), "another key");
        assert!(!taken(&line(1, &TEXT.replace("\n1\n", "\n2\n"))), "another checkpoint");
        for wrong in ["", "\n", "no line\n", "— witness.example/w1 AAAA\n"] {
            assert!(!taken(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_size_is_one_number_on_one_line() {
        let of = |body: &str| size(&Answer { status: 409, retry_after: None, body: Some(body.to_owned().into()) });
        assert_eq!(of("7\n"), Some(TreeSize(7)));
        for wrong in ["", "7", "07\n", "+7\n", "7\n\n", "seven\n", "99999999999999999999999\n"] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn the_configuration_names_each_witness_once_by_a_cosigner_key_and_a_secure_url() {
        let entry = |seed: u8, url: &str| WitnessEntry { key: keys(seed).1.to_string(), url: url.to_owned() };
        let of = |entries: &[WitnessEntry], plaintext| Witness::of(entries, plaintext);
        let one = of(&[entry(1, "https://witness.example/logs/")], Plaintext::Refused).unwrap();
        assert_eq!(one[0].endpoint, "https://witness.example/logs/add-checkpoint");
        assert!(of(&[entry(1, "http://127.0.0.1:7900")], Plaintext::Loopback).is_ok());
        assert!(matches!(of(&[entry(1, "http://127.0.0.1:7900")], Plaintext::Refused), Err(WitnessError::Url { .. })));
        assert!(matches!(of(&[entry(1, "http://witness.example")], Plaintext::Loopback), Err(WitnessError::Url { .. })));
        let twice = [entry(1, "https://one.example"), entry(1, "https://other.example")];
        assert!(matches!(of(&twice, Plaintext::Refused), Err(WitnessError::Twice(_))));
        let many: Vec<_> = (1..=9).map(|seed| entry(seed, "https://witness.example")).collect();
        assert!(matches!(of(&many, Plaintext::Refused), Err(WitnessError::TooMany)));
        let broken = WitnessEntry { key: "witness.example".to_owned(), url: "https://witness.example".to_owned() };
        assert!(matches!(of(&[broken], Plaintext::Refused), Err(WitnessError::Key { .. })));
    }
}
