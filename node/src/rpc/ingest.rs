//! What collectors call.

use futures::{Stream, StreamExt as _, future::Either};
use proofline_ledger::{Lane, listing};
use proofline_proto::{
    peer::{item, propose_response},
    v1::{
        AppendRequest, AppendResponse, Batch, Event, GetCollectorHeadRequest, GetCollectorHeadResponse, OpenLaneRequest, OpenLaneResponse,
        ProposeRequest, ProposeResponse, event::Body, ingest_server::Ingest,
    },
};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Api, caller,
    status::{fault_status, malformed},
    submit::{Route, Settled},
};
use crate::access::{Caller, check_collector};

type Receipts = std::pin::Pin<Box<dyn Stream<Item = Result<AppendResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Ingest for Api {
    type AppendStreamStream = Receipts;

    async fn open_lane(&self, request: Request<OpenLaneRequest>) -> Result<Response<OpenLaneResponse>, Status> {
        let caller = caller(&request)?;
        let open = request.into_inner().open.ok_or_else(|| Status::invalid_argument("open is missing"))?;
        self.check_begun()?;
        check_collector(&self.state.view(), &caller, &open.collector_id)?;
        // Planted: who leads, or believes so, does not wait for the others, and answers out of its own state.
        proofline_ledger::planted!(DeposedLeaderAnswers, {
            let agreed = self.submit(item::Item::OpenLane(open.clone()));
            let is_late = tokio::time::timeout(std::time::Duration::from_millis(700), agreed).await.is_err();
            if is_late && self.route().await? == Route::Here {
                let head = listing::collector_head(&*self.state.view(), &open.collector_id, Lane(open.lane));
                let head = head.map_err(|fault| fault_status(&fault))?;
                return Ok(Response::new(OpenLaneResponse { epoch: head.epoch + 1, last: head.last }));
            }
        });
        match self.submit(item::Item::OpenLane(open)).await?.outcome {
            Some(propose_response::Outcome::Opened(opened)) => Ok(Response::new(opened)),
            _ => Err(other_outcome()),
        }
    }

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let caller = caller(&request)?;
        let item = self.batch(&caller, request.into_inner())?;
        let settled = self.submit(item).await;
        self.metrics.appended(&settled);
        receipt(settled).map(Response::new)
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        let caller = caller(&request)?;
        let batch = request.into_inner().batch;
        let is_proposal = batch.as_ref().is_some_and(is_one_intent);
        let item = self.batch(&caller, AppendRequest { batch })?;
        if !is_proposal {
            return Err(malformed("NOT_A_PROPOSAL", "a proposal is a batch of exactly one event, an action_intent"));
        }
        let settled = self.submit(item).await;
        self.metrics.appended(&settled);
        proposed(receipt(settled)?).map(Response::new)
    }

    async fn append_stream(&self, request: Request<Streaming<AppendRequest>>) -> Result<Response<Receipts>, Status> {
        let caller = caller(&request)?;
        let api = self.clone();
        let batches = request.into_inner().map(move |request| api.batch(&caller, request?));
        let settled = match self.route().await? {
            Route::Here => Either::Left(self.stream_here(batches)),
            Route::Node(leader) => Either::Right(self.stream_to(leader, batches).await?),
        };
        let metrics = std::sync::Arc::clone(&self.metrics);
        let receipts = settled.map(move |settled| {
            metrics.appended(&settled);
            receipt(settled)
        });
        Ok(Response::new(Box::pin(receipts)))
    }

    async fn get_collector_head(&self, request: Request<GetCollectorHeadRequest>) -> Result<Response<GetCollectorHeadResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner();
        self.check_begun()?;
        let state = self.state.view();
        check_collector(&state, &caller, &asked.collector_id)?;
        let head = listing::collector_head(&*state, &asked.collector_id, Lane(asked.lane)).map_err(|fault| fault_status(&fault))?;
        Ok(Response::new(head))
    }
}

/// Looks at what is proposed before it takes a place in the chain. What cannot be read is left to the ledger to refuse.
fn is_one_intent(batch: &Batch) -> bool {
    let [event] = batch.events.as_slice() else { return false };
    Event::decode(event.clone()).is_ok_and(|event| matches!(event.body, Some(Body::ActionIntent(_))))
}

fn proposed(receipt: AppendResponse) -> Result<ProposeResponse, Status> {
    let event = receipt.events.into_iter().next().ok_or_else(other_outcome)?;
    Ok(ProposeResponse {
        index: receipt.first_index,
        verdict: event.verdict,
        session_position: event.session_position,
        rejection: event.rejection,
        findings: event.findings,
        action_digest: event.action_digest,
        epoch: receipt.epoch,
        sequence: receipt.sequence,
    })
}

impl Api {
    fn batch(&self, caller: &Caller, request: AppendRequest) -> Result<item::Item, Status> {
        let batch = request.batch.ok_or_else(|| Status::invalid_argument("batch is missing"))?;
        self.check_begun()?;
        check_collector(&self.state.view(), caller, &batch.collector_id)?;
        Ok(item::Item::Batch(batch))
    }
}

fn receipt(settled: Settled) -> Result<AppendResponse, Status> {
    match settled?.outcome {
        Some(propose_response::Outcome::Appended(receipt)) => Ok(receipt),
        _ => Err(other_outcome()),
    }
}

fn other_outcome() -> Status {
    Status::internal("the leader answered another kind of request")
}
