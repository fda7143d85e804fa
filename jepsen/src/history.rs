//! What happened in a run: who asked what of which node, when, and what came back.
//!
//! It holds the types of a history, a recorder that writes it line by line as it happens, and a reader.
//! Always true: one process recorded, so every moment is of one monotonic clock; an operation that did not return, or of which
//! nobody can say whether it took effect, counts as under way for ever; a process has at most one operation open, and one whose
//! operation ended without a definite answer asks nothing more. It draws no conclusions: that is for [`checks`](crate::checks).

mod fault;
mod line;
mod operation;
mod reader;
mod recorder;
mod value;

pub use fault::{Evidence, Fault, FaultId, FaultRecord, Installed, Mark, Marked};
pub use operation::{Action, Answer, Observation, Observed, Operation, Outcome};
pub use reader::{History, HistoryError};
pub use recorder::{Actor, AwayOperation, OpenFault, OpenOperation, Recorder, RunHeader, Written};
pub use value::{
    BatchId, CheckpointSeen, Digest, EventId, EventSent, LaneHead, LaneId, Moment, NodeId, Nonce, OperationId, Process, Receipt, Ruling,
    Run, Way,
};
