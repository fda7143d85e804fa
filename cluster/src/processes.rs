//! Node processes: started, watched, killed and stopped by id.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;

use crate::plan::{Plan, PlannedNode, Tls};

/// How long a node may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a node may take to stop when asked.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// The program of a node.
const NODE: &str = "proofline-node";
/// Pause between two looks at a condition that has no event to wait for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Finds the programs beside the running one: a test or a tool of the same build.
    ///
    /// # Errors
    /// When `proofline-node` is not there.
    pub fn beside_current() -> Result<Self> {
        let current = std::env::current_exe()?;
        let found = current.ancestors().skip(1).take(3).find(|directory| directory.join("proofline-node").is_file());
        let directory = found.with_context(|| {
            format!("no proofline-node beside {}; build the whole workspace first: cargo build --workspace", current.display())
        })?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Takes the programs in a directory.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Returns the path of a program.
    #[must_use]
    pub fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }
}

/// One running node. Killed when dropped.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
}

impl NodeProcess {
    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub fn kill(mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Asks the process to stop and waits until it did.
    ///
    /// # Errors
    /// When it does not stop in time; it is killed then.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        if !asked.success() {
            bail!("process {} could not be signalled", self.child.id());
        }
        self.ended(STOP_WITHIN).await
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + within;
        loop {
            // Whether time is over is asked first: the caller may have been kept from looking for a while.
            let is_over = Instant::now() >= until;
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if is_over {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.child.kill()?;
        bail!("process {} did not end within {} s", self.child.id(), within.as_secs())
    }

    /// Returns how the process ended, if it did.
    ///
    /// # Errors
    /// When the process cannot be looked at.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // Already gone is fine: then there is nothing to clean up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The nodes of a plan, as processes.
#[derive(Debug)]
pub struct Cluster {
    /// What the cluster consists of.
    pub plan: Plan,
    binaries: Binaries,
    running: Vec<Option<NodeProcess>>,
}

impl Cluster {
    /// Prepares the nodes of a new plan and starts them all.
    ///
    /// # Errors
    /// When a node cannot be prepared or does not become ready.
    pub async fn found(plan: Plan, binaries: Binaries) -> Result<Self> {
        let mut cluster = Self::of(plan, binaries);
        for node in cluster.plan.nodes.clone() {
            cluster.initialise(&node, &["--bootstrap"])?;
        }
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// Takes the nodes of a plan without starting any.
    #[must_use]
    pub fn of(plan: Plan, binaries: Binaries) -> Self {
        let running = plan.nodes.iter().map(|_| None).collect();
        Self { plan, binaries, running }
    }

    /// Adds a node to the plan and prepares its directory, without starting it or making it a member.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn add_node(&mut self) -> Result<(PlannedNode, proofline_proto::v1::NodeKey)> {
        let (node, key) = self.plan.add_node()?;
        self.running.push(None);
        self.initialise(&node, &[])?;
        Ok((node, key))
    }

    /// Starts every node that is not running, and waits until all are ready.
    ///
    /// # Errors
    /// When a node ends or does not become ready in time.
    pub async fn start_all(&mut self) -> Result<()> {
        for place in 0..self.plan.nodes.len() {
            if self.running.get(place).is_some_and(Option::is_none) {
                self.start(place)?;
            }
        }
        for place in 0..self.plan.nodes.len() {
            self.ready(place).await?;
        }
        Ok(())
    }

    /// Runs `proofline-node init` for a node.
    ///
    /// # Errors
    /// When it fails; the message is the node's.
    pub fn initialise(&self, node: &PlannedNode, flags: &[&str]) -> Result<()> {
        let mut command = self.command(node, NODE, "init");
        let output = command.args(flags).output().with_context(|| "cannot run proofline-node")?;
        if !output.status.success() {
            bail!("{} could not be initialised: {}", node.name, String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Starts the node at `place` without waiting for it.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(&mut self, place: usize) -> Result<()> {
        self.start_with(place, &[])
    }

    /// Starts a node under a wrapping program: a clock shifter, say.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start_with(&mut self, place: usize, environment: &[(&str, &str)]) -> Result<()> {
        self.start_program(place, NODE, environment)
    }

    /// Starts another program in the place of a node: the node's own, with something wrong in it on purpose.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start_program(&mut self, place: usize, program: &str, environment: &[(&str, &str)]) -> Result<()> {
        let node = self.node(place)?.clone();
        let process = self.spawn(&node, program, environment)?;
        if let Some(slot) = self.running.get_mut(place) {
            *slot = Some(process);
        }
        Ok(())
    }

    fn spawn(&self, node: &PlannedNode, program: &str, environment: &[(&str, &str)]) -> Result<NodeProcess> {
        let log = File::options().create(true).append(true).open(self.log(node))?;
        let mut command = self.command(node, program, "run");
        command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(NodeProcess { child: command.spawn().with_context(|| format!("cannot start {}", node.name))? })
    }

    fn command(&self, node: &PlannedNode, program: &str, what: &str) -> Command {
        let mut command = Command::new(self.binaries.path(program));
        command.args([what, "--config"]).arg(self.plan.config(node));
        if self.plan.tls == Tls::Off {
            command.arg("--insecure-loopback");
        }
        command
    }

    /// Returns the log file of a node.
    #[must_use]
    pub fn log(&self, node: &PlannedNode) -> PathBuf {
        self.plan.root.join(format!("{}.log", node.name))
    }

    /// Waits until the node at `place` serves, whether it knows a leader or not.
    ///
    /// # Errors
    /// When it takes too long.
    pub async fn alive(&self, place: usize) -> Result<()> {
        let node = self.node(place)?;
        let until = Instant::now() + READY_WITHIN;
        while crate::http::get(&self.plan, node, "/livez").await.is_err() {
            if Instant::now() > until {
                bail!("{} does not serve:\n{}", node.name, self.end_of_log(node));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Waits until the node at `place` accepts clients and knows a leader.
    ///
    /// # Errors
    /// When it ends or takes too long; the message has the end of its log.
    pub async fn ready(&mut self, place: usize) -> Result<()> {
        let node = self.node(place)?.clone();
        let until = Instant::now() + READY_WITHIN;
        while Instant::now() < until {
            let process = self.running.get_mut(place).and_then(Option::as_mut).context("the node is not running")?;
            if let Some(status) = process.status()? {
                bail!("{} ended with {status}:\n{}", node.name, self.end_of_log(&node));
            }
            if knows_a_leader(&self.plan, &node).await {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("{} is not ready after {} s:\n{}", node.name, READY_WITHIN.as_secs(), self.end_of_log(&node))
    }

    fn end_of_log(&self, node: &PlannedNode) -> String {
        let text = std::fs::read_to_string(self.log(node)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().rev().take(20).rev().copied().collect::<Vec<_>>().join("\n")
    }

    /// Kills the node at `place` as `kill -9` does.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&mut self, place: usize) -> Result<()> {
        self.take(place)?.kill()?;
        Ok(())
    }

    /// Asks the node at `place` to stop, and waits.
    ///
    /// # Errors
    /// When it is not running, or does not stop with exit code 0.
    pub async fn stop(&mut self, place: usize) -> Result<()> {
        let status = self.take(place)?.stop().await?;
        if status.success() { Ok(()) } else { bail!("the node ended with {status}") }
    }

    /// Stops every node that runs.
    ///
    /// # Errors
    /// When one does not stop in order.
    pub async fn stop_all(&mut self) -> Result<()> {
        for place in 0..self.running.len() {
            if self.running.get(place).is_some_and(Option::is_some) {
                self.stop(place).await?;
            }
        }
        Ok(())
    }

    /// Takes the process of a node out of the cluster's care.
    ///
    /// # Errors
    /// When it is not running.
    pub fn take(&mut self, place: usize) -> Result<NodeProcess> {
        self.running.get_mut(place).and_then(Option::take).context("the node is not running")
    }

    /// Returns the process id of the node at `place`, when it runs.
    #[must_use]
    pub fn process_id(&self, place: usize) -> Option<u32> {
        self.running.get(place)?.as_ref().map(NodeProcess::id)
    }

    fn node(&self, place: usize) -> Result<&PlannedNode> {
        self.plan.nodes.get(place).with_context(|| format!("there is no node at place {place}"))
    }

    /// Lets the processes live on when this is dropped, and returns their ids.
    #[must_use]
    pub fn detach(mut self) -> Vec<u32> {
        let processes = self.running.iter_mut().filter_map(Option::take);
        processes.map(|process| std::mem::ManuallyDrop::new(process).id()).collect()
    }
}

/// Asks a node's `/readyz`. Without TLS it is plain HTTP; with TLS the listener serves strangers, under the cluster's own root.
async fn knows_a_leader(plan: &Plan, node: &PlannedNode) -> bool {
    crate::http::get(plan, node, "/readyz").await.is_ok_and(|response| response.status == 200)
}
