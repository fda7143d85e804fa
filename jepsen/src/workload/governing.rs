//! Who may do what: collectors with keys of their own, and operators who sign.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use ed25519_dalek::SigningKey;
use proofline_client::{Profile, Signatory, read_key, sign_command};
use proofline_cluster::{Plan, spiffe};
use proofline_proto::v1::{self, command::Action as Command};
use tokio::time::Instant;
use tonic::Status;

use super::{
    Shape, Stage, WorkloadConfig, WorkloadError,
    attempt::timed,
    batches::Chain,
    definite::{refusal_of, write_outcome},
    reach::{Reach, Seat},
};
use crate::history::{Action, Actor, Answer, Digest, Nonce, Outcome};

/// How long a command may wait to be committed.
const COMMAND_LIFE: Duration = Duration::from_secs(600);
const REGISTERED_WITHIN: Duration = Duration::from_secs(60);

/// A collector: its name, its key, and the profile that it comes with.
#[derive(Clone, Debug)]
pub struct CollectorIdentity {
    /// Name in the registry.
    pub id: String,
    /// Where the nodes are, and its certificate.
    pub profile: PathBuf,
    /// What it signs batches with.
    pub key: Arc<SigningKey>,
}

/// Makes certificates and keys for as many collectors as the shape has.
pub(super) fn add_collectors(plan: &Plan, seed: u64, prefix: &str, shape: &Shape) -> Result<Vec<CollectorIdentity>, WorkloadError> {
    let identity = |place: usize| {
        let id = format!("{prefix}collector-{place}");
        let what = format!("making a certificate for {id}");
        let profile = plan.add_client(&id).map_err(|source| WorkloadError::Identity { what, source })?;
        let key = Arc::new(SigningKey::from_bytes(&Digest::of(format!("{seed}/{id}").as_bytes()).0));
        Ok(CollectorIdentity { id, profile, key })
    };
    (0..shape.collectors + shape.streams).map(identity).collect()
}

/// Operators with their keys.
pub(super) struct Operators(Vec<(String, SigningKey)>);

impl Operators {
    pub(super) fn load(files: &[(String, PathBuf)]) -> Result<Self, WorkloadError> {
        let load = |(name, file): &(String, PathBuf)| match read_key(file) {
            Ok(key) => Ok((name.clone(), key)),
            Err(error) => Err(WorkloadError::Identity { what: format!("reading the key of {name}"), source: error.into() }),
        };
        files.iter().map(load).collect::<Result<_, _>>().map(Self)
    }

    /// Makes a command that the named operators sign.
    pub(super) fn sign(&self, origin: &str, by: &[&str], command: Command) -> Option<Signed> {
        let signatory = |name: &&str| {
            let (operator_id, key) = self.0.iter().find(|(known, _)| known == name)?;
            Some(Signatory { operator_id: operator_id.clone(), key: key.clone() })
        };
        let signatories: Vec<_> = by.iter().map(signatory).collect::<Option<_>>()?;
        let command = sign_command(origin, command, SystemTime::now() + COMMAND_LIFE, &signatories).ok()?;
        let nonce = Nonce(command.nonce.as_slice().try_into().ok()?);
        Some(Signed { command, nonce })
    }
}

/// A signed command.
pub(super) struct Signed {
    command: v1::SignedCommand,
    pub(super) nonce: Nonce,
}

/// Sends a command once, and records it.
pub(super) async fn submit(stage: &Stage, actor: &mut Actor, seat: &Seat, action: Action, signed: &Signed) -> Outcome {
    let open = actor.begin(seat.node, action).await;
    let mut control = seat.link.control();
    let answer =
        timed(stage.attempt_time(), control.submit_command(v1::SubmitCommandRequest { command: Some(signed.command.clone()) })).await;
    let outcome = write_outcome(commanded(answer));
    open.end(outcome.clone()).await;
    outcome
}

/// A replay of a command with our own nonce is our own success: the answer to an earlier try was lost.
fn commanded(answer: Result<v1::SubmitCommandResponse, Status>) -> Result<Answer, Status> {
    match answer {
        Ok(answer) => Ok(Answer::Commanded { index: answer.index }),
        Err(status) => match refusal_of(&status, "entry") {
            Some((reason, Some(index))) if reason == "COMMAND_REPLAYED" => Ok(Answer::Commanded { index }),
            _ => Err(status),
        },
    }
}

/// A registered collector, ready to open its lane.
pub(super) struct Lane {
    pub(super) chain: Chain,
    pub(super) reach: Reach,
}

/// Registers every collector.
pub(super) async fn register(
    stage: &Stage,
    admin: &Reach,
    operators: &Operators,
    config: &WorkloadConfig,
) -> Result<Vec<Lane>, WorkloadError> {
    let mut lanes = Vec::new();
    let mut actor = stage.recorder.actor();
    for identity in &config.collectors {
        let registration = Command::RegisterCollector(v1::RegisterCollector {
            collector_id: identity.id.clone(),
            public_key: identity.key.verifying_key().to_bytes().to_vec(),
            spiffe_id: spiffe(&identity.id),
            tenant_id: config.tenant.clone(),
            agents: vec!["*".to_owned()],
            vantages: vec![v1::Vantage::GatewayObserved.into()],
            events_per_hour: 1_000_000_000,
            sessions_per_hour: 1_000_000,
            payload_bytes_per_hour: 0,
        });
        let refused = |reason: &str| WorkloadError::NotRegistered { collector: identity.id.clone(), reason: reason.to_owned() };
        let signed = operators.sign(&config.origin, &["alice"], registration).ok_or_else(|| refused("the command cannot be signed"))?;
        register_one(stage, &mut actor, admin, &identity.id, &signed).await.map_err(|reason| refused(&reason))?;
        let reach = Reach::of(&Profile::load(&identity.profile)?, &config.nodes)?;
        lanes.push(Lane { chain: Chain::new(&config.origin, &identity.id, 0, Arc::clone(&identity.key)), reach });
    }
    Ok(lanes)
}

async fn register_one(stage: &Stage, actor: &mut Actor, admin: &Reach, collector: &str, signed: &Signed) -> Result<(), String> {
    let until = Instant::now() + REGISTERED_WITHIN;
    let mut last = String::new();
    for seat in admin.seats().iter().cycle() {
        if Instant::now() >= until {
            break;
        }
        let action = Action::Govern { what: format!("register {collector}"), nonce: signed.nonce };
        match submit(stage, actor, seat, action, signed).await {
            Outcome::Ok { .. } => return Ok(()),
            Outcome::Fail { reason, .. } | Outcome::Info { reason } => last = reason,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(last)
}
