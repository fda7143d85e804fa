//! The first entry: proposed once, while the log is empty, and held against the file that this node was given.
//!
//! Whoever leads first writes its own file into the log. A node with another one was meant for another ledger, or for
//! another idea of who may change this one, and must not go on as if nothing were wrong.

use std::time::Duration;

use proofline_ledger::{EntryIndex, Outcome, PreparedItem, Refusal, Store, StoreFault, TreeSize, entry, listing};
use proofline_proto::{
    peer::{Item, item},
    v1::{Genesis, entry_core::Body},
};
use prost::Message as _;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Failure, FailureReporter},
    inbox::{Inbox, Submission},
    leadership::Leadership,
    rpc::Api,
};

/// Pause before a proposal that got no answer is made again.
const AGAIN: Duration = Duration::from_millis(200);

/// Why the log and the genesis file do not belong together.
#[derive(Debug, Error)]
pub enum GenesisError {
    /// The log began with another genesis.
    #[error(
        "entry 0 of the log is not what the genesis file says ({logged} and {given} bytes, origins {logged_origin:?} and \
         {given_origin:?}): give this node the genesis file of its cluster, or its own data directory"
    )]
    Other {
        /// Length of the genesis in the log.
        logged: usize,
        /// Length of the one in the file.
        given: usize,
        /// Origin in the log.
        logged_origin: String,
        /// Origin in the file.
        given_origin: String,
    },
    /// The first entry is there, and is no genesis.
    #[error("entry 0 of the log is no genesis")]
    NoGenesis,
    /// The log could not be read.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

impl From<GenesisError> for Failure {
    fn from(error: GenesisError) -> Self {
        let reason = error.to_string();
        match error {
            GenesisError::Other { .. } => Self::OtherGenesis { reason },
            GenesisError::NoGenesis | GenesisError::Store(_) => Self::StorageDamaged { reason },
        }
    }
}

/// Compares the first entry with the genesis that this node was given. A log without entries fits any.
///
/// # Errors
/// [`GenesisError`] when the two are not the same.
pub fn check(store: &impl Store, given: &Genesis) -> Result<(), GenesisError> {
    let Some(first) = listing::entry(store, EntryIndex(0))? else { return Ok(()) };
    let Some(Body::Genesis(logged)) = entry::parse(&first).and_then(|(_, core)| core.body) else { return Err(GenesisError::NoGenesis) };
    if logged == *given {
        return Ok(());
    }
    let (logged_origin, given_origin) = (logged.origin.clone(), given.origin.clone());
    Err(GenesisError::Other { logged: logged.encoded_len(), given: given.encoded_len(), logged_origin, given_origin })
}

/// Proposes the genesis entry while this node leads a ledger that is empty, and compares once there is one.
pub async fn begin(genesis: Genesis, api: Api, failures: FailureReporter, shutdown: CancellationToken) {
    let (mut leadership, mut progress) = (api.leadership.clone(), api.progress.clone());
    while progress.borrow_and_update().tree_size == TreeSize(0) {
        if *leadership.borrow_and_update() == Leadership::Here {
            match propose(&api.inbox, &genesis).await {
                Some(Outcome::Refused(Refusal::AlreadyBegun { .. }) | Outcome::Began) => continue,
                Some(outcome) => {
                    return failures.report(Failure::GenesisRefused { reason: format!("{outcome:?}") });
                }
                None => tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(AGAIN) => continue,
                },
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = leadership.changed() => if changed.is_err() { return },
            changed = progress.changed() => if changed.is_err() { return },
        }
    }
    if let Err(error) = check(&*api.state.view(), &genesis) {
        failures.report(error.into());
    }
}

async fn propose(inbox: &Inbox, genesis: &Genesis) -> Option<Outcome> {
    let item = Item { item: Some(item::Item::Genesis(genesis.clone())) };
    let submission = Submission::new(item, PreparedItem::Genesis(Box::new(genesis.clone())));
    let ticket = inbox.admit_command(submission).ok()?;
    Some(ticket.answer().await.ok()?.outcome)
}

#[cfg(test)]
mod tests {
    use proofline_ledger::{Change, Changes, MapStore, Table};
    use proofline_proto::v1;

    use super::*;

    fn beginning_with(body: Body) -> MapStore {
        let core = v1::EntryCore { body: Some(body), ..Default::default() }.encode_to_vec();
        let entry = v1::Entry { core: core.into(), ..Default::default() }.encode_to_vec();
        let mut store = MapStore::default();
        store.commit(Changes { rows: vec![Change { table: Table::Entries, key: 0_u64.to_be_bytes().to_vec(), value: Some(entry) }] });
        store
    }

    #[test]
    fn a_log_begins_with_the_genesis_that_the_node_was_given() {
        let given = Genesis { origin: "example.org/log".to_owned(), ..Default::default() };
        check(&MapStore::default(), &given).unwrap();
        check(&beginning_with(Body::Genesis(given.clone())), &given).unwrap();
        let other = Genesis { grants: vec![v1::RoleGrant::default()], ..given.clone() };
        let error = check(&beginning_with(Body::Genesis(other)), &given).unwrap_err();
        assert!(matches!(error, GenesisError::Other { .. }), "{error}");
        let error = check(&beginning_with(Body::Command(v1::SignedCommand::default())), &given).unwrap_err();
        assert!(matches!(error, GenesisError::NoGenesis), "{error}");
    }
}
