//! A node that answers auditors from a ledger in memory, over a real connection.

use std::{net::SocketAddr, path::Path, pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _};
use proofline_client::{Client, Profile, RetryPolicy};
use proofline_proto::v1::{
    self,
    audit_server::{Audit, AuditServer},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::{
    lineage::Lineage,
    naive::LOG,
    world::{World, policy},
};

/// Alters the pages before they are sent.
pub(crate) type Lie = fn(&Lineage, &mut Vec<v1::LineagePage>);

pub(crate) struct Node {
    pub(crate) answers: Lineage,
    /// The log as it is when registrations are asked for: it has grown since.
    pub(crate) grown: World,
    pub(crate) lie: Lie,
}

impl Node {
    /// Serves on a free port; returns a client whose profile lies in a directory.
    pub(crate) async fn serve(self, directory: &Path) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(AuditServer::from_arc(Arc::new(self)));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        client(address, directory)
    }
}

fn client(address: SocketAddr, directory: &Path) -> Client {
    std::fs::write(directory.join("ledger.policy"), policy()).unwrap();
    let profile = format!("origin = \"ledger.example/agents\"\nendpoints = [\"http://{address}\"]\npolicy = \"ledger.policy\"\n");
    std::fs::write(directory.join("profile.toml"), profile).unwrap();
    let profile = Profile::load(&directory.join("profile.toml")).unwrap();
    Client::connect(&profile, RetryPolicy::default()).unwrap()
}

type Answer<T> = Result<Response<T>, Status>;
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn nothing<T>() -> Answer<T> {
    Err(Status::unimplemented("not asked in these tests"))
}

#[tonic::async_trait]
impl Audit for Node {
    type WatchCheckpointsStream = Messages<v1::GetCheckpointResponse>;
    type ReadEntriesStream = Messages<v1::ReadEntriesResponse>;
    type TraceLineageStream = Messages<v1::LineagePage>;

    async fn trace_lineage(&self, request: Request<v1::TraceLineageRequest>) -> Answer<Self::TraceLineageStream> {
        let request = request.into_inner();
        let mut pages = self.answers.answer(&request.question.unwrap(), request.page_entries as usize);
        (self.lie)(&self.answers, &mut pages);
        Ok(Response::new(futures::stream::iter(pages.into_iter().map(Ok)).boxed()))
    }

    async fn get_registrations(&self, _: Request<v1::GetRegistrationsRequest>) -> Answer<v1::GetRegistrationsResponse> {
        let set = self.grown.registration_set();
        let registrations = set.entries.iter().map(|one| self.grown.proven(one.index as usize)).collect();
        Ok(Response::new(v1::GetRegistrationsResponse { registrations, checkpoint: self.grown.checkpoint().into_bytes() }))
    }

    async fn get_entry(&self, request: Request<v1::GetEntryRequest>) -> Answer<v1::GetEntryResponse> {
        let entry = self.grown.entries[request.into_inner().index as usize].clone();
        Ok(Response::new(v1::GetEntryResponse { entry }))
    }

    async fn get_inclusion_proof(&self, request: Request<v1::GetInclusionProofRequest>) -> Answer<v1::GetInclusionProofResponse> {
        let log_path = self.grown.log_path(request.into_inner().index as usize);
        Ok(Response::new(v1::GetInclusionProofResponse {
            log_path,
            checkpoint: self.grown.checkpoint().into_bytes(),
            ..Default::default()
        }))
    }

    async fn get_consistency_proof(&self, request: Request<v1::GetConsistencyProofRequest>) -> Answer<v1::GetConsistencyProofResponse> {
        let request = request.into_inner();
        let second = if request.second_size == 0 { self.grown.size() } else { request.second_size as usize };
        let path = LOG.consistency(&LOG.leaves(&self.grown.entries[..second]), request.first_size as usize);
        Ok(Response::new(v1::GetConsistencyProofResponse {
            path: path.iter().map(|hash| hash.to_vec()).collect(),
            checkpoint: self.grown.checkpoint().into_bytes(),
            first_size: request.first_size,
            second_size: second as u64,
        }))
    }

    async fn get_facts(&self, request: Request<v1::GetFactsRequest>) -> Answer<v1::GetFactsResponse> {
        let facts = self.grown.facts.get(&(request.into_inner().index as usize)).cloned();
        facts.map(|facts| Response::new(v1::GetFactsResponse { facts })).ok_or_else(|| Status::not_found("no facts"))
    }

    async fn get_checkpoint(&self, _: Request<v1::GetCheckpointRequest>) -> Answer<v1::GetCheckpointResponse> {
        nothing()
    }

    async fn watch_checkpoints(&self, _: Request<v1::WatchCheckpointsRequest>) -> Answer<Self::WatchCheckpointsStream> {
        nothing()
    }

    async fn read_entries(&self, _: Request<v1::ReadEntriesRequest>) -> Answer<Self::ReadEntriesStream> {
        nothing()
    }

    async fn list_sessions(&self, _: Request<v1::ListSessionsRequest>) -> Answer<v1::ListSessionsResponse> {
        nothing()
    }

    async fn list_session(&self, _: Request<v1::ListSessionRequest>) -> Answer<v1::ListSessionResponse> {
        nothing()
    }

    async fn get_receipt(&self, _: Request<v1::GetReceiptRequest>) -> Answer<v1::GetReceiptResponse> {
        nothing()
    }

    async fn get_session_proof(&self, _: Request<v1::GetSessionProofRequest>) -> Answer<v1::GetSessionProofResponse> {
        nothing()
    }
}
