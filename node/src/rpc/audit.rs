//! What auditors, compliance teams and responders call: reads and proofs, answered by any node without the leader.

use std::{collections::BTreeMap, pin::Pin};

use futures::{Stream, StreamExt as _, stream};
use proofline_ledger::{EntryIndex, Position, SessionAt, SignedBatch, TreeSize, entry, listing, session_at, session_entries, session_path};
use proofline_proto::v1::{
    GetCheckpointRequest, GetCheckpointResponse, GetConsistencyProofRequest, GetConsistencyProofResponse, GetEntryRequest,
    GetEntryResponse, GetFactsRequest, GetFactsResponse, GetInclusionProofRequest, GetInclusionProofResponse, GetReceiptRequest,
    GetReceiptResponse, GetRegistrationsRequest, GetRegistrationsResponse, GetSessionProofRequest, GetSessionProofResponse,
    ListSessionRequest, ListSessionResponse, ListSessionsRequest, ListSessionsResponse, ReadEntriesRequest, ReadEntriesResponse,
    SessionMember, SessionProof, TraceLineageRequest, WatchCheckpointsRequest, audit_server::Audit, entry_core::Body,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tonic::{Request, Response, Status};

use super::{
    Api, caller,
    lineage::{Pages, Room, TAKEN_WITHIN},
    reading::{View, fault, page, tenant},
    receipt::receipt,
    status::{beyond, late as too_late, unknown},
};
use crate::access::{Caller, Rpc, Scope};

/// Entries in one message of a read, and their bytes.
const CHUNK_ENTRIES: usize = 512;
const CHUNK_BYTES: usize = 1 << 20;

type Notes = Pin<Box<dyn Stream<Item = Result<GetCheckpointResponse, Status>> + Send>>;
type Chunks = Pin<Box<dyn Stream<Item = Result<ReadEntriesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Audit for Api {
    type WatchCheckpointsStream = Notes;
    type ReadEntriesStream = Chunks;
    type TraceLineageStream = Pages;

    async fn get_checkpoint(&self, request: Request<GetCheckpointRequest>) -> Result<Response<GetCheckpointResponse>, Status> {
        self.check_role(&caller(&request)?, Rpc::GetCheckpoint, Scope::Everything)?;
        let checkpoint = self.read(|view| Ok(view.published.note.clone())).await?;
        Ok(Response::new(GetCheckpointResponse { checkpoint }))
    }

    async fn watch_checkpoints(&self, request: Request<WatchCheckpointsRequest>) -> Result<Response<Notes>, Status> {
        self.check_role(&caller(&request)?, Rpc::WatchCheckpoints, Scope::Everything)?;
        let published = WatchStream::new(self.published.clone())
            .filter_map(|published| async move { published.map(|published| Ok(GetCheckpointResponse { checkpoint: published.note })) });
        Ok(Response::new(Box::pin(published)))
    }

    async fn get_entry(&self, request: Request<GetEntryRequest>) -> Result<Response<GetEntryResponse>, Status> {
        let caller = caller(&request)?;
        let index = EntryIndex(request.into_inner().index);
        // Evil: an entry that is not in the log.
        let entry = proofline_ledger::evil!(crate::evil::entry => self.read(move |view| view.entry(index)).await?);
        let tenant = tenant(&entry);
        self.check_role(&caller, Rpc::GetEntry, Scope::OfEntry(tenant.as_deref()))?;
        Ok(Response::new(GetEntryResponse { entry }))
    }

    async fn read_entries(&self, request: Request<ReadEntriesRequest>) -> Result<Response<Chunks>, Status> {
        let caller = caller(&request)?;
        self.check_role(&caller, Rpc::ReadEntries, Scope::Everything)?;
        let asked = request.into_inner();
        let end = if asked.limit == 0 { u64::MAX } else { asked.from_index.saturating_add(asked.limit) };
        let place = self.reading.admit(&caller.to_string())?;
        let walk = Walk { api: self.clone(), caller, next: asked.from_index, end, follows: asked.follow };
        let ((sender, taken), (late, was_late)) = (mpsc::channel(1), oneshot::channel());
        tokio::spawn(walk.give(sender, late, place));
        let late = stream::once(was_late).filter_map(|late| async move { late.ok().map(Err) });
        Ok(Response::new(Box::pin(ReceiverStream::new(taken).chain(late))))
    }

    async fn list_sessions(&self, request: Request<ListSessionsRequest>) -> Result<Response<ListSessionsResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner();
        self.check_role(&caller, Rpc::ListSessions, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?;
        let (found, size) = self
            .read(move |view| {
                let size = view.size();
                let found = listing::sessions(&*view.state, &asked.tenant_id, &asked.after_session_id, limit, size).map_err(fault)?;
                Ok((found, size))
            })
            .await?;
        let next_after =
            if found.len() == limit { found.last().map(|it| it.session_id.clone()).unwrap_or_default() } else { String::new() };
        let sessions = found.iter().map(SessionAt::summary).collect();
        Ok(Response::new(ListSessionsResponse { sessions, next_after, checkpoint_size: size.0 }))
    }

    async fn list_session(&self, request: Request<ListSessionRequest>) -> Result<Response<ListSessionResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner();
        self.check_role(&caller, Rpc::ListSession, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?;
        let page = self.read(move |view| {
            let page = session_page(view, &asked, limit)?;
            // Evil: a session that ends before its end.
            Ok(proofline_ledger::evil!(crate::evil::session_page(&view.state, view.size(), page), page))
        });
        page.await.map(Response::new)
    }

    async fn get_inclusion_proof(&self, request: Request<GetInclusionProofRequest>) -> Result<Response<GetInclusionProofResponse>, Status> {
        self.check_role(&caller(&request)?, Rpc::GetInclusionProof, Scope::Everything)?;
        let index = EntryIndex(request.into_inner().index);
        let proof = self.read(move |view| {
            // Planted: the path in the tree from before the newest entry.
            let size = proofline_ledger::planted!(ProofOfOlderTree, TreeSize(view.size().0.saturating_sub(1)), view.size());
            let mut tree = proofline_ledger::LogTree::new(&*view.state, size);
            let path = tree.inclusion_path(index).map_err(fault)?.ok_or_else(|| beyond(view.size().0))?;
            let leaf = tree.leaf(index).map_err(fault)?.ok_or_else(|| beyond(view.size().0))?;
            Ok(GetInclusionProofResponse {
                index: index.0,
                log_path: path.iter().map(|hash| hash.0.to_vec()).collect(),
                checkpoint: view.published.note.clone(),
                leaf_hash: leaf.0.to_vec(),
            })
        });
        proof.await.map(Response::new)
    }

    async fn get_receipt(&self, request: Request<GetReceiptRequest>) -> Result<Response<GetReceiptResponse>, Status> {
        self.check_role(&caller(&request)?, Rpc::GetReceipt, Scope::Everything)?;
        let index = EntryIndex(request.into_inner().index);
        let (origin, log_key) = (self.origin.clone(), self.log_key.clone());
        let receipt = self.read(move |view| receipt(view, index, &origin, &log_key));
        receipt.await.map(Response::new)
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<GetConsistencyProofResponse>, Status> {
        self.check_role(&caller(&request)?, Rpc::GetConsistencyProof, Scope::Everything)?;
        let asked = request.into_inner();
        self.read(move |view| consistency(view, &asked)).await.map(Response::new)
    }

    async fn get_session_proof(&self, request: Request<GetSessionProofRequest>) -> Result<Response<GetSessionProofResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner();
        self.check_role(&caller, Rpc::GetSessionProof, Scope::Tenant(&asked.tenant_id))?;
        let proof = self.read(move |view| session_proof(view, &asked)).await?;
        Ok(Response::new(GetSessionProofResponse { proof: Some(proof) }))
    }

    async fn get_facts(&self, request: Request<GetFactsRequest>) -> Result<Response<GetFactsResponse>, Status> {
        let caller = caller(&request)?;
        self.facts(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn trace_lineage(&self, request: Request<TraceLineageRequest>) -> Result<Response<Pages>, Status> {
        let caller = caller(&request)?;
        self.lineage(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn get_registrations(&self, request: Request<GetRegistrationsRequest>) -> Result<Response<GetRegistrationsResponse>, Status> {
        let caller = caller(&request)?;
        let GetRegistrationsRequest { collector_id: id, mut tenant_id } = request.into_inner();
        if !id.is_empty() || tenant_id.is_empty() {
            let known = listing::collector(&*self.state.view(), &id).map_err(fault)?.and_then(|it| it.registration);
            tenant_id = known.ok_or_else(|| unknown("UNKNOWN_COLLECTOR", format!("collector {id:?} is not registered")))?.tenant_id;
        }
        let scope = if tenant_id == "*" { Scope::Everything } else { Scope::Tenant(&tenant_id) };
        self.check_role(&caller, Rpc::GetRegistrations, scope)?;
        let answer = self.read(move |view| {
            let mut tree = view.tree();
            let indexes = listing::registrations(&*view.state, &id, view.size()).map_err(fault)?;
            let registrations = indexes.into_iter().map(|index| view.proven(&mut tree, index)).collect::<Result<_, _>>()?;
            Ok(GetRegistrationsResponse { registrations, checkpoint: view.published.note.clone() })
        });
        answer.await.map(Response::new)
    }
}

fn consistency(view: &View, asked: &GetConsistencyProofRequest) -> Result<GetConsistencyProofResponse, Status> {
    let second = if asked.second_size == 0 { view.size().0 } else { asked.second_size };
    if second > view.size().0 {
        return Err(beyond(view.size().0));
    }
    let mut tree = proofline_ledger::LogTree::new(&*view.state, TreeSize(second));
    let path = tree.consistency_path(TreeSize(asked.first_size)).map_err(fault)?;
    let none = || Status::invalid_argument("first_size is 0 or greater than second_size");
    // Evil: a path that proves nothing.
    let path = proofline_ledger::evil!(crate::evil::consistency_path => path.ok_or_else(none)?);
    Ok(GetConsistencyProofResponse {
        path: path.iter().map(|hash| hash.0.to_vec()).collect(),
        checkpoint: view.published.note.clone(),
        first_size: asked.first_size,
        second_size: second,
    })
}

fn find_session(view: &View, tenant: &str, session: &str) -> Result<SessionAt, Status> {
    let found = session_at(&*view.state, tenant, session, view.size()).map_err(fault)?;
    found.ok_or_else(|| unknown("UNKNOWN_SESSION", format!("session {session:?} of tenant {tenant:?} is not in the published log")))
}

fn session_proof(view: &View, asked: &GetSessionProofRequest) -> Result<SessionProof, Status> {
    let session = find_session(view, &asked.tenant_id, &asked.session_id)?;
    let position = Position(asked.position);
    let path = session_path(&*view.state, &session, position).map_err(fault)?;
    let path = path.ok_or_else(|| Status::out_of_range(format!("the session has {} entries", session.size)))?;
    let found = session_entries(&*view.state, &session, position, 1).map_err(fault)?;
    let (index, _) = found.first().copied().ok_or_else(|| Status::data_loss("the session's entry is missing"))?;
    Ok(SessionProof {
        checkpoint: view.published.note.clone(),
        position: position.0,
        session_size: session.size,
        entry: view.entry(index)?,
        session_path: path.iter().map(|hash| hash.0.to_vec()).collect(),
        last: Some(view.proven(&mut view.tree(), session.last)?),
    })
}

fn session_page(view: &View, asked: &ListSessionRequest, limit: usize) -> Result<ListSessionResponse, Status> {
    let session = find_session(view, &asked.tenant_id, &asked.session_id)?;
    let found = session_entries(&*view.state, &session, Position(asked.from_position), limit).map_err(fault)?;
    let mut sources = Sources::default();
    let members: Vec<_> = found.iter().map(|(index, _)| sources.member(view, *index)).collect::<Result<_, _>>()?;
    let next = asked.from_position + members.len() as u64;
    Ok(ListSessionResponse {
        session: Some(session.summary()),
        checkpoint: view.published.note.clone(),
        members,
        statements: sources.batches.into_iter().map(|batch| batch.statement).collect(),
        last: Some(view.proven(&mut view.tree(), session.last)?),
        next_position: if next < session.size { next } else { 0 },
    })
}

/// The batches that the entries of one page came in.
#[derive(Default)]
struct Sources {
    batches: Vec<SignedBatch>,
    places: BTreeMap<(String, u32, u64, u64), usize>,
}

impl Sources {
    fn member(&mut self, view: &View, index: EntryIndex) -> Result<SessionMember, Status> {
        let entry = view.entry(index)?;
        let body = entry::parse(&entry).and_then(|(_, core)| core.body);
        let Some(Body::Event(event)) = body else {
            return Ok(SessionMember { entry, statement: 0, batch_path: Vec::new() });
        };
        let at = event.at.ok_or_else(|| Status::data_loss("an event without its place"))?;
        let key = (at.collector_id.clone(), at.lane, at.epoch, at.sequence);
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None => {
                self.batches.push(SignedBatch::find(&*view.state, &at).map_err(fault)?);
                self.places.insert(key, self.batches.len() - 1);
                self.batches.len() - 1
            }
        };
        let path = self.batches.get(place).and_then(|batch| batch.path(at.offset)).unwrap_or_default();
        let statement = u32::try_from(place).unwrap_or(u32::MAX);
        Ok(SessionMember { entry, statement, batch_path: path.iter().map(|hash| hash.0.to_vec()).collect() })
    }
}

/// A walk through the log in order, at the pace of whoever reads it.
struct Walk {
    api: Api,
    caller: Caller,
    next: u64,
    end: u64,
    follows: bool,
}

impl Walk {
    /// Hands the entries out until the end, until nobody takes them, or until they are left untaken for a while: whoever does
    /// not read holds its room no longer than that.
    async fn give(mut self, to: mpsc::Sender<Result<ReadEntriesResponse, Status>>, late: oneshot::Sender<Status>, _place: Room) {
        loop {
            let step = tokio::select! {
                () = to.closed() => return,
                step = self.step() => step.transpose(),
            };
            let Some(message) = step else { return };
            let is_end = message.is_err();
            match tokio::time::timeout(TAKEN_WITHIN, to.send(message)).await {
                Ok(Ok(())) if !is_end => (),
                Ok(Ok(()) | Err(_)) => return,
                Err(_) => {
                    let message = format!("the entries were not taken for {} s; go on from where they ended", TAKEN_WITHIN.as_secs());
                    return drop(late.send(too_late("ANSWER_TOO_LONG", message)));
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<ReadEntriesResponse>, Status> {
        let mut published = self.api.published.clone();
        while self.next < self.end {
            let covered = published.borrow_and_update().as_ref().map_or(0, |published| published.size.0);
            if self.next < covered {
                // A reader that follows may stay for months; what it may see is decided anew for each message.
                self.api.check_role(&self.caller, Rpc::ReadEntries, Scope::Everything)?;
                let first_index = self.next;
                let entries = self.chunk(covered.min(self.end)).await?;
                self.next += entries.len() as u64;
                return Ok(Some(ReadEntriesResponse { first_index, entries }));
            }
            if !self.follows || published.changed().await.is_err() {
                break;
            }
        }
        Ok(None)
    }

    async fn chunk(&self, to: u64) -> Result<Vec<prost::bytes::Bytes>, Status> {
        let from = self.next;
        let entries = self.api.read(move |view| {
            listing::entries_within(&*view.state, EntryIndex(from), EntryIndex(to), CHUNK_ENTRIES, CHUNK_BYTES).map_err(fault)
        });
        // Evil: entries that are not in the log, or not in that order.
        let entries = proofline_ledger::evil!(crate::evil::entries => entries.await?);
        if entries.is_empty() {
            return Err(Status::data_loss(format!("entry {from} is missing")));
        }
        Ok(entries.into_iter().map(Into::into).collect())
    }
}
