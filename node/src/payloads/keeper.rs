//! The thread that writes the payload store: puts, erasures and sweeps, one after the other, so that nothing is put under a key that
//! is being destroyed.

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use arc_swap::ArcSwap;
use proofline_ledger::{CommittedPayload, listing, payloads};
use proofline_proto::v1;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{Put, VaultError, vault::Vault};
use crate::{clock::unix_ns, failure::FailureReporter, replica::Progress, store::StateStore};

/// Payloads that one node handles at once for clients: each holds its content in memory.
const CLIENTS_MAX: usize = 16;
/// The same for other nodes.
const NODES_MAX: usize = 16;
/// Requests that may wait for the thread.
const WAITING_MAX: usize = 64;
/// How often payloads past their time are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Tenants whose retention one round looks at.
const TENANTS_AT_ONCE: usize = 256;

enum Request {
    Put { of: Box<CommittedPayload>, salt: Vec<u8>, content: Vec<u8>, done: oneshot::Sender<Result<Put, VaultError>> },
    CatchUp,
    Sweep,
}

/// The store as the rest of the node uses it. Clones share it.
#[derive(Clone, Debug)]
pub struct Payloads {
    vault: Arc<Vault>,
    requests: mpsc::Sender<Request>,
    clients: Arc<Semaphore>,
    nodes: Arc<Semaphore>,
    held: Arc<ArcSwap<BTreeMap<String, u64>>>,
    incarnation: [u8; 16],
    reached: Arc<ArcSwap<BTreeMap<u64, Reached>>>,
}

/// How far one other node's payloads were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// Of that node's numbers.
    pub(super) incarnation: Vec<u8>,
    /// Through which they are here, or are not wanted.
    pub(super) number: u64,
}

/// The one writer, before it runs.
pub struct Keeper {
    vault: Arc<Vault>,
    state: StateStore,
    requests: mpsc::Receiver<Request>,
    failures: FailureReporter,
    /// Where the sweep of each tenant goes on, and what it counted since it began.
    sweeping: BTreeMap<String, (Option<Vec<u8>>, u64)>,
    held: Arc<ArcSwap<BTreeMap<String, u64>>>,
}

impl Keeper {
    /// Carries out what the state says by now, and takes the store over.
    ///
    /// On return: nothing of a subject is left that the state knows to be erased.
    ///
    /// # Errors
    /// [`VaultError`] when the disk fails.
    pub fn open(vault: Vault, state: StateStore, failures: FailureReporter) -> Result<(Self, Payloads), VaultError> {
        let erased = vault.catch_up(&*state.view(), unix_ns())?;
        if erased > 0 {
            tracing::info!(erased, "erasures were carried out before serving");
        }
        let (vault, held) = (Arc::new(vault), Arc::<ArcSwap<_>>::default());
        let (sender, requests) = mpsc::channel(WAITING_MAX);
        let payloads = Payloads {
            vault: Arc::clone(&vault),
            requests: sender,
            clients: Arc::new(Semaphore::new(CLIENTS_MAX)),
            nodes: Arc::new(Semaphore::new(NODES_MAX)),
            held: Arc::clone(&held),
            incarnation: incarnation()?,
            reached: Arc::default(),
        };
        Ok((Self { vault, state, requests, failures, sweeping: BTreeMap::new(), held }, payloads))
    }

