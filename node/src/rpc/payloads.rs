//! Payloads as collectors bring them and auditors read them, and what is said of those that were forgotten.

use std::time::Duration;

use futures::{StreamExt as _, stream::FuturesUnordered};
use proofline_ledger::{
    CommittedPayload, EntryIndex, Refusal, Standing, StoreFault, Subject, TreeSize,
    limits::{PAYLOAD_BYTES_MAX, RETENTION_FLOOR_DAYS},
    listing, payloads,
};
use proofline_proto::{
    peer::{HeldPayload, ListPayloadsRequest, ListPayloadsResponse, PayloadPlace, StorePayloadResponse, TakenPayload},
    v1::{
        AccessKind, GetErasureRequest, GetErasureResponse, GetPayloadRequest, GetPayloadResponse, GetRetentionRequest, NodeErasure,
        PutPayloadRequest, PutPayloadResponse, RetentionReport, payloads_server::Payloads,
    },
};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use super::{
    Api, caller,
    reading::tenant,
    status::{again, beyond_log, busy, erased, exhausted, malformed, refusal_status, refused, unknown, vault_status},
};
use crate::{
    access::{Caller, Rpc, Scope, check_collector},
    payloads::{Destroyed, Opened, Put, fetch, in_time},
    store::StateDb,
};

/// How long this node may take to apply an entry whose payload is brought.
const APPLIED_WITHIN: Duration = Duration::from_secs(3);
/// How long the remaining nodes are waited for once a majority has a payload.
const REST_WITHIN: Duration = Duration::from_millis(300);
/// Payloads that one page between nodes lists.
const LISTED_MAX: u32 = 1_000;
/// Holds that a report names.
const HOLDS_MAX: usize = 1_000;

