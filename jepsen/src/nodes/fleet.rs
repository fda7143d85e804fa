//! All nodes of a run, and what became of their processes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use proofline_cluster::{Binaries, Plan, PlannedNode, Tls};
use proofline_verifier::Policy;
use tokio::time::Instant;

use super::{Clock, Disk, NodeProcess, Place, replacement::Replacing};
use crate::{
    history::{Mark, NodeId, Recorder},
    network::Namespace,
    planted,
};

const CLIENT_PORT: u16 = 7443;
const TILES_PORT: u16 = 7480;
const PEER_PORTS: u16 = 7500;
/// How long a node may take until it knows a leader.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a node may take to stop when asked.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two looks at the processes.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often memory is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(2);
/// Exit codes after which a node is started again, as docs/OPERATIONS.md says: the disk failed, and has room again.
const MAY_START_AGAIN: [i32; 1] = [13];

/// Whether nodes have wall clocks that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WallClocks {
    /// The machine's.
    Machine,
    /// Each its own.
    Own,
}

/// What a fleet is made of.
#[derive(Debug)]
pub struct FleetPlan<'a> {
    /// Name of the run, which its processes carry.
    pub run: &'a str,
    /// Directory of the run.
    pub directory: &'a Path,
    /// Room on each disk.
    pub disk_mebibytes: u64,
    /// Raft entries after which a node makes a snapshot.
    pub snapshot_entries: u64,
    /// Whose time nodes go by.
    pub clocks: WallClocks,
    /// Where the programs are.
    pub binaries: Binaries,
    /// A bug that the nodes have.
    pub planted: Option<&'a str>,
}

/// How a node begins its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// As a founder of the cluster.
    Founder,
    /// As a member to be.
    Joiner,
}

/// One place with its node.
#[derive(Debug)]
pub struct Station {
    /// Killed before the disk is unmounted and the namespace removed: fields are dropped in this order.
    process: Option<NodeProcess>,
    /// Which place.
    pub place: Place,
    /// The node that is there now.
    pub node: PlannedNode,
    /// Its disk.
    pub disk: Disk,
    /// Its clock, when it has one of its own.
    pub clock: Option<Clock>,
    namespace: Namespace,
    /// Exit codes that the faults of the moment explain.
    pub expected: Vec<i32>,
    /// Set until the node that is to be there is a member, and nobody who was there before.
    pub(super) replacing: Option<Replacing>,
    /// How the last process ended; `None` when a signal ended it, or none ran.
    pub last_code: Option<i32>,
}

/// A node ended in a way that no fault explains: by itself, or not in order when it was asked to stop.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Surprise {
    /// Which node.
    pub node: u64,
    /// How it ended.
    pub how: String,
    /// The last line of its log.
    pub said: String,
}

/// All nodes of a run.
#[derive(Debug)]
pub struct Fleet {
    /// Keys, certificates and configurations.
    pub plan: Plan,
    /// The places.
    pub stations: Vec<Station>,
    /// Nodes that ended without a reason.
    pub surprises: Vec<Surprise>,
    /// The policies of the members that there were, one after the other.
    pub policies: Vec<Policy>,
    pub(super) next_id: u64,
    recorder: Recorder,
    run: String,
    directory: PathBuf,
    binaries: Binaries,
    planted: Option<String>,
    measured: Instant,
    pub(super) snapshot_entries: u64,
}

