//! One process of a node.

use std::{
    fs::File,
    io,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    leftovers::RUN_VARIABLE,
    network::{Namespace, NamespaceError},
};

/// Pause between two looks at a process.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Why a process does not do what it is asked.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// Its namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The system refused.
    #[error("cannot {what} the process of {name}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Which node.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// It does not end.
    #[error("the process of {name} did not end within {seconds} s and was killed")]
    DoesNotEnd {
        /// Which node.
        name: String,
        /// How long it had.
        seconds: u64,
    },
}

/// A running node. It is killed when this is dropped.
#[derive(Debug)]
pub struct NodeProcess {
    name: String,
    child: Child,
}

impl NodeProcess {
    /// Starts a program inside a namespace; what it says goes to the end of a log file.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn start(name: &str, namespace: &Namespace, run: &str, log: &Path, mut command: Command) -> Result<Self, ProcessError> {
        let failed = |source| ProcessError::System { what: "start", name: name.to_owned(), source };
        let log = File::options().create(true).append(true).open(log).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        command.env(RUN_VARIABLE, run).stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = namespace.inside(move || command.spawn())?.map_err(failed)?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn kill(mut self) -> Result<ExitStatus, ProcessError> {
        self.child.kill().map_err(|source| self.failed("kill", source))?;
        self.child.wait().map_err(|source| self.failed("wait for", source))
    }

    /// Asks the process to stop, and waits.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn stop(mut self, within: Duration) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::TERM, "stop")?;
        self.ended(within).await
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn ended(&mut self, within: Duration) -> Result<ExitStatus, ProcessError> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.child.kill().map_err(|source| self.failed("kill", source))?;
        Err(ProcessError::DoesNotEnd { name: self.name.clone(), seconds: within.as_secs() })
    }

    /// Returns how the process ended, if it did.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn status(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        self.child.try_wait().map_err(|source| self.failed("look at", source))
    }

    /// Stops the process in its tracks until [`Self::resume`].
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn pause(&self) -> Result<(), ProcessError> {
        self.signal(Signal::STOP, "pause")
    }

    /// Lets the process go on.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub fn resume(&self) -> Result<(), ProcessError> {
        self.signal(Signal::CONT, "resume")
    }

    /// Tells whether the system says that the process is stopped.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Returns the resident memory, in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
    }

    fn signal(&self, signal: Signal, what: &'static str) -> Result<(), ProcessError> {
        let refused = || self.failed(what, io::Error::from(io::ErrorKind::NotFound));
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw).ok_or_else(refused)?;
        kill_process(pid, signal).map_err(|error| self.failed(what, error.into()))
    }

    fn failed(&self, what: &'static str, source: io::Error) -> ProcessError {
        ProcessError::System { what, name: self.name.clone(), source }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // Already gone is fine: then there is nothing to clean up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
