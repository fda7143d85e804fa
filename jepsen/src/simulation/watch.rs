//! What is checked while a run goes on: Raft's own invariants, and that equal logs lead to equal states.

use std::collections::BTreeMap;

use openraft::{Entry, EntryPayload, LogId, Vote};
use proofline_node::replica::TypeConfig;

/// Findings that are kept; one is enough to fail a run.
const FINDINGS_MAX: usize = 20;

/// What the state was behind one Raft entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Behind {
    pub(super) log_id: LogId<u64>,
    pub(super) size: u64,
    pub(super) digest: String,
    pub(super) root: String,
    /// Hash of what was answered to each item.
    pub(super) answers: String,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Watch {
    leaders: BTreeMap<(u64, u64), u64>,
    contents: BTreeMap<(u64, u64, u64), String>,
    behind: BTreeMap<u64, Behind>,
    votes: BTreeMap<u64, Vote<u64>>,
    findings: Vec<String>,
}

impl Watch {
    pub(super) fn find(&mut self, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what);
        }
    }

    pub(super) fn findings(&self) -> &[String] {
        &self.findings
    }

    pub(super) fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// Election safety: who won an election leads by it in one life only. The library lets two nodes lead in one term, and ranks
    /// them by their ids: a term and a node together are what it calls a leader. Returns whether it is a new one.
    pub(super) fn leads(&mut self, term: u64, node: u64, life: u64) -> bool {
        match self.leaders.insert((term, node), life) {
            Some(before) if before != life => {
                self.find(format!("election safety: node {node} leads in term {term} again after a crash"));
                true
            }
            Some(_) => false,
            None => true,
        }
    }

    /// Log matching: what stands under one log id is the same everywhere.
    pub(super) fn appended(&mut self, node: u64, entries: &[Entry<TypeConfig>]) {
        for entry in entries {
            let content = content(entry);
            let known = self.contents.entry(key(&entry.log_id)).or_insert_with(|| content.clone());
            if *known != content {
                self.find(format!("log matching: node {node} has another entry {}", entry.log_id));
            }
        }
    }

    /// Leader completeness: what was applied anywhere stays in every log that had it.
    pub(super) fn truncated(&mut self, node: u64, removed: impl Iterator<Item = LogId<u64>>) {
        for log_id in removed {
            if self.behind.get(&log_id.index).is_some_and(|behind| behind.log_id == log_id) {
                self.find(format!("leader completeness: node {node} cuts off {log_id}, which was applied"));
            }
        }
    }

    /// State machine safety: the same entry, the same answers and the same state at every index.
    pub(super) fn applied(&mut self, node: u64, after: Option<u64>, behind: Behind) {
        let index = behind.log_id.index;
        if index != after.map_or(0, |after| after.saturating_add(1)) {
            self.find(format!("node {node} applies {index} after {after:?}"));
        }
        match self.behind.get(&index) {
            Some(known) if *known != behind => {
                self.find(format!("state machine safety: node {node} has {behind:?}, another node had {known:?}"));
            }
            Some(_) => {}
            None => {
                self.behind.insert(index, behind);
            }
        }
    }

    /// A vote that was promised is never taken back.
    pub(super) fn voted(&mut self, node: u64, vote: Vote<u64>) {
        self.votes.insert(node, vote);
    }

    /// What a node comes back with must be at least what it promised.
    pub(super) fn restarted(&mut self, node: u64, vote: Option<Vote<u64>>) {
        let promised = self.votes.get(&node).copied();
        if let Some(promised) = promised.filter(|promised| !vote.is_some_and(|vote| vote >= *promised)) {
            self.find(format!("node {node} promised the vote {promised} and came back with {vote:?}"));
        }
    }
}

fn key(log_id: &LogId<u64>) -> (u64, u64, u64) {
    (log_id.leader_id.term, log_id.leader_id.node_id, log_id.index)
}

/// Hashes what an entry carries.
pub(super) fn content(entry: &Entry<TypeConfig>) -> String {
    let hash = match &entry.payload {
        EntryPayload::Blank => blake3::hash(b"blank"),
        EntryPayload::Normal(group) => blake3::hash(group.bytes()),
        EntryPayload::Membership(membership) => blake3::hash(format!("{membership:?}").as_bytes()),
    };
    short(&hash)
}

pub(super) fn short(hash: &blake3::Hash) -> String {
    hash.to_hex().chars().take(12).collect()
}