impl Fleet {
    /// Makes keys, certificates, configurations and disks for nodes in `namespaces`. Nothing runs yet.
    ///
    /// # Errors
    /// When files or disks cannot be made.
    pub fn prepare(of: FleetPlan<'_>, namespaces: Vec<Namespace>, recorder: Recorder) -> Result<Self> {
        let nodes: Vec<PlannedNode> = (0..namespaces.len()).map(|place| planned(Place(place), place as u64 + 1)).collect();
        let plan = Plan::create_at(&of.directory.join("cluster"), nodes, Tls::Mutual)?;
        for directory in ["logs", "disks", "clocks"] {
            fs::create_dir_all(of.directory.join(directory))?;
        }
        let mut fleet = Self {
            next_id: namespaces.len() as u64 + 1,
            stations: Vec::new(),
            surprises: Vec::new(),
            policies: vec![Policy::parse(&fs::read(plan.policy())?)?],
            recorder,
            run: of.run.to_owned(),
            directory: of.directory.to_owned(),
            binaries: of.binaries,
            planted: of.planted.map(str::to_owned),
            measured: Instant::now(),
            snapshot_entries: of.snapshot_entries,
            plan,
        };
        for (place, namespace) in namespaces.into_iter().enumerate() {
            let station = fleet.station(Place(place), namespace, of.disk_mebibytes, of.clocks)?;
            fleet.stations.push(station);
        }
        Ok(fleet)
    }

    fn station(&self, place: Place, namespace: Namespace, mebibytes: u64, clocks: WallClocks) -> Result<Station> {
        let node = self.plan.nodes.get(place.0).context("a place without a node")?.clone();
        let image = self.directory.join("disks").join(format!("place-{}.img", place.0));
        let disk = Disk::create(&image, &self.plan.root.join(&node.name), mebibytes)?;
        let clock = match clocks {
            WallClocks::Machine => None,
            WallClocks::Own => Some(Clock::right(&self.directory.join("clocks").join(place.0.to_string()))?),
        };
        let station =
            Station { place, node, disk, clock, namespace, process: None, expected: Vec::new(), replacing: None, last_code: None };
        self.configure(&station.node)?;
        Ok(station)
    }

    pub(super) fn configure(&self, node: &PlannedNode) -> Result<()> {
        self.plan.configure(node, &format!("snapshot_entries = {}", self.snapshot_entries))
    }

    /// Founds the cluster, and waits until every node knows a leader.
    ///
    /// # Errors
    /// When a node does not come up.
    pub async fn found(&mut self) -> Result<()> {
        for place in self.places() {
            self.initialise(place, Beginning::Founder)?;
            self.start(place).await?;
        }
        for place in self.places() {
            self.ready(place).await?;
        }
        Ok(())
    }