    /// Starts the thread. It ends with the last [`Payloads`], or with the first error.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub fn start(self) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().name("payloads".to_owned()).spawn(move || self.serve())
    }

    fn serve(mut self) {
        while let Some(request) = self.requests.blocking_recv() {
            if let Err(error) = self.carry_out(request) {
                tracing::error!(%error, "the payload store cannot go on");
                self.failures.report((&error).into());
                return;
            }
        }
    }

    fn carry_out(&mut self, request: Request) -> Result<(), VaultError> {
        match request {
            Request::Put { of, salt, content, done } => {
                let content = zeroize::Zeroizing::new(content);
                let put = self.vault.put(&*self.state.view(), &of, &salt, &content)?;
                // Who asked may be gone.
                drop(done.send(Ok(put)));
                Ok(())
            }
            Request::CatchUp => self.vault.catch_up(&*self.state.view(), unix_ns()).map(drop),
            Request::Sweep => self.sweep(),
        }
    }

    /// Goes on with the sweep of each tenant that has a retention, a step each.
    fn sweep(&mut self) -> Result<(), VaultError> {
        let state = self.state.view();
        let now = listing::last_committed(&*state)?;
        let mut after = String::new();
        loop {
            let retentions = payloads::retentions(&*state, &after, TENANTS_AT_ONCE)?;
            let Some(last) = retentions.last() else { return Ok(()) };
            after.clone_from(&last.tenant);
            for retention in &retentions {
                let (from, before) = self.sweeping.remove(&retention.tenant).unwrap_or_default();
                let swept = self.vault.sweep(&*state, retention, now, from.as_deref())?;
                if swept.deleted > 0 {
                    tracing::info!(tenant = retention.tenant, deleted = swept.deleted, "payloads past their time were deleted");
                }
                let held = before + swept.held;
                match swept.next {
                    Some(next) => drop(self.sweeping.insert(retention.tenant.clone(), (Some(next), held))),
                    None => self.count_held(&retention.tenant, held),
                }
            }
        }
    }

    fn count_held(&self, tenant: &str, held: u64) {
        let mut counts = BTreeMap::clone(&self.held.load());
        counts.insert(tenant.to_owned(), held);
        self.held.store(Arc::new(counts));
    }
}

fn incarnation() -> Result<[u8; 16], VaultError> {
    let mut drawn = [0; 16];
    SystemRandom::new().fill(&mut drawn).map_err(|_| VaultError::Randomness)?;
    Ok(drawn)
}

impl Payloads {
    /// Returns the store, for reading.
    #[must_use]
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// Returns what tells the numbers of this process from those of another one.
    #[must_use]
    pub fn incarnation(&self) -> [u8; 16] {
        self.incarnation
    }

    /// Says how far this node looked at the others' payloads.
    pub(super) fn set_reached(&self, reached: &BTreeMap<u64, Reached>) {
        self.reached.store(Arc::new(reached.clone()));
    }

    /// Returns what this node took, and how far it looked at what the others took.
    #[must_use]
    pub fn progress(&self) -> v1::PayloadProgress {
        let of = |(node_id, reached): (&u64, &Reached)| v1::PayloadReached {
            node_id: *node_id,
            incarnation: reached.incarnation.clone(),
            number: reached.number,
        };
        let reached = self.reached.load().iter().map(of).collect();
        v1::PayloadProgress { incarnation: self.incarnation.to_vec(), last: self.vault.last_number(), reached }
    }

    /// Takes room for a client's payload; `None` when as many are handled as are at once.
    #[must_use]
    pub fn admit_client(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.clients).try_acquire_owned().ok()
    }

    /// Takes room for a payload of another node.
    #[must_use]
    pub fn admit_node(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.nodes).try_acquire_owned().ok()
    }

    /// Keeps a payload that was checked against its commitment.
    ///
    /// # Errors
    /// [`VaultError::Stopped`] when the thread has ended: the node does, too.
    pub async fn put(&self, of: CommittedPayload, salt: Vec<u8>, content: Vec<u8>) -> Result<Put, VaultError> {
        let (done, answer) = oneshot::channel();
        let request = Request::Put { of: Box::new(of), salt, content, done };
        self.requests.send(request).await.map_err(|_| VaultError::Stopped)?;
        answer.await.map_err(|_| VaultError::Stopped)?
    }

    /// Returns how many payloads of a tenant are kept past their time by holds, as the last whole sweep counted them.
    #[must_use]
    pub fn held(&self, tenant: &str) -> u64 {
        self.held.load().get(tenant).copied().unwrap_or(0)
    }

    /// Has erasures carried out as they are applied, and payloads swept, until shutdown.
    pub async fn follow(self, mut progress: watch::Receiver<Progress>, shutdown: CancellationToken) {
        let mut sweeps = tokio::time::interval_at(Instant::now() + SWEEP_EVERY, SWEEP_EVERY);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = None;
        loop {
            let now = *progress.borrow_and_update();
            let seen = (now.erasures, now.taken);
            if known != Some(seen) {
                known = Some(seen);
                if self.requests.send(Request::CatchUp).await.is_err() {
                    return;
                }
            }
            let request = tokio::select! {
                () = shutdown.cancelled() => return,
                changed = progress.wait_for(|now| (now.erasures, now.taken) != seen) => match changed {
                    Ok(_) => continue,
                    Err(_) => return,
                },
                _ = sweeps.tick() => Request::Sweep,
            };
            if self.requests.send(request).await.is_err() {
                return;
            }
        }
    }
}
