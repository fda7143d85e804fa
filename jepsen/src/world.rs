//! What a run stands on: its mark, its namespaces and its switch.

use std::{
    io,
    path::{Path, PathBuf},
};

use proofline_cluster::Binaries;
use thiserror::Error;

use crate::{
    leftovers::{self, LeftoversError, Removed, RunMark},
    network::{Namespace, NamespaceError, Port, Switch, SwitchControl, SwitchError},
    program,
};

/// Why nothing can be broken on this machine, or not now.
#[derive(Debug, Error)]
pub enum WorldError {
    /// The user is not root.
    #[error("faults need root: namespaces, mounts and TUN devices are made. Start `proofline-jepsen` as root, on a machine of its own")]
    NotRoot,
    /// There is no TUN device.
    #[error("/dev/net/tun cannot be used: {0}. The kernel needs TUN, and a container needs the device")]
    NoTun(io::Error),
    /// Programs are missing.
    #[error("missing: {0}. `make setup` installs them")]
    MissingPrograms(String),
    /// The nodes' program is missing.
    #[error("{0}")]
    NoNode(anyhow::Error),
    /// The directory of the run cannot be used.
    #[error("cannot use {path}: {source}; give an empty or new directory with --out")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Leftovers of a dead run resist.
    #[error(transparent)]
    Leftovers(#[from] LeftoversError),
    /// A namespace cannot be made.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The switch cannot be started.
    #[error(transparent)]
    Switch(#[from] SwitchError),
}

/// The network of a run. It goes away when this is dropped.
#[derive(Debug)]
pub struct World {
    switch: Switch,
    clients: Namespace,
    nodes: Vec<Namespace>,
    directory: PathBuf,
    mark: RunMark,
}

impl World {
    /// Removes what dead runs left behind, and makes the network of a new one: a namespace for each of `nodes` nodes, and one for
    /// the clients.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn raise(directory: &Path, nodes: usize, seed: u64) -> Result<(Self, Vec<Removed>), WorldError> {
        check_machine()?;
        let removed = leftovers::sweep()?;
        let directory = empty(directory)?;
        let mark = RunMark::place(&directory)?;
        let make = |place: usize| Namespace::create(&format!("{}-{place}", mark.name()));
        let made = (0..nodes).map(make).collect::<Result<Vec<_>, _>>()?;
        let clients = make(nodes)?;
        let all = made.iter().chain([&clients]).enumerate();
        let devices = all.map(|(place, namespace)| namespace.open_device(Port(place))).collect::<Result<Vec<_>, _>>()?;
        let switch = Switch::start(seed, devices)?;
        Ok((Self { switch, clients, nodes: made, directory, mark }, removed))
    }

    /// Returns the name of the run.
    #[must_use]
    pub fn name(&self) -> &str {
        self.mark.name()
    }

    /// Returns the directory of the run.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Takes the calling thread, and all that it starts from now on, to where the clients are.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn enter(&self) -> Result<(), WorldError> {
        Ok(self.clients.enter()?)
    }

    /// Hands the namespaces of the nodes over; the second time there are none.
    #[must_use]
    pub fn take_nodes(&mut self) -> Vec<Namespace> {
        std::mem::take(&mut self.nodes)
    }

    /// Returns what changes the network.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn control(&self) -> Result<SwitchControl, WorldError> {
        Ok(self.switch.control()?)
    }
}

/// Says what this machine lacks, before anything is made.
///
/// # Errors
/// [`WorldError`].
pub fn check_machine() -> Result<(), WorldError> {
    if !rustix::process::geteuid().is_root() {
        return Err(WorldError::NotRoot);
    }
    let missing: Vec<String> = program::NEEDED
        .iter()
        .filter(|(name, _)| !program::is_installed(name))
        .map(|(name, package)| format!("{name} (Debian package {package})"))
        .collect();
    if !missing.is_empty() {
        return Err(WorldError::MissingPrograms(missing.join(", ")));
    }
    std::fs::File::options().read(true).write(true).open("/dev/net/tun").map_err(WorldError::NoTun)?;
    Binaries::beside_current().map_err(WorldError::NoNode)?;
    Ok(())
}

fn empty(directory: &Path) -> Result<PathBuf, WorldError> {
    let failed = |source| WorldError::Directory { path: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    if std::fs::read_dir(directory).map_err(failed)?.next().is_some() {
        return Err(failed(io::ErrorKind::DirectoryNotEmpty.into()));
    }
    directory.canonicalize().map_err(failed)
}
