//! P10 to P13: checkpoints, and proofs that lead to them.

use std::collections::{BTreeMap, HashMap, HashSet};

use proofline_verifier::{LeafIndex, LogHash, TreeHash as _, TreeHead, TreeSize, verify_consistency, verify_inclusion};

use super::{
    Judgement,
    anomaly::{Anomaly, Found},
    availability::stable_spans,
    parallel,
    reading::Reading,
};
use crate::history::{Action, Answer, CheckpointSeen, Digest, Moment, NodeId, Operation};

/// Proofs of which altered copies are tried, too.
const ALTERED_MAX: usize = 64;

pub(super) fn truth(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let seen = reading.checkpoints();
    let (verified, mut roots) = (verified(reading, &seen), HashMap::new());
    for (checkpoint, operation, node) in &seen {
        let wrong =
            |name, detail: String| Anomaly::new(name, detail).at(checkpoint.size).by(operation.map(|operation| operation.id)).on([*node]);
        match *roots.entry(checkpoint.size).or_insert_with(|| reading.root(checkpoint.size)) {
            None => found.add(wrong("checkpoint-beyond-the-log", format!("the log has {} entries", reading.size()))),
            Some(root) => {
                found.check(root == checkpoint.root, || wrong("wrong-root", format!("it says {}, the log gives {root}", checkpoint.root)))
            }
        }
        if !checkpoint.note.is_empty() {
            let is_good = verified.get(checkpoint.note.as_str()) == Some(&(checkpoint.size, checkpoint.root));
            found.check(is_good, || wrong("checkpoint-does-not-verify", "the signatures do not meet the policy".to_owned()));
        }
    }
    if seen.is_empty() {
        found.open("nobody saw a checkpoint");
    }
    for (signed, node) in reading.case.finals.nodes.iter().filter_map(|node| Some((node.signed?, node.node))) {
        let is_true = reading.root(signed.0) == Some(signed.1);
        found.check(is_true, || Anomaly::new("signed-another-tree", "what the node signed last is not the log").at(signed.0).on([node]));
    }
    found.judgement()
}

