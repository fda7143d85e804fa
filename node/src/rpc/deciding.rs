//! What stands around decisions: the rules, what waits for a yes, what came of what was allowed, and facts.

use proofline_ledger::{ENGINE, EntryIndex, RuleSet, StoreFault, listing};
use proofline_proto::v1::{
    GetFactsRequest, GetFactsResponse, GetRulesRequest, GetRulesResponse, HoldSummary, IncidentStage, IncidentSummary,
    ListApprovalsRequest, ListApprovalsResponse, ListHoldsRequest, ListHoldsResponse, ListIncidentsRequest, ListIncidentsResponse,
    ListPurposesRequest, ListPurposesResponse, ListServersRequest, ListServersResponse, ListUnresolvedRequest, ListUnresolvedResponse,
    RuleSetSummary, UnresolvedIntent, Verdict,
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
/// Intents that are looked at for one page.
const LOOKED_AT_MAX: usize = 10_000;

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
        let read = move |applied: &StateDb| {
            let is_wanted = |it: &proofline_proto::v1::Approval| asked.answered || it.verdict() == Verdict::Unspecified;
            listing::approvals(applied, &asked.tenant_id, is_wanted, limit)
        };
        Ok(ListApprovalsResponse { approvals: self.read_applied(read).await? })
    }

    pub(super) async fn unresolved(&self, caller: &Caller, asked: ListUnresolvedRequest) -> Result<ListUnresolvedResponse, Status> {
        let scope = if asked.tenant_id == "*" { Scope::Everything } else { Scope::Tenant(&asked.tenant_id) };
        self.check_role(caller, Rpc::ListUnresolved, scope)?;
        let limit = page(asked.page_size)?;
        self.read_applied(move |applied| unresolved(applied, &asked, limit)).await
    }

    pub(super) async fn servers(&self, caller: &Caller, asked: ListServersRequest) -> Result<ListServersResponse, Status> {
        self.check_role(caller, Rpc::ListServers, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?;
        let servers = self.read_applied(move |applied| listing::servers(applied, &asked.tenant_id, &asked.after_server_id, limit)).await?;
        let last = servers.last().filter(|_| servers.len() == limit);
        Ok(ListServersResponse { next_after: last.map(|it| it.server_id.clone()).unwrap_or_default(), servers })
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
        let found = self.read_applied(move |applied| listing::holds(applied, asked.after_id, limit)).await?;
        let next_after = found.last().filter(|_| found.len() == limit).map_or(0, |it| it.hold_id);
        let is_of_tenant = |it: &HoldSummary| it.target.as_ref().is_some_and(|of| of.tenant_id == asked.tenant_id || of.tenant_id == "*");
        let is_wanted = |it: &HoldSummary| is_of_tenant(it) && (asked.released || it.released_by_index == 0);
        Ok(ListHoldsResponse { holds: found.into_iter().filter(is_wanted).collect(), next_after })
    }

    pub(super) async fn facts(&self, caller: &Caller, asked: GetFactsRequest) -> Result<GetFactsResponse, Status> {
        let index = EntryIndex(asked.index);
        let read = move |view: &View| Ok((view.entry(index)?, listing::facts(&*view.state, index).map_err(fault)?));
        let (entry, facts) = self.read(read).await?;
        let tenant = tenant(&entry);
        self.check_role(caller, Rpc::GetFacts, tenant.as_deref().map_or(Scope::Everything, Scope::Tenant))?;
        let none = || unknown("NO_FACTS", format!("no facts are kept of entry {index}: no rule had something to say about it"));
        let facts = facts.ok_or_else(none)?;
        Ok(GetFactsResponse { facts: facts.encode_to_vec() })
    }
}

/// Reads a page of intents, of one tenant or all, as old as was asked for. A page may be empty while there are more.
fn unresolved(applied: &StateDb, asked: &ListUnresolvedRequest, limit: usize) -> Result<ListUnresolvedResponse, StoreFault> {
    // Entry 0 is the genesis: behind it is behind nothing.
    let mut after = Some(EntryIndex(asked.after_index)).filter(|after| after.0 > 0);
    let (mut intents, mut looked_at) = (Vec::new(), 0);
    let is_wanted = |it: &UnresolvedIntent| asked.tenant_id == "*" || it.tenant_id == asked.tenant_id;
    let is_old = |it: &UnresolvedIntent| asked.before_unix_ns == 0 || it.committed_unix_ns < asked.before_unix_ns;
    while looked_at < LOOKED_AT_MAX {
        let found = listing::unresolved(applied, after, limit)?;
        looked_at += found.len();
        // Committed times never fall: what comes behind one that is too young is too young.
        let is_over = found.len() < limit || found.last().is_some_and(|last| !is_old(last));
        for intent in found.into_iter().filter(is_old) {
            after = Some(EntryIndex(intent.index));
            if is_wanted(&intent) {
                intents.push(intent);
            }
            if intents.len() == limit {
                return Ok(ListUnresolvedResponse { intents, next_after: after.map_or(0, |after| after.0) });
            }
        }
        if is_over {
            return Ok(ListUnresolvedResponse { intents, next_after: 0 });
        }
    }
    Ok(ListUnresolvedResponse { intents, next_after: after.map_or(0, |after| after.0) })
}
