//! Who may call what: the role table, and the question whether a caller holds a role.
//!
//! Roles live in the ledger, so that granting one is an operator-signed entry. A collector's role is its registration.

use std::{fmt, sync::Arc};

use proofline_ledger::{StoreFault, listing};
use proofline_proto::v1::{CollectorSummary, Role};
use thiserror::Error;

use crate::{store::StateDb, tls};

/// Every public procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rpc {
    /// `Ingest.OpenLane`
    OpenLane,
    /// `Ingest.Append`
    Append,
    /// `Ingest.Propose`
    Propose,
    /// `Ingest.AppendStream`
    AppendStream,
    /// `Ingest.GetCollectorHead`
    GetCollectorHead,
    /// `Audit.GetCheckpoint`
    GetCheckpoint,
    /// `Audit.WatchCheckpoints`
    WatchCheckpoints,
    /// `Audit.GetEntry`
    GetEntry,
    /// `Audit.ReadEntries`
    ReadEntries,
    /// `Audit.ListSessions`
    ListSessions,
    /// `Audit.ListSession`
    ListSession,
    /// `Audit.GetInclusionProof`
    GetInclusionProof,
    /// `Audit.GetReceipt`
    GetReceipt,
    /// `Audit.GetConsistencyProof`
    GetConsistencyProof,
    /// `Audit.GetSessionProof`
    GetSessionProof,
    /// `Audit.GetFacts`
    GetFacts,
    /// `Audit.GetRegistrations`
    GetRegistrations,
    /// `Audit.TraceLineage`
    TraceLineage,
    /// `Control.SubmitCommand`
    SubmitCommand,
    /// `Control.ListAgents`
    ListAgents,
    /// `Control.ListCollectors`
    ListCollectors,
    /// `Control.ClusterStatus`
    ClusterStatus,
    /// `Control.GetRules`
    GetRules,
    /// `Control.ListApprovals`
    ListApprovals,
    /// `Control.ListUnresolved`
    ListUnresolved,
    /// `Control.ListServers`
    ListServers,
    /// `Control.ListTools`
    ListTools,
    /// `Control.ListPurposes`
    ListPurposes,
    /// `Control.ListIncidents`
    ListIncidents,
    /// `Control.ListHolds`
    ListHolds,
    /// `Control.ListContainments`
    ListContainments,
    /// `Control.WatchContainment`
    WatchContainment,
    /// `Control.ListOutlets`
    ListOutlets,
    /// `Control.ListDeliveries`
    ListDeliveries,
    /// `Control.AfterContainment`
    AfterContainment,
    /// `Control.ChangeMembership`
    ChangeMembership,
    /// `Payloads.PutPayload`
    PutPayload,
    /// `Payloads.GetPayload`
    GetPayload,
    /// `Payloads.GetErasure`
    GetErasure,
    /// `Payloads.GetRetention`
    GetRetention,
    /// An entry bundle over HTTP.
    EntryBundle,
}

/// What a procedure asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A valid client certificate: the answer holds hashes only.
    Certificate,
    /// The collector that the request names, by the identity in its registration.
    ThatCollector,
    /// One of these roles, for the tenant in question.
    AnyOf(&'static [Role]),
}

impl Rpc {
    /// Every procedure, in the order of the contract.
    pub const ALL: [Self; 41] = [
        Self::OpenLane,
        Self::Append,
        Self::Propose,
        Self::AppendStream,
        Self::GetCollectorHead,
        Self::GetCheckpoint,
        Self::WatchCheckpoints,
        Self::GetEntry,
        Self::ReadEntries,
        Self::ListSessions,
        Self::ListSession,
        Self::GetInclusionProof,
        Self::GetReceipt,
        Self::GetConsistencyProof,
        Self::GetSessionProof,
        Self::GetFacts,
        Self::GetRegistrations,
        Self::TraceLineage,
        Self::SubmitCommand,
        Self::ListAgents,
        Self::ListCollectors,
        Self::ClusterStatus,
        Self::GetRules,
        Self::ListApprovals,
        Self::ListUnresolved,
        Self::ListServers,
        Self::ListTools,
        Self::ListPurposes,
        Self::ListIncidents,
        Self::ListHolds,
        Self::ListContainments,
        Self::WatchContainment,
        Self::ListOutlets,
        Self::ListDeliveries,
        Self::AfterContainment,
        Self::ChangeMembership,
        Self::PutPayload,
        Self::GetPayload,
        Self::GetErasure,
        Self::GetRetention,
        Self::EntryBundle,
    ];

