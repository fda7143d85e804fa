//! Puts the parts of a node together, starts every task, and stops them in order.
//!
//! Order of stopping: clients are turned away, the inbox answers what waits, Raft stops, then the listeners between nodes,
//! and the databases close last, when nobody can reach them any more.

mod founding;
mod watching;

use std::{io, sync::Arc};

use thiserror::Error;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::founding::{Founding, initialise};
use self::founding::{SIGNED_TREE, found, identity};
use crate::{
    clock::{self, ClockReading, WallClock},
    comparing,
    completeness::{Checker, Confirmed, Indexer},
    config::{Config, Secured},
    contradiction,
    cosigner::Cosigner,
    data_dir::{DataDir, DataDirError},
    elections::{self, Leads},
    exit::ExitCode,
    failure::{self, Failure, FailureReporter, FailureWatch},
    genesis::{self, GenesisError},
    inbox,
    journal::{Journal, JournalError, JournalReader, JournalTrace},
    leadership::{self, Leadership},
    listeners,
    metrics::Metrics,
    outlets::Dispatcher,
    payloads::{Keeper, Payloads, Repair, Vault, VaultError},
    peer::PeerNetwork,
    peers::Peers,
    proposer::{self, Gates},
    publisher::{self, Publisher},
    replica::{Applies, ApplyError, Machine, Raft, RecoveryError, keep_log_short, raft_config, recover},
    rpc::{Answering, Api, Forwarding},
    signed_tree::{SignedTreeError, SignedTreeFile},
    store::{StateStore, StoreError},
    tls::{Credentials, CredentialsError, ListenError, Security, Transport},
    witnesses::Witnesses,
};

/// Why a node could not start, or ended by itself.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The node was never initialised, or its directory is lost or not mounted.
    #[error(
        "{0} is not initialised. If this node ran before, its disk is lost or not mounted: mount it, or put a node with a new node id and a \
         new key in its place; never run `init` for it, because its promises are gone. A node that never ran takes `proofline-node init` once"
    )]
    NotInitialised(String),
    /// The Raft log cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was signed before cannot be read.
    #[error(transparent)]
    SignedTree(#[from] SignedTreeError),
    /// Committed entries could not be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Log and state could not be brought in line.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The log began with something else than this node was told.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// Witnesses are configured, and their certificates could not be checked.
    #[error("witnesses cannot be asked: {0}")]
    Witnesses(String),
    /// A certificate cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A port cannot be served.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A port may not be served this way.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Raft did not start.
    #[error("Raft did not start: {0}")]
    Raft(String),
    /// The node must not go on.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Reflection cannot be served.
    #[error(transparent)]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A payload store that cannot be used ends a start as it ends a node that runs.
impl From<VaultError> for NodeError {
    fn from(error: VaultError) -> Self {
        Self::Failed(Failure::from(&error))
    }
}

impl From<&NodeError> for ExitCode {
    fn from(error: &NodeError) -> Self {
        match error {
            NodeError::DataDir(error) => error.into(),
            NodeError::Journal(error) | NodeError::Recovery(RecoveryError::Journal(error)) => error.into(),
            NodeError::Store(error)
            | NodeError::Recovery(RecoveryError::Store(error))
            | NodeError::Apply(ApplyError::Store(error))
            | NodeError::Recovery(RecoveryError::Apply(ApplyError::Store(error))) => error.into(),
            NodeError::SignedTree(SignedTreeError::Damaged { .. } | SignedTreeError::Missing { .. }) => Self::StorageDamaged,
            NodeError::SignedTree(SignedTreeError::File { .. }) => Self::DiskFailed,
            NodeError::Failed(failure) => failure.into(),
            NodeError::Genesis(GenesisError::Other { .. }) => Self::ForeignDataDirectory,
            NodeError::Genesis(GenesisError::NoGenesis | GenesisError::Store(_)) => Self::StorageDamaged,
            NodeError::Apply(_) | NodeError::Recovery(RecoveryError::Apply(_) | RecoveryError::Read(_)) => Self::StorageDamaged,
            NodeError::NotInitialised(_)
            | NodeError::Witnesses(_)
            | NodeError::Credentials(_)
            | NodeError::Bind { .. }
            | NodeError::Listen(_)
            | NodeError::Raft(_)
            | NodeError::Reflection(_) => Self::Generic,
        }
    }
}

/// Serves until `shutdown`, or until the node must not go on.
///
/// # Errors
/// [`NodeError`]: why it did not start, or why it ended.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), NodeError> {
    if !DataDir::is_initialised(&config.data_dir)? {
        return Err(NodeError::NotInitialised(config.data_dir.display().to_string()));
    }
    let sockets = Sockets::bind(&config).await?;
    let (failures, failed) = failure::channel();
    let secure = Secure::of(&config.security)?;
    let storage = Storage::open(&config, failures.clone()).await?;
    let running = storage.start_raft(&config, &secure).await?;
    Node::assemble(config, running, &secure, failures).serve(sockets, secure, failed, shutdown).await
}

