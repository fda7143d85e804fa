//! The network between the nodes: a namespace for each, joined by a switch of our own.
//!
//! Every packet between two nodes, and between clients and nodes, passes through one thread that forwards, delays, drops,
//! doubles, reorders or alters it as the conditions of its directed link say. Nothing leaves the machine: a namespace has its
//! loopback device and one TUN device whose other end is the switch. All chance comes from the seed of the run.

mod conditions;
mod namespace;
mod packet;
mod partition;
mod switch;

use std::net::Ipv4Addr;

pub use conditions::{Conditions, LinkCounts};
pub(crate) use namespace::NAMES as NAMESPACE_NAMES;
pub use namespace::{Namespace, NamespaceError};
pub use partition::Partition;
pub use switch::{Switch, SwitchControl, SwitchError};

/// A place on the switch: nodes from 0, then the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Port(pub usize);

impl Port {
    /// Returns the address of the place. The same addresses serve every run: they exist in its namespaces only.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, u8::try_from(self.0 + 1).unwrap_or(u8::MAX))
    }
}

/// One direction between two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Link {
    /// Who sends.
    pub from: Port,
    /// Who receives.
    pub to: Port,
}

impl Link {
    /// Returns both directions between two places.
    #[must_use]
    pub fn both(one: Port, other: Port) -> [Self; 2] {
        [Self { from: one, to: other }, Self { from: other, to: one }]
    }
}