    /// Returns what the procedure asks of its caller.
    #[must_use]
    pub const fn needs(self) -> Needs {
        match self {
            Self::OpenLane | Self::Append | Self::Propose | Self::AppendStream | Self::GetCollectorHead | Self::PutPayload => {
                Needs::ThatCollector
            }
            Self::GetCheckpoint | Self::WatchCheckpoints | Self::GetInclusionProof | Self::GetReceipt | Self::GetConsistencyProof => {
                Needs::Certificate
            }
            Self::GetEntry
            | Self::ReadEntries
            | Self::ListSessions
            | Self::ListSession
            | Self::GetSessionProof
            | Self::TraceLineage
            | Self::GetFacts
            | Self::AfterContainment => Needs::AnyOf(&[Role::Auditor, Role::Responder]),
            Self::GetRegistrations | Self::EntryBundle | Self::GetPayload => Needs::AnyOf(&[Role::Auditor]),
            Self::SubmitCommand => Needs::AnyOf(&[Role::Operator, Role::Responder]),
            Self::WatchContainment => Needs::AnyOf(&[Role::Collector, Role::Auditor, Role::Responder, Role::Operator]),
            Self::ListAgents
            | Self::ListCollectors
            | Self::ClusterStatus
            | Self::ListContainments
            | Self::ListOutlets
            | Self::ListDeliveries
            | Self::GetRules
            | Self::ListApprovals
            | Self::ListUnresolved
            | Self::ListServers
            | Self::ListTools
            | Self::ListPurposes
            | Self::ListIncidents
            | Self::ListHolds
            | Self::GetErasure
            | Self::GetRetention => Needs::AnyOf(&[Role::Auditor, Role::Responder, Role::Operator]),
            Self::ChangeMembership => Needs::AnyOf(&[Role::Operator]),
        }
    }
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody on this machine, on a listener that was started without TLS. Holds every role.
    Loopback,
    /// The holder of a client certificate, by its SPIFFE id.
    Certified(Arc<str>),
}

impl Caller {
    /// Takes what the listener found out; nobody without a name in a certificate, on a listener that asks for one.
    #[must_use]
    pub fn of(connected: &tls::Caller) -> Option<Self> {
        match (connected.channel, &connected.identity) {
            (tls::Channel::Plaintext, _) => Some(Self::Loopback),
            (tls::Channel::Tls, Some(spiffe_id)) => Some(Self::Certified(spiffe_id.as_str().into())),
            (tls::Channel::Tls, None) => None,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => out.write_str("loopback"),
            Self::Certified(spiffe_id) => out.write_str(spiffe_id),
        }
    }
}

/// The tenant that a call is about.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// One tenant, which the request names.
    Tenant(&'a str),
    /// The tenant of an entry that the request names by its place, or all where the entry belongs to none. Who may not read the
    /// entry is not told whose it is.
    OfEntry(Option<&'a str>),
    /// All of them, or what belongs to none.
    Everything,
}

impl Scope<'_> {
    const fn tenant(&self) -> &str {
        match self {
            Self::Tenant(tenant) | Self::OfEntry(Some(tenant)) => tenant,
            Self::Everything | Self::OfEntry(None) => "*",
        }
    }

    fn named(&self) -> String {
        match self {
            Self::Tenant(tenant) => format!("tenant {tenant:?}"),
            Self::OfEntry(_) => "the tenant of that entry".to_owned(),
            Self::Everything => "tenant \"*\"".to_owned(),
        }
    }
}

/// Why a call is not answered.
#[derive(Debug, Error)]
pub enum Denied {
    /// The caller lacks the role.
    #[error("{caller} may not call {rpc:?} for {of}: it holds none of {roles:?} there")]
    LacksRole {
        /// Who called.
        caller: Caller,
        /// What.
        rpc: Rpc,
        /// For whom, in words.
        of: String,
        /// What would do.
        roles: &'static [Role],
    },
    /// The caller is not the collector that the request names.
    #[error("{caller} is not the identity that collector {collector:?} is registered with")]
    OtherCollector {
        /// Who called.
        caller: Caller,
        /// In whose name.
        collector: String,
    },
    /// Nobody is registered by that name.
    #[error("collector {0:?} is not registered")]
    UnknownCollector(String),
    /// The state could not be read.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// Checks that `caller` may call `rpc` about `scope`.
///
/// # Errors
/// [`Denied`] when it may not.
pub fn check_role(state: &StateDb, caller: &Caller, rpc: Rpc, scope: Scope<'_>) -> Result<(), Denied> {
    let (Caller::Certified(spiffe_id), Needs::AnyOf(roles)) = (caller, rpc.needs()) else { return Ok(()) };
    for role in roles {
        if listing::holds_role(state, spiffe_id, *role, scope.tenant())? == listing::Held::Yes {
            return Ok(());
        }
    }
    Err(Denied::LacksRole { caller: caller.clone(), rpc, of: scope.named(), roles })
}

/// Checks that `caller` is the collector `id`, and returns its registration.
///
/// # Errors
/// [`Denied`] when it is somebody else, or nobody is registered by that name.
pub fn check_collector(state: &StateDb, caller: &Caller, id: &str) -> Result<CollectorSummary, Denied> {
    let found = listing::collector(state, id)?.ok_or_else(|| Denied::UnknownCollector(id.to_owned()))?;
    let is_caller = match caller {
        Caller::Loopback => true,
        Caller::Certified(spiffe_id) => found.registration.as_ref().is_some_and(|it| *it.spiffe_id == **spiffe_id),
    };
    if is_caller { Ok(found) } else { Err(Denied::OtherCollector { caller: caller.clone(), collector: id.to_owned() }) }
}
