//! Brings this node to have what the others have: after it was down, or when it is new.
//!
//! Each node numbers what it takes. This one remembers how far it has looked at each other node's numbers, page by page, and fetches
//! what it lacks. What it remembers is gone with the process: then it looks at everything again, which costs a look-up each.

use std::{collections::BTreeMap, time::Duration};

use proofline_ledger::{CommittedPayload, EntryIndex};
use proofline_proto::peer::{HeldPayload, ListPayloadsRequest, PayloadPlace, TakenPayload};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{Payloads, Put, VaultError, keeper::Reached};
use crate::{failure::FailureReporter, peers::Peers, store::StateStore};

/// How often the others are asked for news.
const EVERY: Duration = Duration::from_secs(3);
/// Payloads that one page lists.
const PAGE: u32 = 256;
/// How long another node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The task that repairs.
pub struct Repair {
    /// What is here.
    pub payloads: Payloads,
    /// The other nodes.
    pub peers: Peers,
    /// What the log says.
    pub state: StateStore,
    /// Where a store that fails is reported.
    pub failures: FailureReporter,
}

/// Why a page was not looked at to its end.
enum Stopped {
    /// The other node does not answer, or this one does not know the entry yet, or has no room: the next round goes on here.
    ForNow,
    /// This node's store failed.
    Broken(VaultError),
}

impl Repair {
    /// Repairs until shutdown, or until the store fails: then the node ends.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.work()).await.unwrap_or_default();
    }

    async fn work(self) {
        let mut reached = BTreeMap::<u64, Reached>::new();
        let mut rounds = tokio::time::interval(EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let members = self.peers.members();
            reached.retain(|node, _| members.contains_key(node));
            for node in members.into_keys().filter(|node| *node != self.peers.node_id()) {
                let followed = self.follow(node, reached.entry(node).or_default()).await;
                self.payloads.set_reached(&reached);
                if let Err(Stopped::Broken(error)) = followed {
                    tracing::error!(%error, "the payload store cannot go on");
                    self.failures.report((&error).into());
                    return;
                }
            }
        }
    }

    /// Looks at what a node took since the last time.
    async fn follow(&self, node: u64, reached: &mut Reached) -> Result<(), Stopped> {
        loop {
            let request = ListPayloadsRequest { after: reached.number, limit: PAGE };
            let page = in_time(self.peers.list_payloads(node, request)).await.map_err(|_| Stopped::ForNow)?;
            if page.incarnation != reached.incarnation {
                let is_first_page = reached.number == 0;
                *reached = Reached { incarnation: page.incarnation, number: 0 };
                if !is_first_page {
                    continue;
                }
            }
            let is_last = page.taken.len() < PAGE as usize;
            for TakenPayload { number, place } in page.taken {
                if let Some(place) = place {
                    self.repair(node, place).await?;
                }
                reached.number = reached.number.max(number);
            }
            if is_last {
                // Numbers at the end that are gone by now are not listed.
                reached.number = reached.number.max(page.through);
                return Ok(());
            }
        }
    }

    /// Fetches a payload that another node has, unless it is here, or must not be.
    async fn repair(&self, node: u64, place: PayloadPlace) -> Result<(), Stopped> {
        let of = CommittedPayload::find(&*self.state.view(), EntryIndex(place.index), &place.digest);
        // An entry that is not here yet will be.
        let of = of.map_err(|fault| Stopped::Broken(fault.into()))?.ok_or(Stopped::ForNow)?;
        if self.payloads.vault().has(&of).map_err(Stopped::Broken)? || self.is_unwanted(&of)? {
            return Ok(());
        }
        if self.payloads.vault().room().map_err(Stopped::Broken)? <= of.commitment.size_bytes {
            return Err(Stopped::ForNow);
        }
        let index = of.index.0;
        match fetch(&self.peers, node, &of).await {
            Ok(Some((salt, content))) => match self.payloads.put(of, salt, content).await {
                Ok(Put::Kept | Put::Erased(_) | Put::Expired | Put::NoSubject) => Ok(()),
                // The room was taken meanwhile.
                Ok(Put::Full) => Err(Stopped::ForNow),
                Err(error) => Err(Stopped::Broken(error)),
            },
            // It has it no longer.
            Ok(None) => Ok(()),
            // It cannot read it: others may, and what comes behind it must not wait.
            Err(status) if status.code() == Code::DataLoss => {
                tracing::error!(node, entry = index, reason = status.message(), "another node cannot read a payload that it took");
                Ok(())
            }
            Err(_) => Err(Stopped::ForNow),
        }
    }

    fn is_unwanted(&self, of: &CommittedPayload) -> Result<bool, Stopped> {
        let state = self.state.view();
        let broken = |fault: proofline_ledger::StoreFault| Stopped::Broken(fault.into());
        let is_past = of.standing(&*state).map_err(broken)? == proofline_ledger::Standing::Past;
        Ok(is_past || of.subject.is_none() || of.erased(&*state).map_err(broken)?.is_some())
    }
}

/// Fetches salt and content from another node and checks them; `None` when it does not have them, or has something else.
///
/// # Errors
/// A status when the node does not answer.
pub(crate) async fn fetch(peers: &Peers, node: u64, of: &CommittedPayload) -> Result<Option<(Vec<u8>, Vec<u8>)>, Status> {
    let place = PayloadPlace { index: of.index.0, digest: of.commitment.digest.clone() };
    match in_time(peers.fetch_payload(node, place)).await {
        Ok(HeldPayload { salt, content, .. }) => match of.check(&salt, &content) {
            Ok(()) => Ok(Some((salt, content))),
            Err(wrong) => {
                tracing::error!(node, entry = of.index.0, %wrong, "another node gave a payload that is not the one");
                Ok(None)
            }
        },
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

/// Waits for another node, but not for long.
pub(crate) async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Status::deadline_exceeded(format!("no answer within {} s", ANSWER_WITHIN.as_secs()));
    tokio::time::timeout(ANSWER_WITHIN, answer).await.map_err(late)?
}