/// What is on the disk, open.
struct Storage {
    dir: DataDir,
    state: StateStore,
    journal: Journal,
    machine: Machine,
    signed: SignedTreeFile,
    payloads: Payloads,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Storage {
    async fn open(config: &Config, failures: FailureReporter) -> Result<Self, NodeError> {
        let dir = DataDir::open(&config.data_dir, identity(config))?;
        contradiction::check(dir.root())?;
        let signed = SignedTreeFile::open(&dir.root().join(SIGNED_TREE))?;
        if Journal::trace(&dir)? == JournalTrace::None {
            return Err(JournalError::Gone { path: dir.high_water() }.into());
        }
        let (state, writer) = StateStore::open(&dir)?;
        let flushed = state.clone();
        let flush = Box::new(move |index| flushed.flush_through(index).map_err(|error| error.to_string()));
        let (mut journal, writing) = Journal::open(&dir, flush, failures.clone())?;
        let (machine, applying) = match Machine::start(state.clone(), writer, &config.genesis.origin, failures.clone()) {
            Ok(started) => started,
            Err(error) => {
                drop(journal);
                join(vec![writing]).await;
                return Err(error.failure().map_or_else(|| error.into(), NodeError::Failed));
            }
        };
        let mut threads = vec![applying, writing];
        let recovered = recover(&mut journal, &machine).await.map_err(NodeError::from);
        let fits = recovered.and_then(|()| Ok(genesis::check(&*state.view(), &config.genesis)?));
        if let Err(error) = fits {
            drop((journal, machine));
            join(threads).await;
            return Err(error);
        }
        let keeping = keep_payloads(config, &dir, &state, failures);
        let payloads = match keeping {
            Ok((payloads, thread)) => {
                threads.push(thread);
                payloads
            }
            Err(error) => {
                drop((journal, machine));
                join(threads).await;
                return Err(error);
            }
        };
        Ok(Self { dir, state, journal, machine, signed, payloads, threads })
    }

    async fn start_raft(self, config: &Config, secure: &Secure) -> Result<Running, NodeError> {
        let Self { dir, state, journal, machine, signed, payloads, threads } = self;
        let (progress, applies, log) = (machine.progress(), machine.applies(), journal.reader());
        let raft_config = raft_config(&config.genesis.origin, config.election_slice(), config.snapshot_entries)
            .map_err(|error| NodeError::Raft(error.to_string()))?;
        let raft_leads = Leads::default();
        let network = PeerNetwork::new(config.node_id, secure.transport.clone(), raft_leads.clone());
        let raft = Raft::new(config.node_id, Arc::new(raft_config), network, journal, machine)
            .await
            .map_err(|error| NodeError::Raft(error.to_string()))?;
        found(&raft, dir.root(), &config.members).await?;
        Ok(Running { raft, raft_leads, state, log, progress, applies, signed, payloads, threads })
    }
}

/// Opens the payload store, and carries out every erasure that the state knows of, before anybody can ask.
fn keep_payloads(
    config: &Config,
    dir: &DataDir,
    state: &StateStore,
    failures: FailureReporter,
) -> Result<(Payloads, std::thread::JoinHandle<()>), NodeError> {
    let vault = Vault::open(&dir.payloads(), config.payload_reserve)?;
    let (keeper, payloads) = Keeper::open(vault, state.clone(), failures)?;
    let thread = keeper.start().map_err(|source| VaultError::File { action: "starting a thread over", path: dir.payloads(), source })?;
    Ok((payloads, thread))
}

/// Waits for threads to end: a process that ends under a thread which still uses a database is killed by the database.
async fn join(threads: Vec<std::thread::JoinHandle<()>>) {
    let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
    drop(tokio::time::timeout(DRAIN, joined).await);
}

/// Raft over its storage.
struct Running {
    raft: Raft,
    raft_leads: Leads,
    state: StateStore,
    log: JournalReader,
    progress: watch::Receiver<crate::replica::Progress>,
    applies: Applies,
    signed: SignedTreeFile,
    payloads: Payloads,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// How this node and its callers know each other.
struct Secure {
    transport: Transport,
    peers: Security,
    clients: Security,
    tiles: Security,
}

impl Secure {
    fn of(secured: &Secured) -> Result<Self, NodeError> {
        match secured {
            Secured::Loopback => Ok(Self {
                transport: Transport::Plaintext,
                peers: Security::Plaintext,
                clients: Security::Plaintext,
                tiles: Security::Plaintext,
            }),
            Secured::Mutual { peers, clients } => {
                let peers = Arc::new(Credentials::open(peers.clone())?);
                let clients = Arc::new(Credentials::open(clients.clone())?);
                Ok(Self {
                    transport: Transport::mutual(Arc::clone(&peers))?,
                    peers: Security::Mutual(peers),
                    tiles: Security::Optional(Arc::clone(&clients)),
                    clients: Security::Mutual(clients),
                })
            }
        }
    }
}

/// A node whose parts know each other.
struct Node {
    config: Config,
    api: Api,
    raft_leads: Leads,
    log: JournalReader,
    outbox: inbox::Outbox,
    cosigning: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    indexer: Indexer,
    leadership: watch::Sender<Leadership>,
    reading: watch::Sender<ClockReading>,
    published: watch::Sender<Option<crate::publisher::Published>>,
    failures: FailureReporter,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Node {
    fn assemble(config: Config, running: Running, secure: &Secure, failures: FailureReporter) -> Self {
        let Running { raft, raft_leads, state, log, progress, applies, signed, payloads, threads } = running;
        let origin: Arc<str> = config.genesis.origin.as_str().into();
        let (inbox, outbox) = inbox::inbox();
        let (leadership, leads) = watch::channel(Leadership::default());
        let (published, newest) = watch::channel(None);
        let (reading, clock) = watch::channel(ClockReading::default());
        let (confirming, confirmed) = watch::channel(Confirmed::NOTHING);
        let (answering, answers) = watch::channel(());
        let peers = Peers::new(config.node_id, raft.clone(), secure.transport.clone());
        let cosigner = Cosigner {
            genesis: config.genesis.clone(),
            key: config.node_key.clone(),
            state: state.clone(),
            progress: progress.clone(),
            confirmed: confirmed.clone(),
            signed,
            failures: failures.clone(),
        };
        let (cosigner, cosigning) = cosigner.start();
        let (checker, questions) = Checker::new(progress.clone());
        let metrics = Arc::new(Metrics::default());
        let forwarding = Forwarding::default();
        let api = Api {
            origin,
            state,
            progress,
            published: newest,
            leadership: leads,
            clock,
            inbox,
            peers,
            raft,
            cosigner,
            checker,
            metrics,
            forwarding,
            outlets: Arc::new(config.outlets.clone()),
            confirmed,
            answers,
            log_key: Arc::new(config.log_key.clone()),
            node_key: Arc::new(config.node_key.clone()),
            asking: Answering::waiting(),
            answering: Answering::lineage(),
            reading: Answering::reading(),
            payloads,
            ahead: comparing::Ahead::default(),
            failures: failures.clone(),
        };
        let indexer = Indexer {
            state: api.state.clone(),
            progress: api.progress.clone(),
            published: api.published.clone(),
            leadership: api.leadership.clone(),
            states: applies.states,
            keys: applies.keys,
            inbox: api.inbox.clone(),
            voters: Arc::new(api.peers.clone()),
            questions,
            confirmed: confirming,
            answers: answering,
            interval: config.commitment_interval,
            metrics: Arc::clone(&api.metrics),
            failures: failures.clone(),
        };
        let cosigning = Box::pin(cosigning);
        Self { config, api, raft_leads, log, outbox, cosigning, indexer, leadership, reading, published, failures, threads }
    }

    async fn serve(self, sockets: Sockets, secure: Secure, failed: FailureWatch, shutdown: CancellationToken) -> Result<(), NodeError> {
        let Self { config, api, raft_leads, log, outbox, cosigning, indexer, leadership, reading, published, failures, threads } = self;
        let witnesses = Witnesses::new(config.witnesses.clone(), Arc::clone(&api.metrics)).map_err(NodeError::Witnesses)?;
        let (clients, core) = (CancellationToken::new(), CancellationToken::new());
        let tasks = TaskTracker::new();
        tasks.spawn(cosigning);
        tasks.spawn(leadership::follow(api.raft.clone(), config.node_id, leadership, core.clone()));
        tasks.spawn(clock::guard(api.peers.clone(), reading, core.clone()));
        let (aside, stands_aside) = watch::channel(false);
        tasks.spawn(clock::stand_aside(api.raft.clone(), aside, api.clock.clone(), core.clone()));
        tasks.spawn(raft_leads.keep_asking(api.raft.clone(), config.node_id, stands_aside.clone(), core.clone()));
        let slice = config.election_slice();
        tasks.spawn(elections::stand(api.raft.clone(), config.node_id, slice, elections::any_lot, stands_aside, core.clone()));
        let gates = Gates { leadership: api.leadership.clone(), clock: api.clock.clone(), wall: WallClock::machine() };
        let proposing = tasks.spawn(proposer::propose(api.raft.clone(), outbox, gates, core.clone()));
        tasks.spawn(indexer.run(core.clone()));
        tasks.spawn(publishing(&config, &api, witnesses).run(core.clone()));
        tasks.spawn(Dispatcher::of(&config, &api).run(core.clone()));
        tasks.spawn(genesis::begin(config.genesis.clone(), api.clone(), failures.clone(), core.clone()));
        tasks.spawn(publisher::watch_published(api.clone(), published, failures.clone(), core.clone()));
        tasks.spawn(comparing::run(api.clone(), core.clone()));
        // Evil: a second history is kept up to date for one follower.
        proofline_ledger::evil!(tasks.spawn(crate::evil::second_history(api.clone(), core.clone())));
        tasks.spawn(core.clone().run_until_cancelled_owned(keep_log_short(
            api.raft.clone(),
            log,
            api.state.clone(),
            config.snapshot_entries,
        )));
        tasks.spawn(watching::raft(api.raft.clone(), failures.clone(), core.clone()));
        tasks.spawn(watching::damage(api.state.damage(), failures.clone(), core.clone()));
        tasks.spawn(api.payloads.clone().follow(api.progress.clone(), core.clone()));
        let (payloads, peers, state) = (api.payloads.clone(), api.peers.clone(), api.state.clone());
        tasks.spawn(Repair { payloads, peers, state, failures: failures.clone() }.run(core.clone()));
        let listening = [
            tokio::spawn(listeners::serve_clients(
                sockets.clients,
                secure.clients,
                api.clone(),
                config.client_connections,
                clients.clone(),
            )?),
            tokio::spawn(listeners::serve_tiles(sockets.tiles, secure.tiles, api.clone(), clients.clone())?),
        ];
        let between = tokio::spawn(listeners::serve_peers(sockets.peers, secure.peers, &api, core.clone())?);
        tracing::info!(node = config.node_id, origin = %api.origin, clients = %config.client_listen, "serving");

        let ended = tokio::select! {
            () = shutdown.cancelled() => None,
            failure = failed.failed() => Some(failure),
        };
        clients.cancel();
        if let Some(failure) = &ended {
            tokio::join!(contradiction::noted(config.data_dir.clone(), failure.clone()), api.show_others_before_end(failure));
        }
        stop(Stopping { clients, core, listening, proposing, between, tasks, api, threads }).await;
        ended.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

struct Sockets {
    peers: TcpListener,
    clients: TcpListener,
    tiles: TcpListener,
}

impl Sockets {
    async fn bind(config: &Config) -> Result<Self, NodeError> {
        let bind = async |address| TcpListener::bind(address).await.map_err(|source| NodeError::Bind { address, source });
        Ok(Self {
            peers: bind(config.peer_listen).await?,
            clients: bind(config.client_listen).await?,
            tiles: bind(config.tiles_listen).await?,
        })
    }
}

fn publishing(config: &Config, api: &Api, witnesses: Witnesses) -> Publisher {
    Publisher {
        log_key: config.log_key.clone(),
        state: api.state.clone(),
        progress: api.progress.clone(),
        leadership: api.leadership.clone(),
        peers: api.peers.clone(),
        cosigner: api.cosigner.clone(),
        witnesses,
        inbox: api.inbox.clone(),
    }
}

/// Everything that has to end.
struct Stopping {
    clients: CancellationToken,
    core: CancellationToken,
    listening: [JoinHandle<()>; 2],
    proposing: JoinHandle<()>,
    between: JoinHandle<()>,
    tasks: TaskTracker,
    api: Api,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Longest time that connections get to finish.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(3);

async fn stop(of: Stopping) {
    let Stopping { clients, core, listening, proposing, between, tasks, api, threads } = of;
    clients.cancel();
    for listener in listening {
        abandon(listener).await;
    }
    core.cancel();
    abandon(proposing).await;
    // An error here means that Raft had stopped already.
    drop(api.raft.shutdown().await);
    abandon(between).await;
    tasks.close();
    drop(api);
    drop(tokio::time::timeout(DRAIN, tasks.wait()).await);
    join(threads).await;
}

/// Waits for a task for a while, then ends it: a client that keeps its stream open does not keep the node from stopping.
async fn abandon(mut task: JoinHandle<()>) {
    if tokio::time::timeout(DRAIN, &mut task).await.is_err() {
        task.abort();
    }
}
