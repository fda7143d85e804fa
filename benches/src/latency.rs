//! Throughput and latency of one row.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// One measured row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) nodes: u64,
    pub(crate) batch: usize,
    pub(crate) in_flight: usize,
    pub(crate) events_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// What else distinguishes the row.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
}

/// Latencies of acknowledged requests, and the events in them.
#[derive(Debug)]
pub(crate) struct Tally {
    micros: Histogram<u64>,
    events: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        // One microsecond to ten minutes, three digits: bounds that the constructor accepts.
        let micros = Histogram::new_with_bounds(1, 600_000_000, 3).unwrap_or_else(|_| unreachable_bounds());
        Self { micros, events: 0 }
    }

    pub(crate) fn add(&mut self, latency: Duration, events: u64) {
        self.micros.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
        self.events += events;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        // Same bounds: adding does not fail.
        let _ = self.micros.add(&other.micros);
        self.events += other.events;
    }

    pub(crate) fn p50_ms(&self) -> f64 {
        millis(self.micros.value_at_quantile(0.50))
    }

    pub(crate) fn p99_ms(&self) -> f64 {
        millis(self.micros.value_at_quantile(0.99))
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn row(&self, nodes: u64, batch: usize, in_flight: usize, over: Duration) -> Row {
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 events")]
        let events_per_second = self.events as f64 / over.as_secs_f64();
        Row { nodes, batch, in_flight, events_per_second, p50_ms: self.p50_ms(), p99_ms: self.p99_ms(), note: String::new() }
    }
}

fn unreachable_bounds() -> Histogram<u64> {
    Histogram::new(3).unwrap_or_else(|_| std::process::abort())
}

#[expect(clippy::cast_precision_loss, reason = "at most ten minutes in microseconds")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}
