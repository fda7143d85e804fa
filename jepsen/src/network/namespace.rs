//! A network namespace with one TUN device.

use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tappers::{Interface, linux::Tun};
use thiserror::Error;

use super::Port;
use crate::program::{self, ProgramError};

/// Name of the TUN device in each namespace.
const DEVICE: &str = "pj0";

/// Why a namespace cannot be made or entered.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// `ip` failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The system refused.
    #[error("cannot {what} of the network namespace {name}: {source}; it takes root and /dev/net/tun")]
    System {
        /// What was tried.
        what: &'static str,
        /// Which namespace.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A thread that was to work inside ended before its answer.
    #[error("the thread in the network namespace {0} ended early")]
    Thread(String),
}

/// A network namespace. It is removed when this is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace whose loopback device is up.
    ///
    /// # Errors
    /// [`NamespaceError`].
    pub fn create(name: &str) -> Result<Self, NamespaceError> {
        program::run("ip", &["netns", "add", name])?;
        let made = Self { name: name.to_owned() };
        program::run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the TUN device with the address of a place, and returns the end that the switch holds.
    ///
    /// # Errors
    /// [`NamespaceError`].
    pub fn open_device(&self, port: Port) -> Result<Tun, NamespaceError> {
        let opened = self.inside(|| {
            let device = Tun::create_named(Interface::new(DEVICE)?)?;
            device.set_nonblocking(true)?;
            Ok(device)
        })?;
        let device = opened.map_err(|source| self.failed("open the device", source))?;
        let address = format!("{}/24", port.address());
        program::run("ip", &["-n", &self.name, "address", "add", &address, "dev", DEVICE])?;
        program::run("ip", &["-n", &self.name, "link", "set", DEVICE, "mtu", "1400", "txqueuelen", "10000", "up"])?;
        Ok(device)
    }

    /// Does something on a thread inside the namespace. Processes that it starts, and sockets that it opens, belong there.
    ///
    /// # Errors
    /// [`NamespaceError`] when the namespace cannot be entered.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        let entered = std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                self.enter()?;
                Ok(act())
            });
            working.join()
        });
        entered.map_err(|_| NamespaceError::Thread(self.name.clone()))?
    }

    /// Takes the calling thread, and all that it starts from now on, into the namespace for good.
    ///
    /// # Errors
    /// [`NamespaceError`].
    pub fn enter(&self) -> Result<(), NamespaceError> {
        let file = File::open(path(&self.name)).map_err(|source| self.failed("open the file", source))?;
        let moved = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
        moved.map_err(|error| self.failed("enter the file", error.into()))
    }

    fn failed(&self, what: &'static str, source: io::Error) -> NamespaceError {
        NamespaceError::System { what, name: self.name.clone(), source }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = program::run("ip", &["netns", "delete", &self.name]) {
            eprintln!("warning: {error}; `proofline-jepsen clean` removes it");
        }
    }
}

/// Where the system keeps the names of namespaces.
pub(crate) const NAMES: &str = "/run/netns";

fn path(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}
