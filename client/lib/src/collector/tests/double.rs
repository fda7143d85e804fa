//! A ledger of one lane, in memory, over a real connection: it checks chains as the contract says, and fails when told.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt as _};
use proofline_proto::v1::{
    self,
    ingest_server::{Ingest, IngestServer},
};
use proofline_verifier::{BatchDigest, TreeHash as _, events_root, verify_statement};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

pub(super) const ORIGIN: &str = "ledger.example/agents";

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// Nobody leads; nothing happens.
    NoLeader,
    /// It is carried out, and the answer gets lost.
    AnswerLost,
}

#[derive(Default)]
struct State {
    epoch: u64,
    closed: bool,
    sequence: u64,
    last: Option<BatchDigest>,
    /// Epoch and sequence of that batch.
    last_place: (u64, u64),
    nonces: HashMap<Vec<u8>, v1::OpenLaneResponse>,
    held: HashMap<(u64, u64), (BatchDigest, v1::AppendResponse)>,
    entries: Vec<Vec<u8>>,
    mishaps: VecDeque<Option<Mishap>>,
    /// The one key that may sign, when only one may.
    key: Option<Vec<u8>>,
    calls: usize,
}

#[derive(Clone, Default)]
pub(super) struct Double(Arc<Mutex<State>>);

impl Double {
    /// Serves the lane on a free port.
    pub(super) async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(IngestServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    /// Tells what goes wrong with the next batches and openings; `None` is a call that goes well.
    pub(super) fn plan(&self, mishaps: impl IntoIterator<Item = Option<Mishap>>) {
        self.0.lock().unwrap().mishaps.extend(mishaps);
    }

    /// The events of the log, in order.
    pub(super) fn events(&self) -> Vec<String> {
        self.0.lock().unwrap().entries.iter().map(|event| String::from_utf8(event.clone()).unwrap()).collect()
    }

    pub(super) fn epoch(&self) -> u64 {
        self.0.lock().unwrap().epoch
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.lock().unwrap().closed
    }

    pub(super) fn calls(&self) -> usize {
        self.0.lock().unwrap().calls
    }

    /// Registers a key in the place of every other.
    pub(super) fn register(&self, key: Vec<u8>) {
        self.0.lock().unwrap().key = Some(key);
    }

    /// Opens the lane for somebody else.
    pub(super) fn take_over(&self) {
        let mut state = self.0.lock().unwrap();
        (state.epoch, state.sequence, state.closed) = (state.epoch + 1, 0, false);
    }

    /// Forgets the newest batch of the lane, as a node does that acknowledged and did not append.
    pub(super) fn forget_newest(&self) {
        let mut state = self.0.lock().unwrap();
        state.last_place.1 -= 1;
        state.entries.pop();
    }

    /// Forgets everything, as a ledger does that was set up anew.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap() = State::default();
    }

    fn call<T>(&self, carry_out: impl FnOnce(&mut State) -> Result<T, Status>) -> Result<T, Status> {
        let mut state = self.0.lock().unwrap();
        state.calls += 1;
        match state.mishaps.pop_front().flatten() {
            Some(Mishap::NoLeader) => Err(refusal(Code::Unavailable, "NO_LEADER")),
            Some(Mishap::AnswerLost) => carry_out(&mut state).and(Err(refusal(Code::DeadlineExceeded, "FATE_UNKNOWN"))),
            None => carry_out(&mut state),
        }
    }
}

fn refusal(code: Code, reason: &str) -> Status {
    Status::with_error_details(code, reason, ErrorDetails::with_error_info(reason, "proofline", HashMap::new()))
}

impl State {
    fn check_key(&self, key: &[u8]) -> Result<(), Status> {
        let is_registered = self.key.as_ref().is_none_or(|registered| registered == key);
        if is_registered { Ok(()) } else { Err(refusal(Code::PermissionDenied, "KEY_NOT_REGISTERED")) }
    }

    fn open(&mut self, open: &v1::SignedOpenLane) -> Result<v1::OpenLaneResponse, Status> {
        proofline_verifier::verify_open_lane(ORIGIN, open).map_err(|_| refusal(Code::PermissionDenied, "SIGNATURE_DOES_NOT_VERIFY"))?;
        self.check_key(&open.public_key)?;
        if let Some(answer) = self.nonces.get(&open.nonce) {
            return Ok(answer.clone());
        }
        (self.epoch, self.sequence, self.closed) = (self.epoch + 1, 0, false);
        let digest = self.last.unwrap_or(BatchDigest::NONE).as_bytes().to_vec();
        let answer = v1::OpenLaneResponse {
            epoch: self.epoch,
            last: Some(v1::LaneHead { epoch: self.last_place.0, sequence: self.last_place.1, digest }),
        };
        self.nonces.insert(open.nonce.clone(), answer.clone());
        Ok(answer)
    }

