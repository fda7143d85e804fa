//! Reads, proofs, checkpoints and streams of a made-up run.

use proofline_ledger::{EntryIndex, LogTree, TreeSize};
use proofline_verifier::TreeHash as _;

use super::World;
use crate::{
    checks::{Body, Entry},
    history::{Action, Answer, CheckpointSeen, Digest, Moment, NodeId, Observed, Outcome, Run},
};

/// Streams of a run: one of entries and one of containments.
const ENTRIES: usize = 0;
const CHANGES: usize = 1;

impl World {
    /// Signs the tree as it is, and tells everybody who follows.
    pub(super) fn publish(&mut self) -> Option<()> {
        let root = Digest(*self.tree.root().as_bytes());
        self.published = Some(self.forgery.sign(self.log.len() as u64, root)?);
        let followed = self.streams.get(ENTRIES).and_then(|stream| stream.observed.last()).map_or(0, |seen| match seen.what {
            Observed::Entries(run) => run.end(),
            Observed::Change { .. } | Observed::Beat { .. } => 0,
        });
        let run = self.run(followed, u64::MAX);
        if run.count > 0 {
            self.observe(ENTRIES, Observed::Entries(run));
        }
        let watched = self.streams.get(CHANGES).and_then(|stream| stream.observed.last()).map_or(0, |seen| match seen.what {
            Observed::Change { next, .. } | Observed::Beat { next } => next,
            Observed::Entries(_) => 0,
        });
        for index in watched..self.log.len() as u64 {
            let entry = self.log.get(usize::try_from(index).ok()?).and_then(Entry::parse)?;
            if let Body::Containment { id, .. } = entry.body {
                self.observe(CHANGES, Observed::Change { index, next: index + 1, containment: id });
            }
        }
        if self.lot.below(3) == 0 {
            self.observe(CHANGES, Observed::Beat { next: self.log.len() as u64 });
        }
        Some(())
    }

    pub(super) fn open_streams(&mut self) {
        let at = Moment(self.now);
        for action in [Action::Tail { from: 0 }, Action::WatchContainment { from: 0 }] {
            let node = self.node();
            let outcome = Outcome::Ok { answer: Answer::Ended { why: "left".to_owned() } };
            let stream = self.operation(node, action, (at, at), outcome);
            self.streams.push(stream);
        }
    }

    pub(super) fn close_streams(&mut self) {
        for mut stream in std::mem::take(&mut self.streams) {
            stream.returned = Moment(self.now + 1);
            self.history.operations.push(stream);
        }
    }

    /// Sums up published entries.
    fn run(&self, from: u64, limit: u64) -> Run {
        let end = self.published.as_ref().map_or(0, |published| published.size).min(from.saturating_add(limit));
        let range = usize::try_from(from).unwrap_or_default()..usize::try_from(end.max(from)).unwrap_or_default();
        let leaves: Vec<_> = self.log.get(range).unwrap_or_default().iter().map(|exact| proofline_verifier::LogHash::leaf(exact)).collect();
        Run::over(from, leaves.iter().map(|leaf| leaf.as_bytes()))
    }

    pub(super) fn read(&mut self) {
        let (from, limit) = (self.lot.below(self.log.len() as u64), self.lot.between(1, 50));
        let (invoked, _) = self.span();
        let run = self.run(from, limit);
        self.answered(Action::Read { from, limit }, (invoked, Moment(self.now)), Answer::Entries(run));
    }

    pub(super) fn read_session(&mut self) {
        let session = format!("f{}", self.revoked.saturating_sub(self.lot.below(2)));
        let published = self.published.as_ref().map_or(0, |published| published.size);
        let all = self.sessions.get(&session).map_or(&[][..], Vec::as_slice);
        let indexes: Vec<u64> = all.iter().copied().take_while(|index| *index < published).collect();
        let (invoked, _) = self.span();
        let outcome = if indexes.is_empty() {
            Outcome::Fail { reason: "UNKNOWN_SESSION".to_owned(), for_good: false }
        } else {
            Outcome::Ok { answer: Answer::Session { entries: indexes.len() as u64, published, indexes } }
        };
        let node = self.node();
        self.record(node, Action::ReadSession { session }, (invoked, Moment(self.now)), outcome);
    }

    pub(super) fn prove(&mut self) -> Option<()> {
        let checkpoint = self.published.clone()?;
        let index = self.lot.below(checkpoint.size);
        let mut tree = LogTree::new(&self.store, TreeSize(checkpoint.size));
        let path = tree.inclusion_path(EntryIndex(index)).ok()??.iter().map(|hash| Digest(hash.0)).collect();
        let leaf = Digest(tree.leaf(EntryIndex(index)).ok()??.0);
        let span = self.span();
        self.answered(Action::Inclusion { index }, span, Answer::Included { leaf, path, checkpoint });
        Some(())
    }

    /// Lets one witness look, ask for the proof that what it sees continues what it held, and compare with another.
    pub(super) fn look(&mut self) -> Option<()> {
        let place = self.lot.place(3);
        let node = NodeId(place as u64 + 1);
        let seen = self.published.clone()?;
        let at = (Moment(self.now - 1), Moment(self.now));
        let held = self.held.get_mut(place)?.replace(seen.clone());
        let is_known = held.as_ref() == Some(&seen);
        let shown = if is_known { CheckpointSeen { note: String::new(), ..seen.clone() } } else { seen.clone() };
        self.record(node, Action::Checkpoint, at, Outcome::Ok { answer: Answer::Checkpoint(shown) });
        let other = self.held.get((place + 1) % 3)?.clone();
        for older in held.into_iter().chain(other).filter(|older| older.size < seen.size) {
            let path = LogTree::new(&self.store, TreeSize(seen.size)).consistency_path(TreeSize(older.size)).ok()??;
            let action = Action::Consistency { older: older.size, older_root: older.root, newer: seen.size, newer_root: seen.root };
            self.answered(action, at, Answer::Consistent { path: path.iter().map(|hash| Digest(hash.0)).collect() });
        }
        Some(())
    }
}
