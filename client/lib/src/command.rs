//! Commands: what operators sign, and the way to the ledger that is safe to go twice.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use ed25519_dalek::{Signer as _, SigningKey};
use proofline_proto::v1;
use proofline_verifier::{EntryIndex, SignedError, command_signed_bytes};
use prost::Message as _;
use thiserror::Error;
use tonic::{Response, Status};

use crate::{
    call::{CallError, Fault},
    client::{Client, Link},
    refusal::{Reason, Refusal},
};

/// Why a command was not signed or not committed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// A part does not fit the signed layout.
    #[error(transparent)]
    Layout(#[from] SignedError),
    /// The end of its life is before 1970 or after 2554.
    #[error("the command's end of life cannot be written down")]
    Expiry,
    /// The same operator, or the same key, has signed already: the signature would count for nothing.
    #[error("the command is signed by {0:?} already")]
    SignedAlready(String),
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    NoRandomness(getrandom::Error),
    /// The ledger refused it, or could not be reached in time; either way it had no effect.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Some node got it and gave no definite answer.
    #[error("nobody said what became of it: it may be in the log, or may still come into force; {0}")]
    FateUnknown(CallError),
}

/// An operator with their key.
#[derive(Debug)]
pub struct Signatory {
    /// Name in the registry.
    pub operator_id: String,
    /// The registered key.
    pub key: SigningKey,
}

/// Makes a command that every signatory signs. It is good once, and until `expires`.
///
/// # Errors
/// [`CommandError`], except `Call`.
pub fn sign_command(
    origin: &str,
    action: v1::command::Action,
    expires: SystemTime,
    signatories: &[Signatory],
) -> Result<v1::SignedCommand, CommandError> {
    let mut command = unsigned_command(origin, action, expires)?;
    signatories.iter().try_for_each(|signatory| signatory.sign(&mut command))?;
    Ok(command)
}

impl Signatory {
    /// Adds this operator's signature to a command. Several may do it one after the other, each with their own key.
    ///
    /// # Errors
    /// [`CommandError::Layout`] and [`CommandError::SignedAlready`].
    pub fn sign(&self, command: &mut v1::SignedCommand) -> Result<(), CommandError> {
        let public_key = self.key.verifying_key().to_bytes().to_vec();
        if let Some(known) = command.signatures.iter().find(|by| by.operator_id == self.operator_id || by.public_key == public_key) {
            return Err(CommandError::SignedAlready(known.operator_id.clone()));
        }
        let signature = self.key.sign(&command_signed_bytes(command)?).to_vec();
        command.signatures.push(v1::CommandSignature { operator_id: self.operator_id.clone(), public_key, signature });
        Ok(())
    }
}

fn unsigned_command(origin: &str, action: v1::command::Action, expires: SystemTime) -> Result<v1::SignedCommand, CommandError> {
    let mut nonce = vec![0; 16];
    getrandom::fill(&mut nonce).map_err(CommandError::NoRandomness)?;
    let expires = expires.duration_since(UNIX_EPOCH).map_err(|_| CommandError::Expiry)?.as_nanos();
    Ok(v1::SignedCommand {
        origin: origin.to_owned(),
        nonce,
        expires_unix_ns: u64::try_from(expires).map_err(|_| CommandError::Expiry)?,
        command: v1::Command { action: Some(action) }.encode_to_vec(),
        signatures: Vec::new(),
    })
}

/// What a node says became of a command: its word, until [`Client::prove_command`] has proven it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The entry that it became.
    pub index: EntryIndex,
    /// Exact bytes of that entry; nothing from a node that knew the command already and does not have its entry.
    pub entry: Option<Vec<u8>>,
}

impl Client {
    /// Submits a command and returns the entry that it became. Submitting the same command again returns the same entry.
    ///
    /// # Errors
    /// [`CommandError::Call`], [`CommandError::FateUnknown`].
    pub async fn submit(&self, command: v1::SignedCommand) -> Result<Committed, CommandError> {
        let request = v1::SubmitCommandRequest { command: Some(command) };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.control().submit_command(request).await }
        };
        match self.call_for_effect(call).await {
            Ok(answer) => Ok(Committed { index: EntryIndex(answer.index), entry: Some(answer.entry).filter(|entry| !entry.is_empty()) }),
            Err((error, effect)) => match (error.refusal().and_then(became), effect) {
                (Some(index), _) => Ok(Committed { index, entry: None }),
                (None, Effect::None) => Err(error.into()),
                (None, Effect::Unknown) => Err(CommandError::FateUnknown(error)),
            },
        }
    }

    /// Calls as [`Client::call`] does, and tells of a call that failed whether one of its attempts may have had an effect.
    async fn call_for_effect<T, F, Fut>(&self, mut call: F) -> Result<T, (CallError, Effect)>
    where
        F: FnMut(Link) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let is_open = AtomicBool::new(false);
        let watched = |link: Link| {
            let (attempt, is_open) = (call(link), &is_open);
            async move {
                // Until there is a definite answer, also when nobody waits for it any longer.
                let before = is_open.swap(true, Ordering::Relaxed);
                let answer = attempt.await;
                if answer.as_ref().err().is_none_or(Fault::is_without_effect) {
                    is_open.store(before, Ordering::Relaxed);
                }
                answer
            }
        };
        let answer = self.call(watched).await;
        answer.map_err(|error| (error, if is_open.load(Ordering::Relaxed) { Effect::Unknown } else { Effect::None }))
    }
}

