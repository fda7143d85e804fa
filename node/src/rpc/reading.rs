//! Reads under the newest published checkpoint, off the async threads.

use std::sync::Arc;

use proofline_ledger::{EntryIndex, LogTree, StoreFault, TreeSize, entry, listing};
use proofline_proto::v1;
use tonic::Status;

use super::{
    Api,
    status::{again, beyond, fault_status},
};
use crate::{publisher::Published, store::StateDb};

/// One consistent look at the log: a state, and the checkpoint under which it is read.
#[derive(Clone)]
pub(super) struct View {
    pub(super) state: Arc<StateDb>,
    pub(super) published: Published,
}

impl Api {
    /// Runs `read` on a blocking thread, under the newest published checkpoint.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce(&View) -> Result<T, Status> + Send + 'static,
    {
        let published = self.published.borrow().clone();
        let none = || again("NOT_PUBLISHED", "no checkpoint is published yet");
        // Evil: an older history, or a note that nobody else signed.
        let published = proofline_ledger::evil!(crate::evil::published, self => published.ok_or_else(none)?);
        let view = View { state: self.state.view(), published };
        tokio::task::spawn_blocking(move || read(&view)).await.map_err(|_| Status::internal("a read was interrupted"))?
    }
}

impl Api {
    /// Runs `read` on a blocking thread over what is published; `None` while nothing is.
    ///
    /// # Errors
    /// A status when the local store failed.
    pub(crate) async fn read_published<T, F>(&self, read: F) -> Result<Option<T>, Status>
    where
        T: Send + 'static,
        F: FnOnce(&StateDb, TreeSize) -> Result<Option<T>, StoreFault> + Send + 'static,
    {
        if self.published.borrow().is_none() {
            return Ok(None);
        }
        self.read(move |view| read(&view.state, view.size()).map_err(fault)).await
    }
}

impl Api {
    /// Runs `read` on a blocking thread over what is applied: for listings, which may walk far.
    pub(super) async fn read_applied<T, F>(&self, read: F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: FnOnce(&StateDb) -> Result<T, StoreFault> + Send + 'static,
    {
        let state = self.state.view();
        let reading = tokio::task::spawn_blocking(move || read(&state)).await;
        reading.map_err(|_| Status::internal("a read was interrupted"))?.map_err(fault)
    }
}

impl View {
    pub(super) fn size(&self) -> TreeSize {
        self.published.size
    }

    /// Returns an entry that the checkpoint covers.
    pub(super) fn entry(&self, index: EntryIndex) -> Result<Vec<u8>, Status> {
        if index.0 >= self.size().0 {
            return Err(beyond(self.size().0));
        }
        listing::entry(&*self.state, index).map_err(fault)?.ok_or_else(|| Status::data_loss(format!("entry {index} is missing")))
    }

    /// Returns an entry with its path to the checkpoint's root.
    pub(super) fn proven(&self, tree: &mut LogTree<'_, StateDb>, index: EntryIndex) -> Result<v1::ProvenEntry, Status> {
        let entry = self.entry(index)?;
        let path = tree.inclusion_path(index).map_err(fault)?.ok_or_else(|| beyond(self.size().0))?;
        Ok(v1::ProvenEntry { index: index.0, entry, log_path: path.iter().map(|hash| hash.0.to_vec()).collect() })
    }

    pub(super) fn tree(&self) -> LogTree<'_, StateDb> {
        LogTree::new(&*self.state, self.size())
    }
}

pub(super) fn fault(fault: StoreFault) -> Status {
    fault_status(&fault)
}

/// The tenant of an entry: that of its session or event, `None` for what belongs to nobody in particular.
pub(super) fn tenant(entry: &[u8]) -> Option<String> {
    let (_, core) = entry::parse(entry)?;
    if let Some(session) = core.session {
        return Some(session.tenant_id);
    }
    match core.body? {
        v1::entry_core::Body::Event(recorded) => {
            let event: v1::Event = prost::Message::decode(recorded.event).ok()?;
            Some(event.tenant_id)
        }
        v1::entry_core::Body::Command(signed) => erased_in(&signed),
        v1::entry_core::Body::ErasureDeferred(it) => erased_in(&it.command?),
        v1::entry_core::Body::Containment(change) => change.targets.into_iter().next().map(|target| target.tenant_id),
        _ => None,
    }
}

/// The tenant of an erasure: its auditors have to prove it. Other commands are nobody's in particular.
fn erased_in(signed: &v1::SignedCommand) -> Option<String> {
    let command: v1::Command = prost::Message::decode(&signed.command[..]).ok()?;
    match command.action? {
        v1::command::Action::EraseSubject(it) => Some(it.tenant_id),
        _ => None,
    }
}

/// A page size as asked, within what is served.
pub(super) fn page(asked: u32) -> Result<usize, Status> {
    match asked {
        0 => Ok(100),
        1..=1_000 => Ok(asked as usize),
        _ => Err(Status::invalid_argument("page_size is at most 1000")),
    }
}