/// Returns what the notes say whose signatures meet the policy: each different one is verified once.
fn verified<'a>(reading: &Reading<'_>, seen: &[(&'a CheckpointSeen, Option<&Operation>, NodeId)]) -> HashMap<&'a str, (u64, Digest)> {
    let notes: HashSet<&str> = seen.iter().map(|(checkpoint, ..)| checkpoint.note.as_str()).filter(|note| !note.is_empty()).collect();
    let notes: Vec<&str> = notes.into_iter().collect();
    notes.iter().copied().zip(parallel::map(&notes, |note| signed(reading, note))).filter_map(|(note, says)| Some((note, says?))).collect()
}

/// Returns the size and the root of a note that is signed as one of the policies wants it.
fn signed(reading: &Reading<'_>, note: &str) -> Option<(u64, Digest)> {
    let origin = &reading.case.history.run.origin;
    let mut verified = reading.case.finals.policies.iter().filter_map(|policy| policy.verify_checkpoint(note.as_bytes()).ok());
    let checkpoint = verified.find(|checkpoint| checkpoint.origin.as_str() == origin)?;
    Some((checkpoint.size.0, Digest(*checkpoint.root.as_bytes())))
}

pub(super) fn no_equivocation(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let mut by_size: BTreeMap<u64, (Digest, NodeId)> = BTreeMap::new();
    for (checkpoint, operation, node) in reading.checkpoints() {
        let (root, first) = *by_size.entry(checkpoint.size).or_insert((checkpoint.root, node));
        found.check(root == checkpoint.root, || {
            let anomaly = Anomaly::new("equivocation", format!("two roots: {root} and {}", checkpoint.root));
            anomaly.at(checkpoint.size).by(operation.map(|operation| operation.id)).on([first, node])
        });
    }
    let mut proofs = 0;
    for operation in reading.operations() {
        let (Action::Consistency { older, older_root, newer, newer_root }, Some(Answer::Consistent { path })) =
            (&operation.action, operation.answer())
        else {
            continue;
        };
        proofs += 1;
        let verified = verify_consistency(head(*older, older_root), head(*newer, newer_root), &hashes(path));
        if let Err(error) = verified {
            let anomaly = Anomaly::new("consistency-proof-does-not-verify", format!("{older} to {newer}: {error}"));
            found.add(anomaly.at(*newer).by([operation.id]).on([operation.node]));
        }
    }
    if proofs == 0 {
        found.open("nobody asked for a proof of consistency");
    }
    found.judgement()
}

fn head(size: u64, root: &Digest) -> TreeHead<LogHash> {
    TreeHead { size: TreeSize(size), root: LogHash::from_bytes(root.0) }
}

fn hashes(path: &[Digest]) -> Vec<LogHash> {
    path.iter().map(|hash| LogHash::from_bytes(hash.0)).collect()
}

pub(super) fn progress(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let mut by_node: BTreeMap<NodeId, Vec<(&Operation, u64)>> = BTreeMap::new();
    for operation in reading.operations() {
        if let Some(Answer::Checkpoint(checkpoint)) = operation.answer() {
            by_node.entry(operation.node).or_default().push((operation, checkpoint.size));
        }
    }
    if by_node.is_empty() {
        found.open("nobody asked for a checkpoint");
    }
    for (node, seen) in &by_node {
        // A witness asks one node one thing at a time, so answers come in the order of the questions.
        for pair in seen.windows(2) {
            let [(one, before), (other, after)] = pair else { continue };
            let shrinks =
                after < before && one.returned < other.invoked && !reading.may_have_restarted(*node, one.returned, other.returned);
            found.check(!shrinks, || {
                Anomaly::new("checkpoint-shrinks", format!("{after} after {before}")).at(*after).by([one.id, other.id]).on([*node])
            });
        }
    }
    for node in &reading.case.finals.nodes {
        let served = node.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
        let largest = reading.case.finals.nodes.iter().filter_map(|node| node.signed).map(|(size, _)| size).max();
        let is_signed = largest.is_none_or(|largest| served <= largest);
        found.check(is_signed, || {
            Anomaly::new("forgot-what-was-signed", "no node remembers to have signed so much").at(served).on([node.node])
        });
    }
    check_coverage(reading, &mut found);
    found.judgement()
}

/// While the cluster is stable, what was acknowledged is soon covered by some node's checkpoint.
fn check_coverage(reading: &Reading<'_>, found: &mut Found) {
    let seen = reading.operations().iter().filter_map(|it| match it.answer() {
        Some(Answer::Checkpoint(checkpoint)) => Some((it.returned, checkpoint.size)),
        _ => None,
    });
    let mut seen: Vec<(Moment, u64)> = seen.collect();
    seen.sort_unstable();
    let mut largest = 0;
    for (_, size) in &mut seen {
        largest = largest.max(*size);
        *size = largest;
    }
    let Some((last, _)) = seen.last().copied() else { return };
    let spans = stable_spans(reading);
    for batch in reading.batches.iter().filter(|batch| batch.acknowledged != Moment::NEVER) {
        let until = batch.acknowledged.plus_ms(reading.case.bounds.covered_ms);
        if until > last || !spans.iter().any(|span| span.0 <= batch.acknowledged && until <= span.1) {
            continue;
        }
        let covered = seen.get(seen.partition_point(|(at, _)| *at <= until).wrapping_sub(1)).map_or(0, |(_, size)| *size);
        for (operation, first, receipts) in batch.acknowledgements().take(1) {
            let end = first + (receipts.len() as u64).max(1);
            found.check(covered >= end, || {
                let detail =
                    format!("{} ms after it was acknowledged the largest checkpoint covers {covered}", reading.case.bounds.covered_ms);
                Anomaly::new("not-covered-in-time", detail).at(end - 1).by([operation.id])
            });
        }
    }
}

pub(super) fn proofs(reading: &Reading<'_>) -> Judgement {
    let mut found = Found::default();
    let mut count = 0;
    for operation in reading.operations() {
        let (Action::Inclusion { index }, Some(Answer::Included { leaf, path, checkpoint })) = (&operation.action, operation.answer())
        else {
            continue;
        };
        count += 1;
        let proof = Proof { leaf: *leaf, index: *index, size: checkpoint.size, root: checkpoint.root, path: path.clone() };
        let wrong = |name, detail: String| Anomaly::new(name, detail).at(*index).by([operation.id]).on([operation.node]);
        found
            .check(reading.leaf(*index) == Some(&leaf.0), || wrong("proof-of-another-entry", "the leaf is not that of the log".to_owned()));
        found.check(proof.verifies(), || wrong("proof-does-not-verify", format!("under {} entries", checkpoint.size)));
        if count <= ALTERED_MAX && checkpoint.size > 1 {
            for (what, altered) in proof.altered() {
                found.check(!altered.verifies(), || wrong("altered-proof-verifies", what.to_owned()));
            }
        }
    }
    if count == 0 {
        found.open("nobody asked for a proof of inclusion");
    }
    found.judgement()
}

#[derive(Clone)]
struct Proof {
    leaf: Digest,
    index: u64,
    size: u64,
    root: Digest,
    path: Vec<Digest>,
}

impl Proof {
    fn verifies(&self) -> bool {
        let (leaf, root) = (LogHash::from_bytes(self.leaf.0), LogHash::from_bytes(self.root.0));
        verify_inclusion(leaf, LeafIndex(self.index), TreeSize(self.size), root, &hashes(&self.path)).is_ok()
    }

    /// Returns copies of which each has one thing altered.
    fn altered(&self) -> Vec<(&'static str, Self)> {
        let mut all = vec![
            ("a bit of the leaf", Self { leaf: flipped(&self.leaf, self.index), ..self.clone() }),
            ("a bit of the root", Self { root: flipped(&self.root, self.index), ..self.clone() }),
            ("the index", Self { index: self.index ^ 1, ..self.clone() }),
            ("no last hash", Self { path: self.path.split_last().map(|(_, path)| path.to_vec()).unwrap_or_default(), ..self.clone() }),
            ("one hash more", Self { path: [self.path.as_slice(), &[self.leaf]].concat(), ..self.clone() }),
        ];
        for place in 0..self.path.len() {
            let mut altered = self.clone();
            if let Some(hash) = altered.path.get_mut(place) {
                *hash = flipped(hash, self.index + place as u64);
            }
            all.push(("a bit of the path", altered));
        }
        all
    }
}

fn flipped(digest: &Digest, bit: u64) -> Digest {
    let (byte, mask) = (usize::try_from(bit / 8 % 32).unwrap_or_default(), 1_u8 << (bit % 8));
    let mut bytes = digest.0;
    if let Some(byte) = bytes.get_mut(byte) {
        *byte ^= mask;
    }
    Digest(bytes)
}
