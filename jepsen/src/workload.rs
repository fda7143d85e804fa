//! What is asked of a cluster while it is broken: collectors, a responder, readers, watchers and witnesses, all at once.
//!
//! [`start`] sets everything going and [`Workloads::stop`] ends it; everything that is asked and answered goes into the
//! history. What was sent is unique, so that the log can be matched with it: no two events of a run have the same id.
//! It is decided by the seed which collector does what next; when it happens is not, and answers differ from run to run.
//!
//! What it does not do: it breaks nothing, waits for nobody's recovery, and judges no answer.

mod agreement;
mod attempt;
pub(crate) mod batches;
mod collector;
mod definite;
pub(crate) mod event;
pub(crate) mod families;
mod governing;
mod reach;
mod reader;
mod responder;
mod shape;
mod streaming;
mod watcher;
mod witness;

use std::{path::PathBuf, sync::Arc, time::Duration};

use proofline_client::{Profile, ProfileError, TlsError};
use proofline_cluster::{ORIGIN, Plan, TENANT};
use proofline_verifier::Policy;
use thiserror::Error;
use tokio::{sync::watch, task::JoinSet};

pub use agreement::{await_agreement, read_everything};
pub use definite::{FOR_GOOD, NOT_DONE, refusal_of, write_outcome};
pub use governing::CollectorIdentity;
pub use shape::Shape;

use crate::{
    history::{NodeId, Recorder},
    workload::{families::Families, reach::Reach},
};

/// How long workloads may take to end after they were told to.
const STOP_WITHIN: Duration = Duration::from_secs(45);

/// Why workloads cannot begin.
#[derive(Debug, Error)]
pub enum WorkloadError {
    /// A profile or the policy cannot be read.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A key or a certificate cannot be made or read.
    #[error("{what}: {source}")]
    Identity {
        /// Whose, and what was tried.
        what: String,
        /// Why it failed.
        source: anyhow::Error,
    },
    /// The collectors could not be registered in time.
    #[error("collector {collector} was not registered: {reason}")]
    NotRegistered {
        /// Which.
        collector: String,
        /// The last answer.
        reason: String,
    },
    /// There are more or fewer nodes than the profiles have endpoints.
    #[error("{nodes} nodes and {endpoints} endpoints: give the nodes in the order of the profiles' endpoints")]
    OtherNodes {
        /// As given.
        nodes: usize,
        /// As in the profile.
        endpoints: usize,
    },
}

/// What workloads need to know of a cluster.
#[derive(Debug)]
pub struct WorkloadConfig {
    /// Decides what is drawn by lot.
    pub seed: u64,
    /// Before the names of collectors and sessions: two workloads at one cluster have different ones.
    pub prefix: String,
    /// Name of the log.
    pub origin: String,
    /// Whose events they are.
    pub tenant: String,
    /// Nodes, in the order of the profiles' endpoints.
    pub nodes: Vec<NodeId>,
    /// Of somebody who may read everything.
    pub auditor: PathBuf,
    /// Of somebody who may submit commands.
    pub admin: PathBuf,
    /// Who appends.
    pub collectors: Vec<CollectorIdentity>,
    /// Key files of the operators `alice`, `rita` and `sam`: a registrar and two responders.
    pub operators: [(String, PathBuf); 3],
    /// Where witnesses keep their last checkpoint.
    pub witness_dir: PathBuf,
    /// How much of what.
    pub shape: Shape,
}

impl WorkloadConfig {
    /// Takes the identities of a development cluster, and adds certificates and keys for the collectors.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn of_plan(plan: &Plan, seed: u64, prefix: &str, shape: Shape) -> Result<Self, WorkloadError> {
        let collectors = governing::add_collectors(plan, seed, prefix, &shape)?;
        let operator = |name: &str| (name.to_owned(), plan.operator_key(name));
        let witness_dir = plan.root.join("witnesses");
        let made = std::fs::create_dir_all(&witness_dir);
        made.map_err(|error| WorkloadError::Identity { what: format!("creating {}", witness_dir.display()), source: error.into() })?;
        Ok(Self {
            seed,
            prefix: prefix.to_owned(),
            origin: ORIGIN.to_owned(),
            tenant: TENANT.to_owned(),
            nodes: plan.nodes.iter().map(|node| NodeId(node.node_id)).collect(),
            auditor: plan.profile("auditor"),
            admin: plan.profile("admin"),
            collectors,
            operators: [operator("alice"), operator("rita"), operator("sam")],
            witness_dir,
            shape,
        })
    }
}

