//! What operators and responders call.

use proofline_ledger::{EntryIndex, listing};
use proofline_proto::{
    peer::{item, propose_response},
    v1::{
        AfterContainmentRequest, AfterContainmentResponse, AgentState, ChangeMembershipRequest, ChangeMembershipResponse,
        ClusterStatusRequest, ClusterStatusResponse, GetRulesRequest, GetRulesResponse, ListAgentsRequest, ListAgentsResponse,
        ListApprovalsRequest, ListApprovalsResponse, ListCollectorsRequest, ListCollectorsResponse, ListContainmentsRequest,
        ListContainmentsResponse, ListDeliveriesRequest, ListDeliveriesResponse, ListHoldsRequest, ListHoldsResponse, ListIncidentsRequest,
        ListIncidentsResponse, ListOutletsRequest, ListOutletsResponse, ListPurposesRequest, ListPurposesResponse, ListServersRequest,
        ListServersResponse, ListToolsRequest, ListToolsResponse, ListUnresolvedRequest, ListUnresolvedResponse, SubmitCommandRequest,
        SubmitCommandResponse, WatchContainmentRequest, control_server::Control,
    },
};
use tonic::{Request, Response, Status};

use super::{Api, caller, containment::Changes, reading::page};
use crate::access::{Rpc, Scope};

#[tonic::async_trait]
impl Control for Api {
    type WatchContainmentStream = Changes;

    async fn submit_command(&self, request: Request<SubmitCommandRequest>) -> Result<Response<SubmitCommandResponse>, Status> {
        // The caller's role opens the door; what the command may do is decided by the keys that signed it.
        self.check_role(&caller(&request)?, Rpc::SubmitCommand, Scope::Everything)?;
        let command = request.into_inner().command.ok_or_else(|| Status::invalid_argument("command is missing"))?;
        let settled = match self.submit(item::Item::Command(command.clone())).await {
            Ok(settled) => settled,
            Err(refusal) => return self.taken_before(command, refusal).await.map(Response::new),
        };
        match settled.outcome {
            Some(propose_response::Outcome::Commanded(done)) => {
                let index = EntryIndex(done.index);
                let entry = self.read_applied(move |applied| listing::entry(applied, index)).await?.unwrap_or_default();
                Ok(Response::new(SubmitCommandResponse { entry, ..done }))
            }
            _ => Err(Status::internal("the leader answered another kind of request")),
        }
    }

    async fn list_agents(&self, request: Request<ListAgentsRequest>) -> Result<Response<ListAgentsResponse>, Status> {
        let caller = caller(&request)?;
        let asked = request.into_inner();
        self.check_role(&caller, Rpc::ListAgents, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?;
        let state = AgentState::try_from(asked.state).map_err(|_| Status::invalid_argument("unknown agent state"))?;
        let (agents, next_after) =
            self.read_applied(move |applied| listing::agents(applied, &asked.tenant_id, state, &asked.after_agent_id, limit)).await?;
        Ok(Response::new(ListAgentsResponse { agents, next_after }))
    }

    async fn list_collectors(&self, request: Request<ListCollectorsRequest>) -> Result<Response<ListCollectorsResponse>, Status> {
        self.check_role(&caller(&request)?, Rpc::ListCollectors, Scope::Everything)?;
        let asked = request.into_inner();
        let limit = page(asked.page_size)?;
        let collectors = self.read_applied(move |applied| listing::collectors(applied, &asked.after_collector_id, limit)).await?;
        let last = collectors.last().and_then(|it| it.registration.as_ref()).map(|it| it.collector_id.clone());
        let next_after = if collectors.len() == limit { last.unwrap_or_default() } else { String::new() };
        Ok(Response::new(ListCollectorsResponse { collectors, next_after }))
    }

    async fn list_containments(&self, request: Request<ListContainmentsRequest>) -> Result<Response<ListContainmentsResponse>, Status> {
        let caller = caller(&request)?;
        self.containments(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn watch_containment(&self, request: Request<WatchContainmentRequest>) -> Result<Response<Changes>, Status> {
        let caller = caller(&request)?;
        self.watch(caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_outlets(&self, request: Request<ListOutletsRequest>) -> Result<Response<ListOutletsResponse>, Status> {
        let caller = caller(&request)?;
        self.outlets_of(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_deliveries(&self, request: Request<ListDeliveriesRequest>) -> Result<Response<ListDeliveriesResponse>, Status> {
        let caller = caller(&request)?;
        self.deliveries(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn after_containment(&self, request: Request<AfterContainmentRequest>) -> Result<Response<AfterContainmentResponse>, Status> {
        let caller = caller(&request)?;
        self.after(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn get_rules(&self, request: Request<GetRulesRequest>) -> Result<Response<GetRulesResponse>, Status> {
        let caller = caller(&request)?;
        self.rules(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_approvals(&self, request: Request<ListApprovalsRequest>) -> Result<Response<ListApprovalsResponse>, Status> {
        let caller = caller(&request)?;
        self.approvals(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_unresolved(&self, request: Request<ListUnresolvedRequest>) -> Result<Response<ListUnresolvedResponse>, Status> {
        let caller = caller(&request)?;
        self.unresolved(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_servers(&self, request: Request<ListServersRequest>) -> Result<Response<ListServersResponse>, Status> {
        let caller = caller(&request)?;
        self.servers(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_tools(&self, request: Request<ListToolsRequest>) -> Result<Response<ListToolsResponse>, Status> {
        let caller = caller(&request)?;
        self.tools(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_purposes(&self, request: Request<ListPurposesRequest>) -> Result<Response<ListPurposesResponse>, Status> {
        let caller = caller(&request)?;
        self.purposes(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_incidents(&self, request: Request<ListIncidentsRequest>) -> Result<Response<ListIncidentsResponse>, Status> {
        let caller = caller(&request)?;
        self.incidents(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn list_holds(&self, request: Request<ListHoldsRequest>) -> Result<Response<ListHoldsResponse>, Status> {
        let caller = caller(&request)?;
        self.holds(&caller, request.into_inner()).await.map(Response::new)
    }

    async fn cluster_status(&self, request: Request<ClusterStatusRequest>) -> Result<Response<ClusterStatusResponse>, Status> {
        self.check_role(&caller(&request)?, Rpc::ClusterStatus, Scope::Everything)?;
        Ok(Response::new(self.cluster().await))
    }

    async fn change_membership(&self, request: Request<ChangeMembershipRequest>) -> Result<Response<ChangeMembershipResponse>, Status> {
        let caller = caller(&request)?;
        self.check_role(&caller, Rpc::ChangeMembership, Scope::Everything)?;
        tracing::info!(%caller, "a change of the membership was asked for");
        self.change_members(request.into_inner()).await.map(Response::new)
    }
}
