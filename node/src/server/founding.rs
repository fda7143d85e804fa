//! What is done once in the life of a node: its directory is made, and, with the first ones, the cluster.

use std::path::Path;

use openraft::error::{InitializeError, RaftError};

use super::NodeError;
use crate::{
    config::{Config, MemberEntry},
    data_dir::{DataDir, DataDirError, Identity},
    durable,
    journal::{Journal, JournalError, JournalTrace},
    replica::{Member, Raft},
    signed_tree::{SignedTreeError, SignedTreeFile},
    store::StateStore,
};

pub(super) const SIGNED_TREE: &str = "signed-tree";
const BOOTSTRAP: &str = "bootstrap";

/// Prepares the data directory of a new node.
///
/// On return: the directory belongs to this node, and with `bootstrap` the next start founds the cluster. A crash inside is
/// followed by the same call. A directory that is whole is left as it is; what a node that ran before lost is not made again.
///
/// # Errors
/// [`NodeError`] when the directory is in use, not accessible, or lost something.
pub fn initialise(config: &Config, founding: Founding) -> Result<(), NodeError> {
    let dir = DataDir::open(&config.data_dir, identity(config))?;
    let (signed, high_water) = (dir.root().join(SIGNED_TREE), dir.high_water());
    match (signed.exists(), Journal::trace(&dir)?) {
        (true, JournalTrace::None) => return Err(JournalError::Gone { path: high_water }.into()),
        (true, JournalTrace::Unused | JournalTrace::Used) => drop(SignedTreeFile::open(&signed)?),
        (false, JournalTrace::Used) => return Err(SignedTreeError::Missing { path: signed }.into()),
        (false, JournalTrace::None | JournalTrace::Unused) if StateStore::exists(&dir) => {
            return Err(SignedTreeError::Missing { path: signed }.into());
        }
        (false, trace) => {
            // In this order, so that a record of signed trees without a high-water file tells of a loss.
            if trace == JournalTrace::None {
                Journal::create(&dir)?;
            }
            SignedTreeFile::create(&signed)?;
        }
    }
    if founding == Founding::Bootstrap {
        let failed = |source| DataDirError::File { path: dir.root().to_owned(), source };
        durable::replace(&dir.root().join(BOOTSTRAP), b"founds the cluster at its first start\n").map_err(failed)?;
    }
    Ok(())
}

/// How a new node comes into its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Founding {
    /// It is one of the first members.
    Bootstrap,
    /// It will be added to a cluster that exists.
    Join,
}

pub(super) fn identity(config: &Config) -> Identity {
    Identity { origin: config.genesis.origin.clone(), node_id: config.node_id }
}

/// Founds the cluster, when `init --bootstrap` asked for it and nobody has done so.
pub(super) async fn found(raft: &Raft, root: &Path, members: &[MemberEntry]) -> Result<(), NodeError> {
    let marker = root.join(BOOTSTRAP);
    if !marker.exists() {
        return Ok(());
    }
    let member = |it: &MemberEntry| Member {
        name: it.name.clone(),
        peer_address: it.peer_address.clone(),
        client_address: it.client_address.clone(),
    };
    let members: std::collections::BTreeMap<u64, Member> = members.iter().map(|it| (it.node_id, member(it))).collect();
    match raft.initialize(members).await {
        // Every founder founds with the same members; whoever comes second finds it done.
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => (),
        Err(error) => return Err(NodeError::Raft(error.to_string())),
    }
    let failed = |source| DataDirError::File { path: marker.clone(), source };
    std::fs::remove_file(&marker).map_err(failed)?;
    durable::sync_directory(root).map_err(failed)?;
    Ok(())
}