/// What every workload of a run shares.
#[derive(Clone)]
struct Stage {
    seed: u64,
    origin: Arc<str>,
    tenant: Arc<str>,
    shape: Shape,
    recorder: Recorder,
    policy: Arc<Policy>,
    /// Where the policy is read again: nodes are replaced meanwhile.
    auditor: Arc<Profile>,
    families: Families,
    /// True once everything is to end.
    stopping: watch::Receiver<bool>,
}

impl Stage {
    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Tells whether a checkpoint has the signatures that the policy asks for: the one of the beginning, or the one of now.
    fn verifies(&self, note: &[u8]) -> bool {
        let is_signed = |policy: &Policy| policy.verify_checkpoint(note).is_ok();
        is_signed(&self.policy) || self.auditor.load_policy().is_ok_and(|policy| is_signed(&policy))
    }

    /// Waits, but not beyond the end.
    async fn pause(&self, milliseconds: u64) {
        let mut stopping = self.stopping.clone();
        let pause = tokio::time::sleep(Duration::from_millis(milliseconds));
        tokio::select! {
            () = pause => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// Does something until everything is to end; `None` when that came first.
    async fn until_stopped<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        let mut stopping = self.stopping.clone();
        tokio::select! {
            done = what => Some(done),
            _ = stopping.wait_for(|stopping| *stopping) => None,
        }
    }
}

/// Workloads that are going on. Dropped, they are cut off.
#[derive(Debug)]
pub struct Workloads {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

/// Registers the collectors and sets every workload going.
///
/// # Errors
/// [`WorkloadError`] when the files cannot be used or nobody takes the registrations within a minute.
pub async fn start(config: WorkloadConfig, recorder: Recorder) -> Result<Workloads, WorkloadError> {
    let auditor = Profile::load(&config.auditor)?;
    let admin = Reach::of(&Profile::load(&config.admin)?, &config.nodes)?;
    let reading = Reach::of(&auditor, &config.nodes)?;
    let (stop, stopping) = watch::channel(false);
    let stage = Stage {
        seed: config.seed,
        origin: config.origin.as_str().into(),
        tenant: config.tenant.as_str().into(),
        shape: config.shape,
        recorder,
        policy: Arc::new(auditor.load_policy()?),
        auditor: Arc::new(auditor),
        families: Families::new(&config.prefix),
        stopping,
    };
    let operators = governing::Operators::load(&config.operators)?;
    let lanes = governing::register(&stage, &admin, &operators, &config).await?;
    let mut tasks = JoinSet::new();
    for (place, lane) in lanes.into_iter().enumerate() {
        if place < stage.shape.collectors {
            tasks.spawn(collector::run(stage.clone(), lane));
        } else {
            tasks.spawn(streaming::run(stage.clone(), lane));
        }
    }
    if stage.shape.revokes_every_ms > 0 {
        tasks.spawn(responder::run(stage.clone(), admin.clone(), operators));
    }
    for place in 0..stage.shape.readers {
        tasks.spawn(reader::run(stage.clone(), reading.clone(), place));
    }
    if stage.shape.witnesses {
        witness::spawn(&mut tasks, &stage, &reading, &config.witness_dir);
    }
    if stage.shape.watchers {
        watcher::spawn(&mut tasks, &stage, &reading);
    }
    tasks.spawn(reader::watch_leader(stage, admin));
    Ok(Workloads { tasks, stop })
}

impl Workloads {
    /// Ends every workload: nothing new is begun, and what is open may still be answered.
    ///
    /// On return: nothing of it runs any more. Operations that had no answer within 45 s stay open in the history.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WITHIN, ended).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}
