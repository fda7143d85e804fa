//! What a node counts, in the OpenMetrics text format. No agent, session or collector is a label: their number is not bounded.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use proofline_proto::peer::{ProposeResponse, propose_response};
use tonic::Status;

/// The code of a gRPC answer.
type ByCode = Family<[(&'static str, String); 1], Counter>;

/// The metrics of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    append_requests: ByCode,
    events: Counter,
    /// Entries in the log.
    pub tree_size: Gauge<u64, AtomicU64>,
    /// Entries that the newest published checkpoint covers.
    pub checkpoint_size: Gauge<u64, AtomicU64>,
    /// Last applied Raft entry.
    pub applied_log_index: Gauge<u64, AtomicU64>,
    /// Raft term.
    pub term: Gauge<u64, AtomicU64>,
    /// 1 while a leader is known.
    pub has_leader: Gauge<u64, AtomicU64>,
    /// Submissions that wait.
    pub inbox_depth: Gauge<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut made = Self {
            registry: Registry::with_prefix("proofline"),
            append_requests: Family::default(),
            events: Counter::default(),
            tree_size: Gauge::default(),
            checkpoint_size: Gauge::default(),
            applied_log_index: Gauge::default(),
            term: Gauge::default(),
            has_leader: Gauge::default(),
            inbox_depth: Gauge::default(),
        };
        made.register();
        made
    }
}

impl Metrics {
    fn register(&mut self) {
        let of = &mut self.registry;
        of.register("append_requests", "Batches answered, by gRPC code", self.append_requests.clone());
        of.register("events_acknowledged", "Events in acknowledged batches", self.events.clone());
        of.register("tree_size_entries", "Entries in the log", self.tree_size.clone());
        of.register("checkpoint_size_entries", "Entries that the newest published checkpoint covers", self.checkpoint_size.clone());
        of.register("raft_applied_log_index", "Last applied Raft entry", self.applied_log_index.clone());
        of.register("raft_term", "Raft term", self.term.clone());
        of.register("raft_has_leader", "1 while a leader is known", self.has_leader.clone());
        of.register("inbox_depth_submissions", "Submissions that wait", self.inbox_depth.clone());
    }

    /// Counts an answered batch.
    pub fn appended(&self, settled: &Result<ProposeResponse, Status>) {
        let code = settled.as_ref().map_or_else(|status| format!("{:?}", status.code()), |_| "Ok".to_owned());
        self.append_requests.get_or_create(&[("code", code)]).inc();
        if let Ok(ProposeResponse { outcome: Some(propose_response::Outcome::Appended(receipt)), .. }) = settled {
            self.events.inc_by(receipt.events.len() as u64);
        }
    }

    /// Writes all of them as OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