    /// Returns all places.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        (0..self.stations.len()).map(Place).collect()
    }

    /// Returns the ids of the nodes that are there now.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.stations.iter().map(|station| NodeId(station.node.node_id)).collect()
    }

    /// Returns one place.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(&mut self, place: Place) -> Result<&mut Station> {
        self.stations.get_mut(place.0).with_context(|| format!("there is no place {}", place.0))
    }

    /// Returns who is at a place.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn node_at(&self, place: Place) -> Result<NodeId> {
        let station = self.stations.get(place.0).with_context(|| format!("there is no place {}", place.0))?;
        Ok(NodeId(station.node.node_id))
    }

    /// Returns the recorder of the run.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Returns the directory of the run.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the log file of the node at a place.
    #[must_use]
    pub fn log(&self, node: &PlannedNode) -> PathBuf {
        self.directory.join("logs").join(format!("{}.log", node.name))
    }

    /// Runs `proofline-node init`.
    ///
    /// # Errors
    /// When it fails; the message is the node's.
    pub fn initialise(&mut self, place: Place, beginning: Beginning) -> Result<()> {
        let node = self.at(place)?.node.clone();
        let mut command = self.command(&node, "init");
        if beginning == Beginning::Founder {
            command.arg("--bootstrap");
        }
        let output = command.output().context("cannot run proofline-node")?;
        if !output.status.success() {
            bail!("{} could not be initialised: {}", node.name, String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Starts the node at a place without waiting for it.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub async fn start(&mut self, place: Place) -> Result<()> {
        let (run, node) = (self.run.clone(), self.at(place)?.node.clone());
        let (mut command, log) = (self.command(&node, "run"), self.log(&node));
        let station = self.at(place)?;
        if let Some(clock) = &station.clock {
            command.envs(clock.environment());
        }
        station.process = Some(NodeProcess::start(&node.name, &station.namespace, &run, &log, command)?);
        station.last_code = None;
        self.recorder.mark(Mark::Started { node: NodeId(node.node_id) }).await;
        Ok(())
    }

    fn command(&self, node: &PlannedNode, what: &str) -> Command {
        let program = if self.planted.is_some() { planted::PROGRAM } else { "proofline-node" };
        let mut command = Command::new(self.binaries.path(program));
        command.envs(self.planted.iter().map(|bug| (planted::VARIABLE, bug)));
        command.args([what, "--config"]).arg(self.plan.config(node));
        command
    }

    /// Waits until the node at a place knows a leader.
    ///
    /// # Errors
    /// When it ends or takes too long; the message has the end of its log.
    pub async fn ready(&mut self, place: Place) -> Result<()> {
        let until = Instant::now() + READY_WITHIN;
        while Instant::now() < until {
            if self.is_ready(place).await? {
                return Ok(());
            }
            self.look().await?;
            let station = self.at(place)?;
            if station.process.is_none() {
                let (name, code) = (station.node.name.clone(), station.last_code);
                bail!("{name} ended with code {code:?}: {}", self.last_words(place));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("the node at place {} is not ready after {} s: {}", place.0, READY_WITHIN.as_secs(), self.last_words(place))
    }

    /// Tells whether the node at a place knows a leader.
    ///
    /// # Errors
    /// When there is no such place.
    pub async fn is_ready(&mut self, place: Place) -> Result<bool> {
        let node = self.at(place)?.node.clone();
        let asking = proofline_cluster::http::get(&self.plan, &node, "/readyz");
        let answer = tokio::time::timeout(Duration::from_secs(1), asking).await;
        Ok(matches!(answer, Ok(Ok(response)) if response.status == 200))
    }

    /// Starts every node that does not run and may, and waits until all are ready.
    ///
    /// # Errors
    /// When a node ends or does not become ready in time.
    pub async fn start_all(&mut self) -> Result<()> {
        for place in self.places() {
            if self.at(place)?.process.is_none() {
                self.start(place).await?;
            }
        }
        for place in self.places() {
            self.ready(place).await?;
        }
        Ok(())
    }

    /// Kills the node at a place as `kill -9` does.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn kill(&mut self, place: Place) -> Result<()> {
        let status = self.take(place)?.kill()?;
        self.mark_end(place, status).await
    }

    /// Asks the node at a place to stop, and waits.
    ///
    /// # Errors
    /// When it is not running, or does not stop in time.
    pub async fn stop(&mut self, place: Place) -> Result<ExitStatus> {
        let status = self.take(place)?.stop(STOP_WITHIN).await?;
        self.mark_end(place, status).await?;
        if !status.success() {
            self.surprise(place, status)?;
        }
        Ok(status)
    }

    /// Returns the process at a place.
    ///
    /// # Errors
    /// When none runs there.
    pub fn process(&mut self, place: Place) -> Result<&mut NodeProcess> {
        let station = self.at(place)?;
        let name = station.node.name.clone();
        station.process.as_mut().with_context(|| format!("{name} is not running"))
    }

    /// Tells whether a process runs at a place.
    #[must_use]
    pub fn runs(&self, place: Place) -> bool {
        self.stations.get(place.0).is_some_and(|station| station.process.is_some())
    }

    fn take(&mut self, place: Place) -> Result<NodeProcess> {
        let station = self.at(place)?;
        let name = station.node.name.clone();
        station.process.take().with_context(|| format!("{name} is not running"))
    }

    async fn mark_end(&mut self, place: Place, status: ExitStatus) -> Result<()> {
        let station = self.at(place)?;
        station.last_code = status.code();
        let node = NodeId(station.node.node_id);
        self.recorder.mark(Mark::Ended { node, code: status.code() }).await;
        Ok(())
    }

    /// Lets time pass, and watches the processes meanwhile.
    ///
    /// # Errors
    /// When a process cannot be looked at.
    pub async fn hold(&mut self, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.look().await?;
            tokio::time::sleep(LOOK_AGAIN.min(until.saturating_duration_since(Instant::now()))).await;
        }
        Ok(())
    }

    /// Looks at every process: whether it ended, and now and then how much memory it holds.
    ///
    /// # Errors
    /// When a process cannot be looked at.
    pub async fn look(&mut self) -> Result<()> {
        for place in self.places() {
            let station = self.at(place)?;
            let status = station.process.as_mut().map(NodeProcess::status).transpose()?.flatten();
            if let Some(status) = status {
                station.process = None;
                let is_expected = status.code().is_some_and(|code| station.expected.contains(&code));
                self.mark_end(place, status).await?;
                if !is_expected {
                    self.surprise(place, status)?;
                }
            }
        }
        if self.measured.elapsed() >= MEASURE_EVERY {
            self.measured = Instant::now();
            self.measure().await;
        }
        Ok(())
    }

    fn surprise(&mut self, place: Place, status: ExitStatus) -> Result<()> {
        let surprise = Surprise { node: self.node_at(place)?.0, how: status.to_string(), said: self.last_words(place) };
        eprintln!("  no fault explains how node {} ended ({}): {}", surprise.node, surprise.how, surprise.said);
        self.surprises.push(surprise);
        Ok(())
    }

    async fn measure(&self) {
        for station in &self.stations {
            if let Some(bytes) = station.process.as_ref().and_then(NodeProcess::resident_bytes) {
                self.recorder.mark(Mark::Resident { node: NodeId(station.node.node_id), bytes }).await;
            }
        }
    }

    /// Brings back every node that does not run and may run again.
    ///
    /// # Errors
    /// When one does not come back.
    pub async fn bring_back(&mut self) -> Result<()> {
        for place in self.places() {
            let station = self.at(place)?;
            let may_start = station.last_code.is_none_or(|code| code == 0 || MAY_START_AGAIN.contains(&code));
            if station.process.is_none() && may_start && !station.is_given_up() {
                self.start(place).await?;
            }
        }
        for place in self.places() {
            // Whoever is being replaced may know nobody who leads; the replacement ends with this.
            if self.runs(place) && !self.is_being_replaced(place) {
                self.ready(place).await?;
            }
        }
        Ok(())
    }

    /// Returns the last line that the node at a place wrote.
    #[must_use]
    pub fn last_words(&self, place: Place) -> String {
        let log = self.stations.get(place.0).map(|station| self.log(&station.node));
        let text = log.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default();
        text.lines().last().unwrap_or_default().to_owned()
    }

    /// Returns how often the node at a place began to serve, by its log.
    #[must_use]
    pub fn times_served(&self, place: Place) -> usize {
        let log = self.stations.get(place.0).map(|station| self.log(&station.node));
        let text = log.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default();
        text.lines().filter(|line| line.contains(" serving ")).count()
    }

    /// Returns after how many Raft entries the first of them is no longer in anybody's log: a snapshot covers it, half of one stays
    /// behind that, and the next one comes so much later.
    #[must_use]
    pub fn entries_until_cut(&self) -> u64 {
        self.snapshot_entries * 5 / 2
    }

    /// Returns which database of the replicated state the node at a place uses: an installed snapshot brings another one.
    #[must_use]
    pub fn database(&self, place: Place) -> Option<u64> {
        let station = self.stations.get(place.0)?;
        let bytes = fs::read(station.disk.path().join("state/CURRENT")).ok()?;
        serde_json::from_slice::<serde_json::Value>(&bytes).ok()?.get("database")?.as_u64()
    }
}

pub(super) fn planned(place: Place, node_id: u64) -> PlannedNode {
    let at = |port| (place.port().address(), port).into();
    // A peer that lost its place must not be taken for the one that has it now.
    let peer = PEER_PORTS.saturating_add(u16::try_from(node_id).unwrap_or(0));
    PlannedNode { node_id, name: format!("node-{node_id}"), peer: at(peer), client: at(CLIENT_PORT), tiles: at(TILES_PORT) }
}
