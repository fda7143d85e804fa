//! What is contained, and every change of it as it happens.
//!
//! A watcher is served from what this node has applied, not from what is published: it is there to stop somebody, and what
//! is applied is committed.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use proofline_ledger::{ContainmentEntry, EntryIndex, listing};
use proofline_proto::v1::{ListContainmentsRequest, ListContainmentsResponse, WatchContainmentRequest, WatchContainmentResponse};
use tonic::Status;

use super::{
    Api,
    reading::{fault, page},
    status::beyond_log,
};
use crate::access::{Caller, Rpc, Scope};

/// How long a watcher hears nothing at most.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Changes that are read at once.
const CHANGES_MAX: usize = 256;

pub(super) type Changes = Pin<Box<dyn Stream<Item = Result<WatchContainmentResponse, Status>> + Send>>;

impl Api {
    pub(super) fn containments(&self, caller: &Caller, asked: &ListContainmentsRequest) -> Result<ListContainmentsResponse, Status> {
        self.check_role(caller, Rpc::ListContainments, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?;
        let found = listing::containments(&*self.state.view(), asked.after_id, limit).map_err(fault)?;
        let next_after = if found.len() == limit { found.last().map_or(0, |it| it.containment_id) } else { 0 };
        let is_asked_for = |it: &proofline_proto::v1::ContainmentSummary| {
            (asked.released || it.released_by_index == 0)
                && it.targets.first().is_some_and(|of| of.tenant_id == asked.tenant_id || of.tenant_id == "*" || asked.tenant_id == "*")
        };
        Ok(ListContainmentsResponse { containments: found.into_iter().filter(is_asked_for).collect(), next_after })
    }

    pub(super) fn watch(&self, caller: Caller, asked: WatchContainmentRequest) -> Result<Changes, Status> {
        let size = self.progress.borrow().tree_size.0;
        if asked.from_index > size {
            return Err(beyond_log(size));
        }
        let watcher = Watcher { api: self.clone(), caller, tenant: asked.tenant_id, next: asked.from_index };
        watcher.check()?;
        let steps = stream::try_unfold(watcher, |watcher| async move { watcher.step().await.map(Some) });
        Ok(Box::pin(steps.flat_map(|answers: Result<Vec<_>, Status>| match answers {
            Ok(answers) => stream::iter(answers.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(status) => stream::iter(vec![Err(status)]),
        })))
    }
}

/// Goes through the changes in the order of the log: all below `next` were sent.
struct Watcher {
    api: Api,
    caller: Caller,
    tenant: String,
    next: u64,
}

impl Watcher {
    /// A role that was revoked ends the stream within a heartbeat.
    fn check(&self) -> Result<(), Status> {
        let scope = if self.tenant == "*" { Scope::Everything } else { Scope::Tenant(&self.tenant) };
        self.api.check_role(&self.caller, Rpc::WatchContainment, scope)
    }

    /// Waits for entries, or a heartbeat's time, and answers with what came.
    async fn step(mut self) -> Result<(Vec<WatchContainmentResponse>, Self), Status> {
        let mut progress = self.api.progress.clone();
        let next = self.next;
        let grown = async { progress.wait_for(|seen| seen.tree_size.0 > next).await.map(|seen| seen.tree_size.0) };
        let size = match tokio::time::timeout(HEARTBEAT, grown).await {
            Ok(Ok(size)) => size,
            Ok(Err(_)) => return Err(Status::unavailable("the node shuts down")),
            Err(_) => self.next,
        };
        self.check()?;
        let is_beat = size == self.next;
        let state = self.api.state.view();
        let read = move || listing::containment_changes(&*state, EntryIndex(next), EntryIndex(size), CHANGES_MAX);
        let found = tokio::task::spawn_blocking(read).await.map_err(|_| Status::internal("a read was interrupted"))?.map_err(fault)?;
        self.next = if found.len() < CHANGES_MAX { size } else { found.last().map_or(size, |last| last.index.0 + 1) };
        let mut answers: Vec<_> = found.into_iter().filter(|change| self.is_watched(change)).map(answer).collect();
        if is_beat {
            answers.push(WatchContainmentResponse { next_index: self.next, ..Default::default() });
        }
        Ok((answers, self))
    }

    fn is_watched(&self, change: &ContainmentEntry) -> bool {
        let tenant = change.containment.targets.first().map_or("", |target| target.tenant_id.as_str());
        self.tenant == "*" || tenant == "*" || tenant == self.tenant
    }
}

fn answer(change: ContainmentEntry) -> WatchContainmentResponse {
    WatchContainmentResponse {
        next_index: change.index.0 + 1,
        index: change.index.0,
        committed_unix_ns: change.committed.0,
        containment: Some(change.containment),
    }
}
