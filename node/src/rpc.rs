//! The public procedures and those between nodes. Handlers hold no state: they parse, check the caller, submit or read.

mod audit;
mod containment;
mod control;
mod deciding;
mod forward;
mod ingest;
mod lineage;
mod membership;
mod outlet;
mod payloads;
mod peer;
mod reading;
mod receipt;
mod repaired;
mod status;
mod submit;
mod window;

use std::{sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use proofline_ledger::{EntryIndex, Refusal, TreeSize, entry, listing, outlets};
use proofline_proto::{peer::peer_server::PeerServer, v1};
use tokio::sync::watch;
use tonic::{Request, Status};

use self::peer::PeerRpc;
pub(crate) use self::status::{again, no_answer};
pub use self::{forward::Forwarding, lineage::Answering};
use crate::{
    access::{Caller, Denied, Rpc, Scope, check_role},
    clock::ClockReading,
    comparing::Ahead,
    completeness::{Checker, Confirmed},
    cosigner::CosignerHandle,
    failure::FailureReporter,
    inbox::Inbox,
    leadership::Leadership,
    metrics::Metrics,
    outlets::OutletSettings,
    payloads::Payloads,
    peers::Peers,
    publisher::Published,
    replica::{Progress, Raft},
    store::StateStore,
    tls,
};

/// Longest message that a client may send: a batch of 4 MiB and its frame.
const CLIENT_MESSAGE_BYTES_MAX: usize = 5 << 20;
/// Longest message with a payload: 1 MiB and its frame.
const PAYLOAD_MESSAGE_BYTES_MAX: usize = 2 << 20;
/// Longest message between nodes: one append, bounded by the journal, and its frame.
const PEER_MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What every handler works with; clones are cheap.
#[derive(Clone)]
pub struct Api {
    /// Name of the log.
    pub origin: Arc<str>,
    /// The replicated state.
    pub state: StateStore,
    /// How far it was applied.
    pub progress: watch::Receiver<Progress>,
    /// The newest published checkpoint.
    pub published: watch::Receiver<Option<Published>>,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// Whether this node's clock agrees with the others'.
    pub clock: watch::Receiver<ClockReading>,
    /// Where submissions go.
    pub inbox: Inbox,
    /// The other nodes.
    pub peers: Peers,
    /// Raft.
    pub raft: Raft,
    /// This node's cosigner.
    pub cosigner: CosignerHandle,
    /// What this node thinks of commitments that others would propose.
    pub checker: Checker,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Room for streams on their way to the leader.
    pub forwarding: Forwarding,
    /// Keys of outlets, and how patient to be with them.
    pub outlets: Arc<OutletSettings>,
    /// Which state commitments this node found to be true.
    pub confirmed: watch::Receiver<Confirmed>,
    /// Changes when questions by key are answered over more entries than before.
    pub answers: watch::Receiver<()>,
    /// Signs receipts.
    pub log_key: Arc<SigningKey>,
    /// Signs who reads evidence.
    pub node_key: Arc<SigningKey>,
    /// Room for questions about lineage that wait for a commitment.
    pub asking: Answering,
    /// Room for answers about lineage.
    pub answering: Answering,
    /// Room for those who read the log in order.
    pub reading: Answering,
    /// What the log does not hold.
    pub payloads: Payloads,
    /// What others show that this node cannot compare yet.
    pub ahead: Ahead,
    /// Where it is reported that this node must not go on.
    pub failures: FailureReporter,
}

impl Api {
    /// Makes the three public services.
    #[must_use]
    pub fn public(
        &self,
    ) -> (v1::ingest_server::IngestServer<Self>, v1::audit_server::AuditServer<Self>, v1::control_server::ControlServer<Self>) {
        (
            v1::ingest_server::IngestServer::new(self.clone()).max_decoding_message_size(CLIENT_MESSAGE_BYTES_MAX),
            v1::audit_server::AuditServer::new(self.clone()).max_decoding_message_size(CLIENT_MESSAGE_BYTES_MAX),
            v1::control_server::ControlServer::new(self.clone()).max_decoding_message_size(CLIENT_MESSAGE_BYTES_MAX),
        )
    }

    /// Makes the public service for payloads.
    #[must_use]
    pub fn of_payloads(&self) -> v1::payloads_server::PayloadsServer<Self> {
        v1::payloads_server::PayloadsServer::new(self.clone()).max_decoding_message_size(PAYLOAD_MESSAGE_BYTES_MAX)
    }

    /// Makes the service that other nodes call.
    #[must_use]
    pub fn between_nodes(&self) -> PeerServer<PeerRpc> {
        PeerServer::new(PeerRpc::new(self.clone()))
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
    }

    /// Reads every gauge, and returns all metrics as OpenMetrics text.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let metrics = &self.metrics;
        let progress = *self.progress.borrow();
        metrics.tree_size.set(progress.tree_size.0);
        metrics.applied_log_index.set(progress.applied.map_or(0, |at| at.0));
        metrics.checkpoint_size.set(self.published.borrow().as_ref().map_or(0, |published| published.size.0));
        metrics.inbox_depth.set(self.inbox.depth() as u64);
        let confirmed = self.confirmed.borrow().size;
        metrics.commitment_lag.set(progress.tree_size.0.saturating_sub(confirmed.0));
        metrics.commitment_lag_seconds.set(self.seconds_behind(confirmed));
        metrics.payload_room.set(self.payloads.vault().room().unwrap_or_default());
        let waiting = outlets::all(&*self.state.view()).map(|all| all.iter().map(|it| it.pending).sum());
        metrics.outlet_pending.set(waiting.unwrap_or_default());
        let raft = self.raft.metrics();
        let (term, has_leader) = {
            let seen = raft.borrow();
            (seen.current_term, seen.current_leader.is_some())
        };
        metrics.term.set(term);
        metrics.has_leader.set(u64::from(has_leader));
        metrics.text()
    }

    /// Returns by how much the newest entry is younger than the newest of `size`.
    fn seconds_behind(&self, size: TreeSize) -> f64 {
        let newest = self.progress.borrow().last_committed.0;
        let covered = size.0.checked_sub(1).and_then(|last| listing::entry(&*self.state.view(), EntryIndex(last)).ok().flatten());
        let covered = covered.as_deref().and_then(entry::parse).map_or(newest, |(_, core)| core.committed_unix_ns);
        Duration::from_nanos(newest.saturating_sub(covered)).as_secs_f64()
    }

    fn check_role(&self, caller: &Caller, rpc: Rpc, scope: Scope<'_>) -> Result<(), Status> {
        self.check_begun()?;
        Ok(check_role(&self.state.view(), caller, rpc, scope)?)
    }
}

impl Api {
    /// Before this node has the genesis entry it knows no roles: that is no denial.
    fn check_begun(&self) -> Result<(), Status> {
        if self.has_begun() { Ok(()) } else { Err(status::refusal_status(&Refusal::NotBegun)) }
    }

    /// Tells whether this node has applied the genesis entry.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.progress.borrow().tree_size > TreeSize(0)
    }
}

/// Returns who calls, as the listener found out.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<tls::Caller>().and_then(Caller::of);
    caller.ok_or_else(|| Status::unauthenticated("the client certificate carries no SPIFFE id"))
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::LacksRole { .. } => status::denied("LACKS_ROLE", denied.to_string()),
            Denied::OtherCollector { .. } => status::denied("OTHER_COLLECTOR", denied.to_string()),
            Denied::UnknownCollector(_) => status::unknown("UNKNOWN_COLLECTOR", denied.to_string()),
            Denied::Store(fault) => status::fault_status(&fault),
        }
    }
}
