//! What stands around decisions: the rules, what waits for a yes, what came of what was allowed, and facts.

use proofline_ledger::{
    ENGINE, EntryIndex, RuleSet, StoreFault, UnixNanos, Wanted,
    listing::{self, UnresolvedPage, UnresolvedQuery},
};
use proofline_proto::v1::{
    GetFactsRequest, GetFactsResponse, GetRulesRequest, GetRulesResponse, IncidentStage, IncidentSummary, ListApprovalsRequest,
    ListApprovalsResponse, ListHoldsRequest, ListHoldsResponse, ListIncidentsRequest, ListIncidentsResponse, ListPurposesRequest,
    ListPurposesResponse, ListServersRequest, ListServersResponse, ListToolsRequest, ListToolsResponse, ListUnresolvedRequest,
    ListUnresolvedResponse, RuleSetSummary,
};
use prost::Message as _;
use tonic::Status;

use super::{
    Api,
    reading::{View, fault, page, tenant},
    status::unknown,
};
use crate::{
    access::{Caller, Rpc, Scope},
    store::StateDb,
};

/// Activations that one answer names.
const ACTIVATIONS_MAX: usize = 100;
/// Length of a cursor in the list of tools.
const TOOL_CURSOR_BYTES: usize = 16;

impl Api {
    pub(super) async fn rules(&self, caller: &Caller, asked: GetRulesRequest) -> Result<GetRulesResponse, Status> {
        self.check_role(caller, Rpc::GetRules, Scope::Everything)?;
        let sets = self.read_applied(|applied| listing::rule_sets(applied, ACTIVATIONS_MAX)).await?;
        let activations: Vec<RuleSetSummary> = sets.iter().map(|(summary, _)| summary.clone()).collect();
        let wanted = sets.into_iter().find(|(summary, _)| asked.activated_index == 0 || summary.activated_index == asked.activated_index);
        if wanted.is_none() && asked.activated_index != 0 {
            let message =
                format!("entry {} activated no rules, or is older than the newest {ACTIVATIONS_MAX} activations", asked.activated_index);
            return Err(unknown("UNKNOWN_RULE_SET", message));
        }
        let (rule_set, rules) = wanted.map_or((None, String::new()), |(summary, rules)| (Some(summary), rules));
        Ok(GetRulesResponse { rule_set, rules, schema: RuleSet::schema().to_owned(), engine: ENGINE.to_owned(), activations })
    }

