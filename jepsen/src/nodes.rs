//! The nodes of a run: real processes, each in a network namespace, on a disk and by a clock of its own.

mod clock;
mod disk;
mod fleet;
mod observer;
mod process;
mod replacement;

pub use clock::{Clock, ClockError};
pub use disk::{Disk, DiskError, PowerLoss};
pub use fleet::{Beginning, Fleet, FleetPlan, Station, Surprise, WallClocks};
pub use observer::{ClusterView, Observer};
pub use process::{NodeProcess, ProcessError};

use crate::network::Port;

/// A place for a node: a namespace, an address and a disk. A node that was wiped is followed by another one in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Place(pub usize);

impl Place {
    /// Returns where the place is on the switch.
    #[must_use]
    pub fn port(self) -> Port {
        Port(self.0)
    }
}
