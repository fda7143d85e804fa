use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a member of the cluster is reached, as the replicated membership knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Name of the node, as in its certificate.
    pub name: String,
    /// `host:port` of its peer listener.
    pub peer_address: String,
    /// `host:port` of its client listener, handed to clients that must go elsewhere.
    pub client_address: String,
}

impl fmt::Display for Member {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.name, self.peer_address)
    }
}
