//! The lines of a history file: one JSON object each, in the order in which they were recorded.

use serde::{Deserialize, Serialize};

use super::{
    fault::{Evidence, Fault, FaultId, Installed, Mark},
    operation::{Action, Observed, Outcome},
    recorder::RunHeader,
    value::{Moment, NodeId, OperationId, Process},
};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub(super) enum Line {
    /// The first line.
    Run(RunHeader),
    /// An operation begins.
    Invoke { id: OperationId, process: Process, node: NodeId, at: Moment, action: Action },
    /// An operation ends.
    Return { id: OperationId, at: Moment, outcome: Outcome },
    /// A stream brought something.
    Observe { id: OperationId, at: Moment, what: Observed },
    /// A fault begins.
    Fault { id: FaultId, fault: Fault, targets: Vec<NodeId>, detail: String, at: Moment },
    /// A fault ends.
    FaultEnd { id: FaultId, at: Moment, installed: Installed, evidence: Evidence },
    /// Something was seen from outside.
    Mark { at: Moment, what: Mark },
}