    fn append(&mut self, batch: &v1::Batch) -> Result<v1::AppendResponse, Status> {
        let statement = v1::BatchStatement {
            public_key: batch.public_key.clone(),
            collector_id: batch.collector_id.clone(),
            lane: batch.lane,
            epoch: batch.epoch,
            sequence: batch.sequence,
            previous: batch.previous.clone(),
            event_count: batch.events.len() as u32,
            events_root: events_root(&batch.events).as_bytes().to_vec(),
            signature: batch.signature.clone(),
        };
        let digest = verify_statement(ORIGIN, &statement).map_err(|_| refusal(Code::PermissionDenied, "SIGNATURE_DOES_NOT_VERIFY"))?;
        if let Some((held, receipt)) = self.held.get(&(batch.epoch, batch.sequence)) {
            return if *held == digest { Ok(receipt.clone()) } else { Err(refusal(Code::AlreadyExists, "EQUIVOCATION")) };
        }
        self.check_key(&batch.public_key)?;
        self.check_place(batch)?;
        let first_index = self.entries.len() as u64;
        let events = batch.events.iter().map(|_| v1::EventReceipt { verdict: 1, ..Default::default() }).collect();
        let receipt = v1::AppendResponse { epoch: batch.epoch, sequence: batch.sequence, first_index, events };
        self.entries.extend(batch.events.iter().map(|event| event.to_vec()));
        (self.sequence, self.last, self.closed) = (batch.sequence, Some(digest), batch.events.is_empty());
        self.last_place = (batch.epoch, batch.sequence);
        self.held.insert((batch.epoch, batch.sequence), (digest, receipt.clone()));
        Ok(receipt)
    }

    fn check_place(&self, batch: &v1::Batch) -> Result<(), Status> {
        let previous = self.last.unwrap_or(BatchDigest::NONE);
        match () {
            () if batch.epoch < self.epoch => Err(refusal(Code::FailedPrecondition, "EPOCH_FENCED")),
            () if batch.epoch > self.epoch => Err(refusal(Code::FailedPrecondition, "LANE_NOT_OPEN")),
            () if self.closed => Err(refusal(Code::FailedPrecondition, "EPOCH_CLOSED")),
            () if batch.sequence != self.sequence + 1 => Err(refusal(Code::Aborted, "WRONG_SEQUENCE")),
            () if batch.previous != previous.as_bytes() => Err(refusal(Code::Aborted, "WRONG_PREVIOUS")),
            () => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Ingest for Double {
    type AppendStreamStream = Pin<Box<dyn Stream<Item = Result<v1::AppendResponse, Status>> + Send>>;

    async fn open_lane(&self, request: Request<v1::OpenLaneRequest>) -> Result<Response<v1::OpenLaneResponse>, Status> {
        let open = request.into_inner().open.unwrap();
        self.call(|state| state.open(&open)).map(Response::new)
    }

    async fn append(&self, request: Request<v1::AppendRequest>) -> Result<Response<v1::AppendResponse>, Status> {
        let batch = request.into_inner().batch.unwrap();
        self.call(|state| state.append(&batch)).map(Response::new)
    }

    async fn propose(&self, _: Request<v1::ProposeRequest>) -> Result<Response<v1::ProposeResponse>, Status> {
        Err(Status::unimplemented("a collector appends"))
    }

    async fn append_stream(&self, request: Request<Streaming<v1::AppendRequest>>) -> Result<Response<Self::AppendStreamStream>, Status> {
        let double = self.clone();
        // Ends with the first refusal, as the contract says.
        let receipts = request.into_inner().scan(false, move |ended, request| {
            let receipt = (!*ended).then(|| double.call(|state| state.append(&request?.batch.unwrap())));
            *ended |= receipt.as_ref().is_some_and(Result::is_err);
            std::future::ready(receipt)
        });
        Ok(Response::new(Box::pin(receipts)))
    }

    async fn get_collector_head(&self, _: Request<v1::GetCollectorHeadRequest>) -> Result<Response<v1::GetCollectorHeadResponse>, Status> {
        self.call(|state| {
            let (epoch, sequence) = state.last_place;
            let last = state.last.map(|digest| v1::LaneHead { epoch, sequence, digest: digest.as_bytes().to_vec() });
            Ok(v1::GetCollectorHeadResponse { epoch: state.epoch, last, closed: state.closed })
        })
        .map(Response::new)
    }
}
