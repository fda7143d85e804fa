use crate::history::{NodeId, OperationId};

/// Anomalies of one kind that are kept; the rest is counted.
const KEPT_MAX: usize = 50;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// What it is called.
    pub name: &'static str,
    /// The entry that it is about.
    pub index: Option<u64>,
    /// The operations that show it.
    pub operations: Vec<OperationId>,
    /// The nodes that show it.
    pub nodes: Vec<NodeId>,
    /// For people.
    pub detail: String,
}

impl Anomaly {
    /// Begins an anomaly.
    #[must_use]
    pub fn new(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, index: None, operations: Vec::new(), nodes: Vec::new(), detail: detail.into() }
    }

    /// Names the entry.
    #[must_use]
    pub fn at(self, index: u64) -> Self {
        Self { index: Some(index), ..self }
    }

    /// Names the operations.
    #[must_use]
    pub fn by(mut self, operations: impl IntoIterator<Item = OperationId>) -> Self {
        self.operations.extend(operations);
        self
    }

    /// Names the nodes.
    #[must_use]
    pub fn on(mut self, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        self.nodes.extend(nodes);
        self
    }
}

/// What a predicate came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It holds.
    True,
    /// It does not: the first things found, and how many there were.
    False {
        /// At most fifty.
        anomalies: Vec<Anomaly>,
        /// All of them.
        count: usize,
    },
    /// The run does not show whether it holds, and why. Never good enough.
    Unknown(Vec<String>),
}

impl Judgement {
    /// Tells whether it holds.
    #[must_use]
    pub const fn is_true(&self) -> bool {
        matches!(self, Self::True)
    }
}

/// What a predicate has found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    anomalies: Vec<Anomaly>,
    count: usize,
    open: Vec<String>,
}

impl Found {
    pub(super) fn add(&mut self, anomaly: Anomaly) {
        self.count += 1;
        if self.anomalies.len() < KEPT_MAX {
            self.anomalies.push(anomaly);
        }
    }

    pub(super) fn check(&mut self, holds: bool, anomaly: impl FnOnce() -> Anomaly) {
        if !holds {
            self.add(anomaly());
        }
    }

    /// Notes that something cannot be decided.
    pub(super) fn open(&mut self, why: impl Into<String>) {
        self.open.push(why.into());
    }

    pub(super) fn judgement(self) -> Judgement {
        if self.count > 0 {
            Judgement::False { anomalies: self.anomalies, count: self.count }
        } else if !self.open.is_empty() {
            Judgement::Unknown(self.open)
        } else {
            Judgement::True
        }
    }
}
