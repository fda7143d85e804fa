//! The thread that writes the payload store: puts, and steps of erasures and sweeps between them, one after the other, so that nothing
//! is put under a key that is being destroyed.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use arc_swap::ArcSwap;
use proofline_ledger::CommittedPayload;
use proofline_proto::v1;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, mpsc::error::TryRecvError, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{Chores, Put, Step, VaultError, vault::Vault};
use crate::{clock::unix_ns, failure::FailureReporter, replica::Progress, store::StateStore};

/// Payloads that one node handles at once for clients: each holds its content in memory.
const CLIENTS_MAX: usize = 16;
/// The same for other nodes.
const NODES_MAX: usize = 16;
/// Requests that may wait for the thread.
const WAITING_MAX: usize = 64;
/// How often payloads past their time are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

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
    chores: Chores,
    held: Arc<ArcSwap<BTreeMap<String, u64>>>,
}

impl Keeper {
    /// Destroys what the state says by now is to be destroyed, and takes the store over.
    ///
    /// On return: no key of a subject is left that the state knows to be erased.
    ///
    /// # Errors
    /// [`VaultError`] when the disk fails.
    pub fn open(vault: Vault, state: StateStore, failures: FailureReporter) -> Result<(Self, Payloads), VaultError> {
        loop {
            let erased = vault.destroy_keys(&*state.view(), unix_ns())?;
            if erased == 0 {
                break;
            }
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
        Ok((Self { vault, state, requests, failures, chores: Chores::default(), held }, payloads))
    }

    /// Starts the thread, and the one that writes files again. They end with the last [`Payloads`], or with the first error.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub fn start(self) -> io::Result<JoinHandle<()>> {
        let rewriter = Rewriter::start(Arc::clone(&self.vault), self.failures.clone())?;
        thread::Builder::new().name("payloads".to_owned()).spawn(move || self.serve(rewriter))
    }

    fn serve(mut self, rewriter: Rewriter) {
        let worked = self.work(&rewriter);
        rewriter.stop(&self.vault);
        if let Err(error) = worked {
            tracing::error!(%error, "the payload store cannot go on");
            self.failures.report((&error).into());
        }
    }

    /// Puts come first; between two of them, and while there are none, a step is made of whatever else there is to do.
    fn work(&mut self, rewriter: &Rewriter) -> Result<(), VaultError> {
        // What was removed before this process began may still be in files.
        rewriter.wake();
        let mut step = Step::Done;
        loop {
            let request = match self.requests.try_recv() {
                Err(TryRecvError::Empty) if step == Step::Nothing => self.requests.blocking_recv().ok_or(TryRecvError::Disconnected),
                other => other,
            };
            match request {
                Ok(Request::Sweep) => {
                    self.chores.sweep(&*self.state.view())?;
                    rewriter.wake();
                }
                Ok(Request::CatchUp) => self.chores.erase(),
                Ok(Request::Put { of, salt, content, done }) => {
                    let content = zeroize::Zeroizing::new(content);
                    let put = self.vault.put(&*self.state.view(), &of, &salt, &content)?;
                    // Who asked may be gone.
                    drop(done.send(Ok(put)));
                }
                Err(TryRecvError::Empty) => (),
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            let before = step;
            step = self.chores.step(&self.vault, &*self.state.view(), unix_ns())?;
            if before == Step::RowsGone && step != Step::RowsGone {
                rewriter.wake();
            }
            if step == Step::Counted {
                self.held.store(Arc::new(self.chores.held().clone()));
            }
        }
    }
}

/// The thread that writes files again. Nobody waits for it.
struct Rewriter {
    wake: SyncSender<()>,
    stopping: CancellationToken,
    thread: JoinHandle<()>,
}

impl Rewriter {
    fn start(vault: Arc<Vault>, failures: FailureReporter) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let stopping = CancellationToken::new();
        let is_stopping = stopping.clone();
        let work = move || {
            while woken.recv().is_ok() {
                match vault.rewrite() {
                    Ok(true) => (),
                    Ok(false) => tracing::info!("files from before an erasure are still there; they are written again later"),
                    Err(_) if is_stopping.is_cancelled() => return,
                    Err(error) => {
                        tracing::error!(%error, "files of the payload store cannot be written again");
                        return failures.report((&error).into());
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("payload-files".to_owned()).spawn(work)?;
        Ok(Self { wake, stopping, thread })
    }

    /// Has it look for something to do, once it is done with what it does.
    fn wake(&self) {
        // Full: it will look anyway. Closed: its error was reported.
        let _ = self.wake.try_send(());
    }

    fn stop(self, vault: &Vault) {
        self.stopping.cancel();
        drop(self.wake);
        vault.stop_rewriting();
        drop(self.thread.join());
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
