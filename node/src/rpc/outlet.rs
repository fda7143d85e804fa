//! Outlets as they stand, what became of their messages, and what happened after a containment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proofline_ledger::{Direction, EntryIndex, OutletAt, Store, StoreFault, entry, listing, outlets};
use proofline_proto::{
    peer::OutletProblem,
    v1::{
        AfterContainmentRequest, AfterContainmentResponse, AfterEntry, ContainmentSummary, ListDeliveriesRequest, ListDeliveriesResponse,
        ListOutletsRequest, ListOutletsResponse, Outlet, OutletDelivery, OutletReadiness, OutletStatus, PendingDelivery, RecordedDelivery,
        entry_core::Body,
    },
};
use tonic::Status;

use super::{
    Api,
    reading::{page, tenant},
    status::unknown,
};
use crate::access::{Caller, Rpc, Scope};

/// How long a member may take to say what it could not send.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Messages that wait, on the first page of an outlet.
const PENDING_MAX: usize = 100;
/// Entries on a page: each may have 64 KiB.
const AFTER_MAX: usize = 50;

impl Api {
    pub(super) async fn outlets_of(&self, caller: &Caller, asked: ListOutletsRequest) -> Result<ListOutletsResponse, Status> {
        self.check_role(caller, Rpc::ListOutlets, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?;
        let known = self.read_applied(outlets::all).await?;
        let is_asked_for = |it: &OutletAt| {
            let tenant = it.outlet.tenant_id.as_str();
            asked.tenant_id == "*" || tenant == "*" || tenant == asked.tenant_id
        };
        // Rows lie in the order of their keys, which is not that of the ids.
        let by_id: BTreeMap<String, OutletAt> =
            known.into_iter().filter(is_asked_for).map(|it| (it.outlet.outlet_id.clone(), it)).collect();
        let mut found: Vec<OutletAt> =
            by_id.into_values().filter(|it| it.outlet.outlet_id > asked.after_outlet_id).take(limit + 1).collect();
        let is_last = found.len() <= limit;
        found.truncate(limit);
        let next_after = if is_last { String::new() } else { found.last().map(|it| it.outlet.outlet_id.clone()).unwrap_or_default() };
        let problems = self.problems_of_members().await;
        let outlets = self.read_applied(move |applied| found.into_iter().map(|it| status(applied, it, &problems)).collect()).await?;
        Ok(ListOutletsResponse { outlets, next_after })
    }

    /// What this node could not send to.
    pub(super) async fn outlet_problems(&self) -> Result<Vec<OutletProblem>, Status> {
        let settings = Arc::clone(&self.outlets);
        self.read_applied(move |applied| {
            let known: Vec<Outlet> = outlets::all(applied)?.into_iter().map(|it| it.outlet).collect();
            let problems = settings.problems(&known).into_iter();
            Ok(problems.map(|(outlet_id, problem)| OutletProblem { outlet_id, problem }).collect())
        })
        .await
    }

    /// Asks every member; for one that does not answer, nothing is known of any outlet.
    async fn problems_of_members(&self) -> BTreeMap<u64, Result<Vec<OutletProblem>, String>> {
        let asked = self.peers.members().into_keys().map(|node_id| async move {
            if node_id == self.peers.node_id() {
                return (node_id, self.outlet_problems().await.map_err(|status| status.message().to_owned()));
            }
            let answer = tokio::time::timeout(ANSWER_WITHIN, self.peers.outlet_problems(node_id)).await;
            let problems = match answer {
                Ok(Ok(problems)) => Ok(problems),
                Ok(Err(status)) => Err(status.message().to_owned()),
                Err(_) => Err(format!("no answer within {} s", ANSWER_WITHIN.as_secs())),
            };
            (node_id, problems)
        });
        futures::future::join_all(asked).await.into_iter().collect()
    }

    pub(super) async fn deliveries(&self, caller: &Caller, asked: ListDeliveriesRequest) -> Result<ListDeliveriesResponse, Status> {
        self.check_role(caller, Rpc::ListDeliveries, Scope::Tenant(&asked.tenant_id))?;
        let (limit, origin) = (page(asked.page_size)?, Arc::clone(&self.origin));
        if (asked.containment_id == 0) == asked.outlet_id.is_empty() {
            return Err(Status::invalid_argument("ask for the deliveries of one containment or of one outlet"));
        }
        let missing = format!("containment {} or outlet {:?} is not known for this tenant", asked.containment_id, asked.outlet_id);
        let found = if asked.outlet_id.is_empty() {
            self.read_applied(move |applied| deliveries_of_containment(applied, &asked, limit)).await?
        } else {
            self.read_applied(move |applied| deliveries_of_outlet(applied, &origin, &asked, limit)).await?
        };
        found.ok_or_else(|| unknown("UNKNOWN_SUBJECT", missing))
    }

    pub(super) async fn after(&self, caller: &Caller, asked: AfterContainmentRequest) -> Result<AfterContainmentResponse, Status> {
        self.check_role(caller, Rpc::AfterContainment, Scope::Tenant(&asked.tenant_id))?;
        let limit = page(asked.page_size)?.min(AFTER_MAX);
        let missing = format!("containment {} is not known for this tenant", asked.containment_id);
        let found = self.read_applied(move |applied| after_containment(applied, &asked, limit)).await?;
        found.ok_or_else(|| unknown("UNKNOWN_SUBJECT", missing))
    }
}

fn status(
    store: &impl Store,
    it: OutletAt,
    problems: &BTreeMap<u64, Result<Vec<OutletProblem>, String>>,
) -> Result<OutletStatus, StoreFault> {
    let id = it.outlet.outlet_id.clone();
    let readiness = |(node_id, said): (&u64, &Result<Vec<OutletProblem>, String>)| {
        let problem = match said {
            Ok(problems) => problems.iter().find(|it| it.outlet_id == id).map(|it| it.problem.clone()).unwrap_or_default(),
            Err(silent) => silent.clone(),
        };
        OutletReadiness { node_id: *node_id, problem }
    };
    let last = it.last.map(|index| delivery(store, index)).transpose()?.flatten();
    Ok(OutletStatus {
        state: it.state.into(),
        state_by_index: it.state_by.0,
        pending: it.pending,
        dropped: it.dropped,
        not_addressable: it.not_addressable,
        last_index: it.last.map_or(0, |index| index.0),
        last: last.and_then(|it| it.delivery),
        nodes: problems.iter().map(readiness).collect(),
        outlet: Some(it.outlet),
    })
}

fn deliveries_of_containment(
    store: &impl Store,
    asked: &ListDeliveriesRequest,
    limit: usize,
) -> Result<Option<ListDeliveriesResponse>, StoreFault> {
    if containment_of(store, asked.containment_id, &asked.tenant_id)?.is_none() {
        return Ok(None);
    }
    let mut deliveries = Vec::new();
    let mut after = EntryIndex(asked.after_index);
    // Events are found beside the deliveries: looked over, some pages of them at once.
    for _ in 0..10 {
        let indexes = outlets::after_containment(store, asked.containment_id, after, 1_000)?;
        let is_last = indexes.len() < 1_000;
        for index in indexes {
            if deliveries.len() >= limit {
                return Ok(Some(ListDeliveriesResponse { deliveries, next_after: after.0, pending: Vec::new() }));
            }
            deliveries.extend(delivery(store, index)?);
            after = index;
        }
        if is_last {
            return Ok(Some(ListDeliveriesResponse { deliveries, next_after: 0, pending: Vec::new() }));
        }
    }
    Ok(Some(ListDeliveriesResponse { deliveries, next_after: after.0, pending: Vec::new() }))
}

fn deliveries_of_outlet(
    store: &impl Store,
    origin: &str,
    asked: &ListDeliveriesRequest,
    limit: usize,
) -> Result<Option<ListDeliveriesResponse>, StoreFault> {
    let known = outlets::all(store)?.into_iter().find(|it| it.outlet.outlet_id == asked.outlet_id);
    let is_of = |it: &OutletAt| asked.tenant_id == "*" || it.outlet.tenant_id == asked.tenant_id;
    let Some(outlet) = known.filter(is_of).map(|it| it.outlet) else { return Ok(None) };
    let indexes = outlets::deliveries_of_outlet(store, &asked.outlet_id, EntryIndex(asked.after_index), limit)?;
    let next_after = if indexes.len() == limit { indexes.last().map_or(0, |last| last.0) } else { 0 };
    let deliveries = indexes.into_iter().filter_map(|index| delivery(store, index).transpose()).collect::<Result<_, _>>()?;
    let waiting =
        if asked.after_index == 0 { outlets::waiting(store, origin, &outlet, Direction::Ascending, PENDING_MAX)? } else { Vec::new() };
    let pending = waiting.into_iter().map(|it| PendingDelivery {
        entry_index: it.entry.0,
        ordinal: it.ordinal,
        jti: it.jti,
        change_unix_ns: it.committed.0,
        containment_id: it.containment,
        signal: Some(it.signal),
        escalated: it.is_escalated,
    });
    Ok(Some(ListDeliveriesResponse { deliveries, next_after, pending: pending.collect() }))
}

fn delivery(store: &impl Store, index: EntryIndex) -> Result<Option<RecordedDelivery>, StoreFault> {
    let Some(core) = outlets::core(store, index)? else { return Ok(None) };
    let Some(Body::OutletDelivery(delivery)) = core.body else { return Ok(None) };
    let change_unix_ns = change_time(store, &delivery)?;
    Ok(Some(RecordedDelivery { index: index.0, committed_unix_ns: core.committed_unix_ns, change_unix_ns, delivery: Some(delivery) }))
}

fn change_time(store: &impl Store, of: &OutletDelivery) -> Result<u64, StoreFault> {
    Ok(outlets::core(store, EntryIndex(of.entry_index))?.map_or(0, |core| core.committed_unix_ns))
}

/// A containment of everybody is shown to the auditor of each tenant.
fn containment_of(store: &impl Store, id: u64, tenant: &str) -> Result<Option<ContainmentSummary>, StoreFault> {
    let is_of =
        |it: &ContainmentSummary| it.targets.first().is_some_and(|of| tenant == "*" || of.tenant_id == "*" || of.tenant_id == tenant);
    Ok(outlets::containment(store, id)?.filter(is_of))
}

fn after_containment(
    store: &impl Store,
    asked: &AfterContainmentRequest,
    limit: usize,
) -> Result<Option<AfterContainmentResponse>, StoreFault> {
    let Some(containment) = containment_of(store, asked.containment_id, &asked.tenant_id)? else { return Ok(None) };
    let indexes = outlets::after_containment(store, asked.containment_id, EntryIndex(asked.after_index), limit)?;
    let next_after = if indexes.len() == limit { indexes.last().map_or(0, |last| last.0) } else { 0 };
    let mut entries = Vec::new();
    for index in indexes {
        let Some(exact) = listing::entry(store, index)? else { continue };
        // One tenant does not see what another one's agents did under the kill switch. Deliveries are nobody's in particular.
        let is_seen = asked.tenant_id == "*" || tenant(&exact).is_none_or(|of| of == asked.tenant_id);
        let committed = entry::parse(&exact).map(|(_, core)| core.committed_unix_ns);
        if let Some(committed) = committed.filter(|_| is_seen) {
            entries.push(AfterEntry { index: index.0, delay_ns: committed.saturating_sub(containment.began_unix_ns), entry: exact });
        }
    }
    Ok(Some(AfterContainmentResponse { containment: Some(containment), entries, next_after }))
}