/// What a call that failed did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing, and it will not.
    None,
    /// Nobody can tell.
    Unknown,
}

/// The entry of a command whose first answer was lost: the nonce is ours alone, so a replay is our own success.
fn became(refusal: &Refusal) -> Option<EntryIndex> {
    (refusal.reason == Reason::CommandReplayed).then(|| refusal.number("entry").map(EntryIndex)).flatten()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proofline_verifier::verify_command_signature;

    use super::*;

    fn signatory(name: &str, seed: u8) -> Signatory {
        Signatory { operator_id: name.to_owned(), key: SigningKey::from_bytes(&[seed; 32]) }
    }

    /// What a call came to whose attempts end as said, the last of them each time from then on; `None` never ends.
    async fn effect(attempts: &[Option<(tonic::Code, &str)>]) -> Effect {
        let endpoints = vec![crate::Endpoint::parse("http://127.0.0.1:1").unwrap()];
        let profile = crate::Profile { path: "unused".into(), origin: "o".to_owned(), endpoints, policy: "unused".into(), tls: None };
        let retry = crate::RetryPolicy { within: Duration::from_secs(5), attempt: Duration::from_secs(1) };
        let client = Client::connect(&profile, retry).unwrap();
        let mut left = attempts.iter();
        let called = client.call_for_effect(|_| {
            let attempt = *left.next().or(attempts.last()).unwrap();
            async move {
                let Some((code, reason)) = attempt else { return std::future::pending::<Result<Response<()>, Status>>().await };
                let details = tonic_types::ErrorDetails::with_error_info(reason, "proofline", std::collections::HashMap::new());
                Err(<Status as tonic_types::StatusExt>::with_error_details(code, "no", details))
            }
        });
        called.await.unwrap_err().1
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_had_no_effect_where_every_attempt_says_so() {
        use tonic::Code::{PermissionDenied, Unavailable};
        let (nobody, denied, unknown) = ((Unavailable, "NO_LEADER"), (PermissionDenied, "LACKS_ROLE"), (Unavailable, "FATE_UNKNOWN"));
        for (attempts, expected) in [
            (&[Some(nobody)][..], Effect::None),
            (&[Some(denied)], Effect::None),
            (&[Some(nobody), Some(denied)], Effect::None),
            (&[Some(unknown)], Effect::Unknown),
            (&[None], Effect::Unknown),
            (&[None, Some(nobody)], Effect::Unknown),
            (&[Some(unknown), Some(denied)], Effect::Unknown),
        ] {
            assert_eq!(effect(attempts).await, expected, "{attempts:?}");
        }
    }

    #[test]
    fn every_signatory_signs_the_same_bytes() {
        let seal = v1::command::Action::SealSession(v1::SealSession { session_id: "s".to_owned(), ..Default::default() });
        let signatories = [signatory("alice", 1), signatory("bob", 2)];
        let expires = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let command = sign_command("ledger.example/agents", seal, expires, &signatories).unwrap();
        assert_eq!(command.signatures.len(), 2);
        for signature in &command.signatures {
            verify_command_signature(&command, signature).unwrap();
        }
    }

    #[test]
    fn a_second_operator_signs_later_and_nobody_signs_twice() {
        let retire = v1::command::Action::RetireNode(v1::RetireNode { node_id: 3, ..Default::default() });
        let expires = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut command = sign_command("ledger.example/agents", retire, expires, &[signatory("alice", 1)]).unwrap();
        signatory("bob", 2).sign(&mut command).unwrap();
        assert!(command.signatures.iter().all(|signature| verify_command_signature(&command, signature).is_ok()));
        for again in [signatory("alice", 3), signatory("carol", 2)] {
            assert!(matches!(again.sign(&mut command), Err(CommandError::SignedAlready(_))), "{again:?}");
        }
        assert_eq!(command.signatures.len(), 2);
    }

    #[test]
    fn a_replay_is_the_success_that_was_lost() {
        let values = [("entry".to_owned(), "41".to_owned())].into();
        let replayed = Refusal {
            code: tonic::Code::AlreadyExists,
            reason: Reason::CommandReplayed,
            message: String::new(),
            values,
            retry_after: None,
        };
        assert_eq!(became(&replayed), Some(EntryIndex(41)));
        assert_eq!(became(&Refusal { reason: Reason::KeyInUse, ..replayed }), None);
    }
}
