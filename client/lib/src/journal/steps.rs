//! The records of a journal.

use proofline_proto::v1;

use crate::lane::LaneName;

/// Names one batch of events in a journal, also when it is signed again under another epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Submission(pub(crate) u64);

/// One record.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Record {
    #[prost(oneof = "Step", tags = "1, 2, 3, 4, 5, 6")]
    pub(crate) step: Option<Step>,
}

/// What a record says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Step {
    #[prost(message, tag = "1")]
    Founded(Founded),
    #[prost(message, tag = "2")]
    Opened(Opened),
    #[prost(message, tag = "3")]
    Signed(Signed),
    #[prost(message, tag = "4")]
    Acknowledged(Acknowledged),
    #[prost(message, tag = "5")]
    Orphaned(Orphaned),
    #[prost(message, tag = "6")]
    Kept(Kept),
}

/// Whose journal this is. First record of every journal.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Founded {
    #[prost(string, tag = "1")]
    pub(crate) origin: String,
    #[prost(string, tag = "2")]
    pub(crate) collector_id: String,
    #[prost(uint32, tag = "3")]
    pub(crate) lane: u32,
}

/// The ledger assigned an epoch.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Opened {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
}

/// A batch as it will be sent, and the sources that its events came from.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Signed {
    #[prost(uint64, tag = "1")]
    pub(crate) submission: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) batch: Option<v1::Batch>,
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(crate) sources: Vec<Vec<u8>>,
}

/// The ledger's receipt.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Acknowledged {
    #[prost(uint64, tag = "1")]
    pub(crate) submission: u64,
    #[prost(message, optional, tag = "2")]
    pub(crate) receipt: Option<v1::AppendResponse>,
}

/// The ledger can no longer take a batch that it never took.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Orphaned {
    #[prost(uint64, tag = "1")]
    pub(crate) submission: u64,
}

/// What a compaction keeps of the history, apart from the batches that wait.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Kept {
    #[prost(uint64, tag = "1")]
    pub(crate) next_submission: u64,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) sources: Vec<Vec<u8>>,
    /// The newest batch that was acknowledged, or as far as the ledger went when it was found to have less.
    #[prost(message, optional, tag = "3")]
    pub(crate) acknowledged: Option<Place>,
}

/// A place in a lane.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Place {
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) sequence: u64,
}

impl Founded {
    pub(crate) fn of(lane: &LaneName) -> Self {
        Self { origin: lane.origin.clone(), collector_id: lane.collector_id.clone(), lane: lane.lane }
    }
}

impl From<Founded> for LaneName {
    fn from(of: Founded) -> Self {
        Self { origin: of.origin, collector_id: of.collector_id, lane: of.lane }
    }
}
