//! What a node counts, in the OpenMetrics text format. No agent, session or collector is a label: their number is not bounded.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use proofline_proto::{
    peer::{ProposeResponse, propose_response},
    v1::DeliveryResult,
};
use tonic::Status;

/// The code of a gRPC answer.
type ByCode = Family<[(&'static str, String); 1], Counter>;
/// What became of a message.
type ByResult = Family<[(&'static str, &'static str); 1], Counter>;
/// A witness of the configuration, and what it answered.
type ByWitness = Family<[(&'static str, String); 2], Counter>;

/// The metrics of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    append_requests: ByCode,
    events: Counter,
    outlet_deliveries: ByResult,
    outlet_attempts_failed: Counter,
    outlet_alarms: Counter,
    witness_answers: ByWitness,
    /// Payloads that were refused because the disk has no room beyond the reserve.
    pub payloads_refused_full: Counter,
    /// Bytes of payloads that the disk has room for.
    pub payload_room: Gauge<u64, AtomicU64>,
    /// Messages that wait to be delivered.
    pub outlet_pending: Gauge<u64, AtomicU64>,
    /// Entries in the log.
    pub tree_size: Gauge<u64, AtomicU64>,
    /// Entries that the newest published checkpoint covers.
    pub checkpoint_size: Gauge<u64, AtomicU64>,
    /// Last applied Raft entry.
    pub applied_log_index: Gauge<u64, AtomicU64>,
    /// Entries behind those that the newest confirmed state commitment covers.
    pub commitment_lag: Gauge<u64, AtomicU64>,
    /// By how much the newest entry is younger than the newest that the commitment covers.
    pub commitment_lag_seconds: Gauge<f64, AtomicU64>,
    /// Keys that entries are found by.
    pub keys: Gauge<u64, AtomicU64>,
    /// How long the map of the last proposed commitment took.
    pub interval_seconds: Gauge<f64, AtomicU64>,
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
            outlet_deliveries: Family::default(),
            outlet_attempts_failed: Counter::default(),
            outlet_alarms: Counter::default(),
            witness_answers: ByWitness::default(),
            payloads_refused_full: Counter::default(),
            payload_room: Gauge::default(),
            outlet_pending: Gauge::default(),
            tree_size: Gauge::default(),
            checkpoint_size: Gauge::default(),
            applied_log_index: Gauge::default(),
            commitment_lag: Gauge::default(),
            commitment_lag_seconds: Gauge::default(),
            keys: Gauge::default(),
            interval_seconds: Gauge::default(),
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
        of.register("outlet_deliveries", "Results of messages that this node recorded, by result", self.outlet_deliveries.clone());
        of.register("outlet_attempts_failed", "Attempts that are followed by another", self.outlet_attempts_failed.clone());
        of.register("witness_answers", "Checkpoints put before witnesses, by witness and result", self.witness_answers.clone());
        of.register(
            "outlet_alarms",
            "Messages given up, outlets paused or disabled, and what keeps this node from sending",
            self.outlet_alarms.clone(),
        );
        of.register("outlet_pending_messages", "Messages that wait to be delivered", self.outlet_pending.clone());
        of.register("tree_size_entries", "Entries in the log", self.tree_size.clone());
        of.register("checkpoint_size_entries", "Entries that the newest published checkpoint covers", self.checkpoint_size.clone());
        of.register(
            "commitment_lag_entries",
            "Entries behind those that the newest confirmed state commitment covers",
            self.commitment_lag.clone(),
        );
        of.register(
            "commitment_lag_seconds",
            "By how much the newest entry is younger than the newest that the commitment covers",
            self.commitment_lag_seconds.clone(),
        );
        of.register("keys", "Keys that entries are found by", self.keys.clone());
        of.register("commitment_seconds", "How long the map of the last proposed state commitment took", self.interval_seconds.clone());
        of.register("raft_applied_log_index", "Last applied Raft entry", self.applied_log_index.clone());
        of.register("raft_term", "Raft term", self.term.clone());
        of.register("raft_has_leader", "1 while a leader is known", self.has_leader.clone());
        of.register(
            "payloads_refused_full",
            "Payloads that this node refused for want of room on its disk",
            self.payloads_refused_full.clone(),
        );
        of.register("payload_room_bytes", "Bytes of payloads that the disk has room for beyond the reserve", self.payload_room.clone());
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

    /// Counts a result that was recorded, and raises the alarm when it is one for somebody to look at.
    pub fn outlet_delivery(&self, result: DeliveryResult) {
        let name = match result {
            DeliveryResult::Delivered => "delivered",
            DeliveryResult::DeadLetter => "dead_letter",
            DeliveryResult::Paused => "paused",
            DeliveryResult::Disabled => "disabled",
            DeliveryResult::Escalated => "escalated",
            DeliveryResult::Unspecified => "unspecified",
        };
        self.outlet_deliveries.get_or_create(&[("result", name)]).inc();
        if result != DeliveryResult::Delivered {
            self.outlet_alarm();
        }
    }

    /// Counts an attempt that is followed by another.
    pub fn outlet_attempt_failed(&self) {
        self.outlet_attempts_failed.inc();
    }

    /// Counts what a witness answered.
    pub fn witness_answered(&self, witness: String, has_cosigned: bool) {
        let result = if has_cosigned { "cosigned" } else { "not_cosigned" };
        self.witness_answers.get_or_create(&[("witness", witness), ("result", result.to_owned())]).inc();
    }

    /// Counts something for somebody to look at.
    pub fn outlet_alarm(&self) {
        self.outlet_alarms.inc();
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
