//! Operations: what was asked, and what came back.

use serde::{Deserialize, Serialize};

use super::value::{
    BatchId, CheckpointSeen, Digest, EventSent, LaneHead, LaneId, Moment, NodeId, Nonce, OperationId, Process, Receipt, Run, Way,
};

/// What was asked of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum Action {
    /// Open a lane. Through the log.
    OpenLane {
        /// Which.
        lane: LaneId,
        /// Of the opening; the same again is the same opening.
        nonce: Nonce,
    },
    /// Append a batch. Every try of the same batch is an operation of its own.
    Append {
        /// Its place in the chain.
        batch: BatchId,
        /// By which call.
        way: Way,
        /// Its events, in order. None close the epoch.
        events: Vec<EventSent>,
    },
    /// Append a second batch at a place where another one was acknowledged, as no honest collector does.
    Equivocate {
        /// The place of both.
        batch: BatchId,
        /// Events of the second.
        events: Vec<EventSent>,
    },
    /// Revoke a session with all below it. Through the log.
    Revoke {
        /// The session.
        session: String,
        /// Of the command; the same again is the same command.
        nonce: Nonce,
    },
    /// Release a containment. Through the log.
    Release {
        /// Its number.
        containment: u64,
        /// Of the command.
        nonce: Nonce,
    },
    /// Change the registry. Through the log.
    Govern {
        /// For people.
        what: String,
        /// Of the command.
        nonce: Nonce,
    },
    /// Read the head of a lane from what the node has applied.
    Head {
        /// Which lane.
        lane: LaneId,
    },
    /// Read the newest published checkpoint.
    Checkpoint,
    /// Read published entries.
    Read {
        /// First index.
        from: u64,
        /// At most so many.
        limit: u64,
    },
    /// Read a session as far as it is published.
    ReadSession {
        /// Which.
        session: String,
    },
    /// Follow the published entries.
    Tail {
        /// First index.
        from: u64,
    },
    /// Follow the changes of what is contained.
    WatchContainment {
        /// First index.
        from: u64,
    },
    /// Ask for the proof that an entry is in the log.
    Inclusion {
        /// Its index.
        index: u64,
    },
    /// Ask for the proof that one checkpoint continues another.
    Consistency {
        /// The smaller one.
        older: u64,
        /// Its root.
        older_root: Digest,
        /// The larger one.
        newer: u64,
        /// Its root.
        newer_root: Digest,
    },
    /// Ask a node what the cluster is like.
    Status,
}

/// What a node answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Answer {
    /// A lane was opened.
    Opened {
        /// The new epoch.
        epoch: u64,
        /// The lane's newest batch before it.
        last: LaneHead,
    },
    /// A batch is in the log.
    Appended {
        /// Entry index of the first event; the others follow it.
        first_index: u64,
        /// One for each event.
        events: Vec<Receipt>,
    },
    /// A command is in the log.
    Commanded {
        /// Its entry.
        index: u64,
    },
    /// The head of a lane.
    Head {
        /// The lane's epoch.
        epoch: u64,
        /// Its newest batch.
        last: LaneHead,
    },
    /// A checkpoint.
    Checkpoint(CheckpointSeen),
    /// Entries, consecutive.
    Entries(Run),
    /// A session.
    Session {
        /// How many entries it has, as the node says.
        entries: u64,
        /// Size of the checkpoint under which it was read.
        published: u64,
        /// Log index of each entry.
        indexes: Vec<u64>,
    },
    /// A proof that an entry is in the log.
    Included {
        /// SHA-256 leaf hash of the entry, as the node says.
        leaf: Digest,
        /// From the leaf to the root.
        path: Vec<Digest>,
        /// The checkpoint that it leads to.
        checkpoint: CheckpointSeen,
    },
    /// A proof that one checkpoint continues another.
    Consistent {
        /// As in RFC 9162.
        path: Vec<Digest>,
    },
    /// What a node knows of the cluster.
    Status {
        /// Who leads; 0: nobody known.
        leader: u64,
        /// Raft term.
        term: u64,
        /// Entries, as far as each node that answered has applied them, and its state digest.
        sizes: Vec<(NodeId, u64, Digest)>,
    },
    /// A stream ended; what it brought are its observations.
    Ended {
        /// How.
        why: String,
    },
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Outcome {
    /// It was done.
    Ok {
        /// What came back.
        answer: Answer,
    },
    /// It was not done, and this try of it never will be.
    Fail {
        /// The reason, as the ledger names it.
        reason: String,
        /// No other try of the same batch or command will be, either.
        for_good: bool,
    },
    /// Nobody knows.
    Info {
        /// What was seen instead of an answer.
        reason: String,
    },
}

/// Something that a stream brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Observed {
    /// Entries.
    Entries(Run),
    /// What is contained changed.
    Change {
        /// The entry of the change.
        index: u64,
        /// All below it were sent.
        next: u64,
        /// Number of the containment.
        containment: u64,
    },
    /// Nothing changed, and all below was sent.
    Beat {
        /// All below it were sent.
        next: u64,
    },
}

/// When a stream brought something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When it was taken.
    pub at: Moment,
    /// What it was.
    pub what: Observed,
}

/// One operation, from its call to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Number.
    pub id: OperationId,
    /// Who asked.
    pub process: Process,
    /// Whom.
    pub node: NodeId,
    /// What.
    pub action: Action,
    /// When, before anything was sent.
    pub invoked: Moment,
    /// When it ended, after the answer came; [`Moment::NEVER`] when nobody knows whether it took effect.
    pub returned: Moment,
    /// How it ended.
    pub outcome: Outcome,
    /// What it brought on the way, when it was a stream.
    pub observed: Vec<Observation>,
}

impl Operation {
    /// Returns what came back, when it was done.
    #[must_use]
    pub const fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Ok { answer } => Some(answer),
            Outcome::Fail { .. } | Outcome::Info { .. } => None,
        }
    }
}