#[tonic::async_trait]
impl Payloads for Api {
    async fn put_payload(&self, request: Request<PutPayloadRequest>) -> Result<Response<PutPayloadResponse>, Status> {
        let caller = caller(&request)?;
        self.bring(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn get_payload(&self, request: Request<GetPayloadRequest>) -> Result<Response<GetPayloadResponse>, Status> {
        let caller = caller(&request)?;
        self.payload(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn get_erasure(&self, request: Request<GetErasureRequest>) -> Result<Response<GetErasureResponse>, Status> {
        let caller = caller(&request)?;
        self.erasure_of(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn get_retention(&self, request: Request<GetRetentionRequest>) -> Result<Response<RetentionReport>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner();
        self.check_role(&caller, Rpc::GetRetention, Scope::Tenant(&asked.tenant_id))?;
        self.retention_of(asked.tenant_id).await.map(Response::new)
    }
}

/// What became of a payload on its way to one node.
enum Handed {
    Kept,
    Erased(Status),
    Not(Status),
}

impl Api {
    /// Keeps what a collector brings on this node and hands it to the others: done when a majority of the voters has it.
    async fn bring(&self, caller: &Caller, brought: PutPayloadRequest) -> Result<PutPayloadResponse, Status> {
        self.check_begun()?;
        let registered = check_collector(&self.state.view(), caller, &brought.collector_id)?;
        if registered.revoked_at_index != 0 {
            let (collector, at) = (brought.collector_id, EntryIndex(registered.revoked_at_index));
            return Err(refusal_status(&Refusal::CollectorRevoked { collector, at }));
        }
        check_form(&brought.digest, &brought.content)?;
        let _room = self.payloads.admit_client().ok_or_else(full)?;
        let PutPayloadRequest { collector_id, index, digest, salt, content } = brought;
        if self.progress.borrow().tree_size <= TreeSize(index) {
            return Err(again("ENTRY_NOT_APPLIED", format!("this node has not applied entry {index} yet")));
        }
        let of = self.find(index, digest).await?.filter(|of| of.collector == collector_id).ok_or_else(|| no_commitment(index))?;
        let place = PayloadPlace { index, digest: of.commitment.digest.clone() };
        let here = self.keep(of, salt.clone(), content.clone()).await;
        if let Err(status) = &here
            && !is(status, FULL)
        {
            return here.map(|()| PutPayloadResponse::default());
        }
        self.hand_over(HeldPayload { place: Some(place), salt, content }, here.err()).await
    }

    /// Checks a payload against its commitment and puts it on this node's disk.
    async fn keep(&self, of: CommittedPayload, salt: Vec<u8>, content: Vec<u8>) -> Result<(), Status> {
        let index = of.index;
        if of.subject.is_none() {
            let message = format!("entry {index} names no initiator, and the commitment no subject: nobody could have the payload erased");
            return Err(refused("NO_SUBJECT", message));
        }
        of.check(&salt, &content).map_err(|wrong| malformed("WRONG_PAYLOAD", wrong.to_string()))?;
        match self.payloads.put(of, salt, content).await.map_err(|error| vault_status(&error))? {
            Put::Kept => Ok(()),
            Put::Erased(by) => Err(erased(by.0)),
            Put::Expired | Put::NoSubject => Err(expired(index)),
            Put::Full => {
                self.metrics.payloads_refused_full.inc();
                let own = self.peers.node_id();
                Err(exhausted(FULL, format!("the disk of node {own} has no room for payloads beyond what is left to its log")))
            }
        }
    }

    /// Hands a payload to every other node. `full` says that this one has no room for it: then a majority of others will do.
    async fn hand_over(&self, payload: HeldPayload, full: Option<Status>) -> Result<PutPayloadResponse, Status> {
        let (own, voters) = (self.peers.node_id(), self.peers.voters());
        let mut holding = usize::from(voters.contains(&own) && full.is_none());
        let others = self.peers.members().into_keys().filter(|node| *node != own);
        let hand = |node: u64| {
            let payload = payload.clone();
            async move { (node, handed(in_time(self.peers.store_payload(node, payload)).await)) }
        };
        let mut handing: FuturesUnordered<_> = others.map(hand).collect();
        let mut last = None;
        loop {
            let next = if holding * 2 > voters.len() {
                // Whoever is late gets it by asking for it.
                tokio::time::timeout(REST_WITHIN, handing.next()).await.unwrap_or(None)
            } else {
                handing.next().await
            };
            match next {
                Some((node, Handed::Kept)) => holding += usize::from(voters.contains(&node)),
                Some((_, Handed::Erased(status))) => return Err(status),
                Some((node, Handed::Not(status))) => last = Some((node, status)),
                None => break,
            }
        }
        if holding * 2 > voters.len() {
            let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
            return Ok(PutPayloadResponse { voters_holding: count(holding), voters: count(voters.len()) });
        }
        if let Some(full) = full {
            return Err(full);
        }
        let why = last.map_or_else(String::new, |(node, status)| format!("; node {node}: {}", status.message()));
        Err(again("PAYLOAD_NOT_DURABLE", format!("{holding} of {} voters have the payload; send it again{why}", voters.len())))
    }

    /// Answers with a payload, after it was recorded who asked.
    async fn payload(&self, caller: &Caller, asked: GetPayloadRequest) -> Result<GetPayloadResponse, Status> {
        self.check_begun()?;
        let index = EntryIndex(asked.index);
        let size = self.progress.borrow().tree_size;
        let entry = self.read_applied(move |state| listing::entry(state, index)).await?;
        let tenant = entry.as_deref().and_then(tenant);
        self.check_role(caller, Rpc::GetPayload, Scope::OfEntry(tenant.as_deref()))?;
        if entry.is_none() {
            return Err(beyond_log(size.0));
        }
        let of = self.find(asked.index, asked.digest).await?.ok_or_else(|| no_commitment(asked.index))?;
        self.check_not_erased(&of).await?;
        let access = self.access(caller, AccessKind::PayloadRead, &asked.purpose)?;
        let _room = self.payloads.admit_client().ok_or_else(full)?;
        self.record(proofline_proto::v1::AccessRecorded { question: of.commitment.digest.clone(), ..access }).await?;
        // What was recorded stands behind every erasure that was acknowledged before, and is applied here.
        self.check_not_erased(&of).await?;
        // The sweep that deletes it may not have come so far.
        if self.standing(&of).await? == Standing::Past {
            return Err(expired(of.index));
        }
        let Opened { salt, content } = match self.opened(&of).await {
            Ok(Some(opened)) => opened,
            Ok(None) => self.fetched(&of).await?,
            // Another node may have it whole, and then it is whole here again.
            Err(damage) if damage.code() == Code::DataLoss => {
                let fetched = self.fetched(&of).await;
                fetched.map_err(|other| if other.code() == Code::Unavailable { other } else { damage })?
            }
            Err(status) => return Err(status),
        };
        self.check_not_erased(&of).await?;
        Ok(GetPayloadResponse { content: content.to_vec(), salt, name: of.commitment.name, media_type: of.commitment.media_type })
    }

    async fn check_not_erased(&self, of: &CommittedPayload) -> Result<(), Status> {
        let of = of.clone();
        let by = self.read_applied(move |state| of.erased(state)).await?;
        by.map_or(Ok(()), |erasure| Err(erased(erasure.index.0)))
    }

    async fn standing(&self, of: &CommittedPayload) -> Result<Standing, Status> {
        let of = of.clone();
        self.read_applied(move |state| of.standing(state)).await
    }

    async fn opened(&self, of: &CommittedPayload) -> Result<Option<Opened>, Status> {
        let (vault, of) = (self.payloads.vault().clone(), of.clone());
        let opening = tokio::task::spawn_blocking(move || vault.get(&of)).await;
        opening.map_err(|_| Status::internal("a read was interrupted"))?.map_err(|error| vault_status(&error))
    }

    /// Fetches from another node what is not here, and keeps it.
    async fn fetched(&self, of: &CommittedPayload) -> Result<Opened, Status> {
        let mut silent = Vec::new();
        for node in self.peers.members().into_keys().filter(|node| *node != self.peers.node_id()) {
            match fetch(&self.peers, node, of).await {
                Ok(Some((salt, content))) => {
                    match self.keep(of.clone(), salt.clone(), content.clone()).await {
                        Err(status) if !is(&status, FULL) => return Err(status),
                        Ok(()) | Err(_) => (),
                    }
                    return Ok(Opened { salt, content: content.into() });
                }
                Ok(None) => (),
                Err(status) => silent.push(format!("node {node}: {}", status.message())),
            }
        }
        if !silent.is_empty() {
            let message = format!("the payload of entry {} is not on the nodes that answer; {}", of.index, silent.join("; "));
            return Err(again("PAYLOAD_NOT_AT_HAND", message));
        }
        match self.standing(of).await? {
            Standing::Past => Err(expired(of.index)),
            Standing::InTime | Standing::Held => Err(unknown(
                "PAYLOAD_NOT_UPLOADED",
                format!("nobody handed over what entry {} commits to, or it was deleted by age", of.index),
            )),
        }
    }

    async fn find(&self, index: u64, digest: Vec<u8>) -> Result<Option<CommittedPayload>, Status> {
        self.read_applied(move |state| CommittedPayload::find(state, EntryIndex(index), &digest)).await
    }

    /// Waits a while for an entry that this node is about to apply.
    async fn applied_through(&self, index: u64) -> Result<(), Status> {
        let mut progress = self.progress.clone();
        let applied = progress.wait_for(|seen| seen.tree_size > TreeSize(index));
        match tokio::time::timeout(APPLIED_WITHIN, applied).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(again("ENTRY_NOT_APPLIED", format!("this node has not applied entry {index} yet"))),
        }
    }

    async fn erasure_of(&self, caller: &Caller, asked: GetErasureRequest) -> Result<GetErasureResponse, Status> {
        self.check_role(caller, Rpc::GetErasure, Scope::Tenant(&asked.tenant_id))?;
        let subject = subject(&asked)?;
        let erasure = self.read_applied(move |state| payloads::erasure(state, &subject)).await?;
        let members = self.peers.members();
        let answers = members.iter().map(|(node, member)| {
            let asked = asked.clone();
            async move {
                let answer = if *node == self.peers.node_id() {
                    self.own_erasure(&asked).await
                } else {
                    in_time(self.peers.node_erasure(*node, asked)).await
                };
                let silent = |status: Status| NodeErasure { error: status.message().to_owned(), ..NodeErasure::default() };
                NodeErasure { node_id: *node, name: member.name.clone(), ..answer.unwrap_or_else(silent) }
            }
        });
        let nodes = futures::future::join_all(answers).await;
        let (erased_by, erased_unix_ns) = erasure.map_or((0, 0), |erasure| (erasure.index.0, erasure.committed.0));
        Ok(GetErasureResponse { erased_by, erased_unix_ns, nodes })
    }

    async fn retention_of(&self, tenant_id: String) -> Result<RetentionReport, Status> {
        let (vault, tenant) = (self.payloads.vault().clone(), tenant_id.clone());
        let read = move |state: &StateDb| -> Result<_, StoreFault> {
            let holds = payloads::holds(state, &tenant, HOLDS_MAX)?;
            let totals = vault.totals(&tenant);
            let oldest = totals.as_ref().ok().and_then(|totals| totals.oldest);
            let oldest = oldest.map(|index| Ok::<_, StoreFault>((index, listing::committed(state, index)?))).transpose()?;
            Ok((payloads::retention(state, &tenant)?, holds, totals, oldest))
        };
        let (retention, holds, totals, oldest) = self.read_applied(read).await?;
        let totals = totals.map_err(|error| vault_status(&error))?;
        Ok(RetentionReport {
            floor_days: RETENTION_FLOOR_DAYS,
            days: retention.as_ref().map_or(0, |it| it.days),
            set_by_index: retention.map_or(0, |it| it.set_by.0),
            payloads: totals.payloads,
            bytes: totals.bytes,
            oldest_index: oldest.map_or(0, |(index, _)| index.0),
            oldest_unix_ns: oldest.and_then(|(_, at)| at).map_or(0, |at| at.0),
            kept_by_holds: self.payloads.held(&tenant_id),
            holds: holds.into_iter().take(HOLDS_MAX).collect(),
            tenant_id,
        })
    }
}

/// What the other nodes ask.
impl Api {
    pub(super) async fn store_payload_here(&self, payload: HeldPayload) -> Result<StorePayloadResponse, Status> {
        let HeldPayload { place, salt, content } = payload;
        let PayloadPlace { index, digest } = place.unwrap_or_default();
        check_form(&digest, &content)?;
        let _room = self.payloads.admit_node().ok_or_else(full)?;
        self.applied_through(index).await?;
        let of = self.find(index, digest).await?.ok_or_else(|| no_commitment(index))?;
        self.keep(of, salt, content).await?;
        Ok(StorePayloadResponse {})
    }

    pub(super) async fn payload_here(&self, place: PayloadPlace) -> Result<HeldPayload, Status> {
        let _room = self.payloads.admit_node().ok_or_else(full)?;
        // Of an entry that is not applied here yet, nothing can be said.
        self.applied_through(place.index).await?;
        let of = self.find(place.index, place.digest.clone()).await?.ok_or_else(|| no_commitment(place.index))?;
        self.check_not_erased(&of).await?;
        let opened = self.opened(&of).await?.ok_or_else(|| unknown("PAYLOAD_NOT_UPLOADED", "this node does not have the payload"))?;
        Ok(HeldPayload { place: Some(place), salt: opened.salt, content: opened.content.to_vec() })
    }

    pub(super) async fn payloads_here(&self, asked: ListPayloadsRequest) -> Result<ListPayloadsResponse, Status> {
        let vault = self.payloads.vault().clone();
        let limit = asked.limit.min(LISTED_MAX) as usize;
        // Read before the list: what is written meanwhile may be missing from it.
        let through = vault.last_number();
        let listing = tokio::task::spawn_blocking(move || vault.taken(asked.after, limit)).await;
        let taken = listing.map_err(|_| Status::internal("a read was interrupted"))?.map_err(|error| vault_status(&error))?;
        let place = |(number, index, digest): (u64, EntryIndex, Vec<u8>)| TakenPayload {
            number,
            place: Some(PayloadPlace { index: index.0, digest }),
        };
        let (incarnation, taken) = (self.payloads.incarnation().to_vec(), taken.into_iter().map(place).collect());
        Ok(ListPayloadsResponse { incarnation, taken, through })
    }

    pub(super) async fn own_erasure(&self, asked: &GetErasureRequest) -> Result<NodeErasure, Status> {
        let (vault, subject) = (self.payloads.vault().clone(), subject(asked)?);
        let reading = tokio::task::spawn_blocking(move || vault.destroyed(&subject)).await;
        let done = reading.map_err(|_| Status::internal("a read was interrupted"))?.map_err(|error| vault_status(&error))?;
        let Destroyed { by, unix_ns, keys, is_rewritten } = done;
        Ok(NodeErasure { destroyed_by: by, destroyed_unix_ns: unix_ns, keys, rewritten: is_rewritten, ..NodeErasure::default() })
    }
}

fn handed(answer: Result<StorePayloadResponse, Status>) -> Handed {
    match answer {
        Ok(StorePayloadResponse {}) => Handed::Kept,
        Err(status) if is(&status, ERASED) => Handed::Erased(status),
        Err(status) => Handed::Not(status),
    }
}

const ERASED: &str = "PAYLOAD_ERASED";
const FULL: &str = "PAYLOAD_STORE_FULL";

fn is(status: &Status, reason: &str) -> bool {
    status.get_details_error_info().is_some_and(|info| info.reason == reason)
}

fn check_form(digest: &[u8], content: &[u8]) -> Result<(), Status> {
    if digest.len() != 32 {
        return Err(malformed("MALFORMED", "the digest is not 32 bytes"));
    }
    if content.len() > PAYLOAD_BYTES_MAX {
        let message = format!("the payload has {} bytes, the limit is {PAYLOAD_BYTES_MAX}", content.len());
        return Err(malformed("TOO_LARGE", message));
    }
    Ok(())
}

fn subject(asked: &GetErasureRequest) -> Result<Subject, Status> {
    let subject = Subject::new(&asked.tenant_id, &asked.issuer, &asked.subject);
    subject.ok_or_else(|| malformed("MALFORMED", "the request names no tenant or no subject"))
}

fn expired(index: EntryIndex) -> Status {
    refused("PAYLOAD_EXPIRED", format!("the payload of entry {index} is past the retention of its tenant"))
}

fn no_commitment(index: u64) -> Status {
    unknown("UNKNOWN_COMMITMENT", format!("entry {index} has no such commitment, or is no event of this collector"))
}

fn full() -> Status {
    busy("TOO_MANY_PAYLOADS", "this node handles as many payloads as it does at once; try again")
}