    pub(super) async fn approvals(&self, caller: &Caller, asked: ListApprovalsRequest) -> Result<ListApprovalsResponse, Status> {
        self.check_role(caller, Rpc::ListApprovals, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?;
        let (wanted, after) = (wanted(asked.answered), EntryIndex(asked.after_intent_index));
        let approvals = self.read_applied(move |applied| listing::approvals(applied, &asked.tenant_id, wanted, after, limit)).await?;
        let next_after = approvals.last().filter(|_| approvals.len() == limit).map_or(0, |it| it.intent_index);
        Ok(ListApprovalsResponse { approvals, next_after })
    }

    pub(super) async fn unresolved(&self, caller: &Caller, asked: ListUnresolvedRequest) -> Result<ListUnresolvedResponse, Status> {
        let scope = if asked.tenant_id == "*" { Scope::Everything } else { Scope::Tenant(&asked.tenant_id) };
        self.check_role(caller, Rpc::ListUnresolved, scope)?;
        let limit = page(asked.page_size)?;
        if asked.tenant_id == "*" && asked.after_index > 0 && asked.after_tenant_id.is_empty() {
            return Err(Status::invalid_argument("of every tenant, a page goes on behind both `next_after` and `next_after_tenant_id`"));
        }
        self.read_applied(move |applied| unresolved(applied, &asked, limit)).await
    }

    pub(super) async fn servers(&self, caller: &Caller, asked: ListServersRequest) -> Result<ListServersResponse, Status> {
        self.check_role(caller, Rpc::ListServers, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?;
        let servers = self.read_applied(move |applied| listing::servers(applied, &asked.tenant_id, &asked.after_server_id, limit)).await?;
        let last = servers.last().filter(|_| servers.len() == limit);
        Ok(ListServersResponse { next_after: last.map(|it| it.server_id.clone()).unwrap_or_default(), servers })
    }

    pub(super) async fn tools(&self, caller: &Caller, asked: ListToolsRequest) -> Result<ListToolsResponse, Status> {
        self.check_role(caller, Rpc::ListTools, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?;
        if !matches!(asked.after.len(), 0 | TOOL_CURSOR_BYTES) {
            return Err(Status::invalid_argument("`after` is the `next_after` of the page before"));
        }
        let (tools, next_after) = self.read_applied(move |applied| listing::tools(applied, &asked.tenant_id, &asked.after, limit)).await?;
        Ok(ListToolsResponse { tools, next_after })
    }

    pub(super) async fn purposes(&self, caller: &Caller, asked: ListPurposesRequest) -> Result<ListPurposesResponse, Status> {
        self.check_role(caller, Rpc::ListPurposes, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?;
        let purposes =
            self.read_applied(move |applied| listing::purposes(applied, &asked.tenant_id, &asked.after_purpose_id, limit)).await?;
        let last = purposes.last().filter(|_| purposes.len() == limit);
        Ok(ListPurposesResponse { next_after: last.map(|it| it.purpose_id.clone()).unwrap_or_default(), purposes })
    }

    pub(super) async fn incidents(&self, caller: &Caller, asked: ListIncidentsRequest) -> Result<ListIncidentsResponse, Status> {
        self.check_role(caller, Rpc::ListIncidents, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?;
        let found = self
            .read_applied({
                let (tenant, after) = (asked.tenant_id.clone(), asked.after_incident_id.clone());
                move |applied: &StateDb| listing::incidents(applied, &tenant, &after, limit)
            })
            .await?;
        let next_after = found.last().filter(|_| found.len() == limit).map(|it| it.incident_id.clone()).unwrap_or_default();
        // Incidents that only containments have named are not open.
        let is_wanted = |it: &IncidentSummary| !it.steps.is_empty() && (asked.closed || it.next() != IncidentStage::Unspecified);
        Ok(ListIncidentsResponse { incidents: found.into_iter().filter(is_wanted).collect(), next_after })
    }

    pub(super) async fn holds(&self, caller: &Caller, asked: ListHoldsRequest) -> Result<ListHoldsResponse, Status> {
        self.check_role(caller, Rpc::ListHolds, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?;
        let wanted = wanted(asked.released);
        let read = move |applied: &StateDb| listing::holds(applied, &asked.tenant_id, wanted, asked.after_id, limit);
        let holds = self.read_applied(read).await?;
        let next_after = holds.last().filter(|_| holds.len() == limit).map_or(0, |it| it.hold_id);
        Ok(ListHoldsResponse { holds, next_after })
    }

    pub(super) async fn facts(&self, caller: &Caller, asked: GetFactsRequest) -> Result<GetFactsResponse, Status> {
        let index = EntryIndex(asked.index);
        let read = move |view: &View| Ok((view.entry(index)?, listing::facts(&*view.state, index).map_err(fault)?));
        let (entry, facts) = self.read(read).await?;
        let tenant = tenant(&entry);
        self.check_role(caller, Rpc::GetFacts, Scope::OfEntry(tenant.as_deref()))?;
        let none = || unknown("NO_FACTS", format!("no facts are kept of entry {index}: no rule had something to say about it"));
        let facts = facts.ok_or_else(none)?;
        Ok(GetFactsResponse { facts: facts.encode_to_vec() })
    }
}

/// Reads a page of intents, of one tenant or all, as old as was asked for. A page may be empty while there are more.
fn unresolved(applied: &StateDb, asked: &ListUnresolvedRequest, limit: usize) -> Result<ListUnresolvedResponse, StoreFault> {
    let tenant = Some(asked.tenant_id.as_str()).filter(|tenant| *tenant != "*");
    let query = UnresolvedQuery {
        tenant,
        // Entry 0 is the genesis: behind it is behind nothing.
        after: (asked.after_index > 0).then(|| (tenant.unwrap_or(&asked.after_tenant_id), EntryIndex(asked.after_index))),
        before: (asked.before_unix_ns > 0).then_some(UnixNanos(asked.before_unix_ns)),
        limit,
    };
    let UnresolvedPage { intents, next } = listing::unresolved(applied, &query)?;
    let (next_after_tenant_id, next_after) = next.map_or((String::new(), 0), |(tenant, index)| (tenant, index.0));
    Ok(ListUnresolvedResponse { intents, next_after, next_after_tenant_id })
}

fn wanted(everything: bool) -> Wanted {
    if everything { Wanted::Everything } else { Wanted::Open }
}
