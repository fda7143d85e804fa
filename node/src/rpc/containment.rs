//! What is contained, and every change of it as it happens.
//!
//! A watcher is served from what this node has applied, not from what is published: it is there to stop somebody, and what
//! is applied is committed.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _, stream};
use proofline_ledger::{ContainmentEntry, EntryIndex, Wanted, listing};
use proofline_proto::v1::{ListContainmentsRequest, ListContainmentsResponse, WatchContainmentRequest, WatchContainmentResponse};
use tokio::sync::watch;
use tonic::Status;

use super::{
    Api,
    reading::page,
    status::{again, beyond_log, no_leader},
};
use crate::{
    access::{Caller, Rpc, Scope},
    leadership::Leadership,
    replica::Progress,
    store::StateDb,
};

/// How long a watcher hears nothing at most.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Changes that are read at once.
const CHANGES_MAX: usize = 256;
/// Containments on a page: each may hold 256 targets.
const PAGE_MAX: usize = 100;

pub(super) type Changes = Pin<Box<dyn Stream<Item = Result<WatchContainmentResponse, Status>> + Send>>;

impl Api {
    pub(super) async fn containments(&self, caller: &Caller, asked: ListContainmentsRequest) -> Result<ListContainmentsResponse, Status> {
        self.check_role(caller, Rpc::ListContainments, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?.min(PAGE_MAX);
        let wanted = if asked.released { Wanted::Everything } else { Wanted::Open };
        let read = move |applied: &StateDb| listing::containments(applied, &asked.tenant_id, wanted, asked.after_id, limit);
        // Evil: nothing is contained.
        let containments = proofline_ledger::evil!(crate::evil::containments => self.read_applied(read).await?);
        let next_after = containments.last().filter(|_| containments.len() == limit).map_or(0, |it| it.containment_id);
        Ok(ListContainmentsResponse { containments, next_after })
    }

    pub(super) async fn watch(&self, caller: Caller, asked: WatchContainmentRequest) -> Result<Changes, Status> {
        // Planted: who comes back is told of what happens from now on.
        let next =
            proofline_ledger::planted!(WatcherStartsLate, self.progress.borrow().tree_size.0.max(asked.from_index), asked.from_index);
        let watcher = Watcher { api: self.clone(), caller, tenant: asked.tenant_id, next, sent: Instant::now() };
        watcher.check()?;
        reached(self.progress.clone(), asked.from_index).await?;
        let steps = stream::try_unfold(watcher, |watcher| async move { watcher.step().await.map(Some) });
        Ok(Box::pin(steps.flat_map(|answers: Result<Vec<_>, Status>| match answers {
            Ok(answers) => stream::iter(answers.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(status) => stream::iter(vec![Err(status)]),
        })))
    }
}

/// Has a watcher that comes from a node which was ahead of this one wait; one that names an index of no ledger is told so.
async fn reached(mut progress: watch::Receiver<Progress>, from: u64) -> Result<(), Status> {
    match tokio::time::timeout(HEARTBEAT, progress.wait_for(|seen| seen.tree_size.0 >= from)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(_)) => return Err(shutting_down()),
        Err(_) => {}
    }
    Err(beyond_log(progress.borrow().tree_size.0))
}

fn shutting_down() -> Status {
    again("SHUTTING_DOWN", "the node shuts down")
}

/// Goes through the changes in the order of the log: all below `next` were sent.
struct Watcher {
    api: Api,
    caller: Caller,
    tenant: String,
    next: u64,
    /// When the watcher last heard something.
    sent: Instant,
}

impl Watcher {
    /// A role that was revoked ends the stream within a heartbeat.
    fn check(&self) -> Result<(), Status> {
        let scope = if self.tenant == "*" { Scope::Everything } else { Scope::Tenant(&self.tenant) };
        self.api.check_role(&self.caller, Rpc::WatchContainment, scope)
    }

    /// A beat says that nothing was missed. A node that is cut off from the others cannot say so.
    fn check_current(&self) -> Result<(), Status> {
        let leads_or_follows = matches!(*self.api.leadership.borrow(), Leadership::Here | Leadership::Other(_));
        if leads_or_follows { Ok(()) } else { Err(no_leader("no leader is known here: watch at another node")) }
    }

    /// Reads what changed since; with nothing to tell, waits for a change or for the next beat.
    async fn step(mut self) -> Result<(Vec<WatchContainmentResponse>, Self), Status> {
        loop {
            let seen = *self.api.progress.borrow();
            let (next, size) = (self.next, seen.tree_size.0);
            self.check()?;
            let found = self
                .api
                .read_applied(move |applied| listing::containment_changes(applied, EntryIndex(next), EntryIndex(size), CHANGES_MAX))
                .await?;
            self.next = if found.len() < CHANGES_MAX { size } else { found.last().map_or(size, |last| last.index.0 + 1) };
            let mut answers: Vec<_> = found.into_iter().filter(|change| self.is_watched(change)).map(answer).collect();
            if answers.is_empty() && self.sent.elapsed() >= HEARTBEAT {
                self.check_current()?;
                answers.push(WatchContainmentResponse { next_index: self.next, ..Default::default() });
            }
            if !answers.is_empty() {
                self.sent = Instant::now();
                return Ok((answers, self));
            }
            let mut progress = self.api.progress.clone();
            let changed = async { progress.wait_for(|now| now.containment_generation != seen.containment_generation).await.map(|_| ()) };
            let beat = HEARTBEAT.saturating_sub(self.sent.elapsed());
            if let Ok(Err(_)) = tokio::time::timeout(beat, changed).await {
                return Err(shutting_down());
            }
        }
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

#[cfg(test)]
mod tests {
    use proofline_ledger::{TreeSize, UnixNanos};

    use super::*;

    fn nothing() -> Progress {
        Progress {
            applied: None,
            tree_size: TreeSize(0),
            last_committed: UnixNanos(0),
            taken: TreeSize(0),
            installed: 0,
            committed: TreeSize(0),
            containment_generation: 0,
            outlet_generation: 0,
            erasures: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_shuts_down_before_it_is_as_far_as_the_watcher_says_so() {
        let (applied, progress) = watch::channel(nothing());
        let waiting = tokio::spawn(reached(progress.clone(), 5));
        drop(applied);
        assert_eq!(waiting.await.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn an_index_of_no_ledger_is_refused_when_the_node_does_not_get_there() {
        let (_applied, progress) = watch::channel(nothing());
        assert_eq!(reached(progress, 5).await.unwrap_err().code(), tonic::Code::OutOfRange);
    }
}
