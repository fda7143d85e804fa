//! Bugs on purpose: the harness against a node that is known to be wrong.
//!
//! `proofline-node-planted` is compiled from the node's own sources, with one bug that is chosen by name when it starts. Each is run with
//! the faults that let it bite, and must be noticed: a bug that is not shows a hole in the work or in the checks.

mod campaign;

pub use campaign::{Campaign, Finding, Noticed, campaign, table};

use crate::checks::Predicate;

/// The program that has the bugs.
pub const PROGRAM: &str = "proofline-node-planted";
/// The variable of its environment that names the bug.
pub const VARIABLE: &str = "PROOFLINE_PLANTED_BUG";
/// What names no bug: the control.
pub const NONE: &str = "none";

/// A bug, what is to be done to a cluster that has it, and who must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlantedBug {
    /// Its name, as the program takes it.
    pub name: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// Faults that let it bite, as `--faults` takes them; empty when it needs none.
    pub faults: &'static str,
    /// How long they come, in seconds.
    pub seconds: u64,
    /// Predicates that it breaks: one of them must be false.
    pub breaks: &'static [Predicate],
}

const fn bug(name: &'static str, what: &'static str, faults: &'static str, seconds: u64, breaks: &'static [Predicate]) -> PlantedBug {
    PlantedBug { name, what, faults, seconds, breaks }
}

use Predicate as P;

/// Every bug.
pub const BUGS: [PlantedBug; 18] = [
    bug(
        "acknowledged-before-fsync",
        "the journal and its mark are not synced before a node says that it has an entry",
        "power-loss-all",
        20,
        &[P::NothingLost],
    ),
    bug(
        "acknowledged-before-quorum",
        "a follower that does not answer is counted as one that has the entry",
        "isolate-leader",
        30,
        &[P::NothingLost, P::NothingInvented],
    ),
    bug(
        "lost-lead-called-refused",
        "a leader that loses the lead calls refused what is still on its way",
        "deaf-leader-briefly",
        60,
        &[P::NothingInvented],
    ),
    bug(
        "start-without-checks",
        "a node starts with a log that ends before its mark, is broken in its chain, or lacks its vote",
        "lost-tails",
        30,
        &[P::NothingLost, P::Agreement, P::Corruption],
    ),
    bug(
        "duplicates-forgotten",
        "after a restart a batch that was taken before is not recognised",
        "rolling-restart",
        40,
        &[P::NothingInvented, P::AtMostOnce],
    ),
    bug(
        "exactly-once-without-epoch",
        "positions of lanes are remembered without their epoch",
        "",
        10,
        &[P::NothingInvented, P::AtMostOnce],
    ),
    bug("opening-forgets-head", "who opens a lane is told that it is empty", "", 10, &[P::Linearizable]),
    bug("cascade-one-level", "a revocation reaches children, and not what is below them", "", 10, &[P::Containment]),
    bug(
        "revoke-seen-at-admission",
        "a verdict is that of the moment when the event was admitted, not of its place in the log",
        "",
        15,
        &[P::Containment],
    ),
    bug(
        "snapshot-without-containment",
        "a node that was given a snapshot does not know what is contained",
        "snapshot-install",
        60,
        &[P::Agreement, P::Containment],
    ),
    bug(
        "checkpoint-unchecked",
        "the leader signs the root of another size, and nobody compares it with his own",
        "",
        10,
        &[P::CheckpointTruth],
    ),
    bug("proof-of-older-tree", "inclusion proofs are paths of the tree before the newest entry", "", 10, &[P::ProofsHold]),
    bug("spawn-outside-session", "a spawn takes no position in its session", "", 10, &[P::SessionOrder, P::Agreement]),
    bug("session-root-lags", "an entry carries the root of its session from before it", "", 10, &[P::SessionOrder]),
    bug("time-of-local-clock", "each node dates entries by its own clock when it applies them", "", 10, &[P::Agreement]),
    bug(
        "watcher-starts-late",
        "a watcher who comes back is told of what happens from now on, not from where he was",
        "kill,kill-leader",
        30,
        &[P::Streams],
    ),
    bug("equivocation-unrecorded", "who signs two batches at one place is told so, and nothing is kept of it", "", 20, &[P::AtMostOnce]),
    bug(
        "deposed-leader-answers",
        "a leader that hears nobody answers an opening out of its own state",
        "isolate-leader",
        40,
        &[P::Linearizable],
    ),
];

/// What an evil node does, on purpose: not a bug that a checker of histories must notice, but a lie that whoever is lied to must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvilBehaviour {
    /// Its name, as the program takes it.
    pub name: &'static str,
    /// What the node does.
    pub what: &'static str,
}

const fn evil(name: &'static str, what: &'static str) -> EvilBehaviour {
    EvilBehaviour { name, what }
}

/// Every behaviour of an evil node.
pub const EVIL: [EvilBehaviour; 14] = [
    evil("evil-forked-note", "shows a checkpoint over another tree, which it signed alone"),
    evil("evil-forked-followers", "as leader, replicates another history to one follower, and has each half cosigned"),
    evil("evil-rewound-log", "shows an old checkpoint as the newest, and answers under it"),
    evil("evil-short-session", "shows a session without its last entry"),
    evil("evil-short-answer", "leaves an entry out of an answer about lineage"),
    evil("evil-forged-event", "as leader, proposes an event that its collector did not sign, and takes it itself"),
    evil("evil-forged-entry", "shows an entry with another verdict"),
    evil("evil-swapped-events", "as leader, swaps the events of a signed batch, and takes it itself"),
    evil("evil-swapped-entries", "swaps two entries when the log is read"),
    evil("evil-dropped-revoke", "as leader, acknowledges a containment and does not propose it"),
    evil("evil-dropped-batch", "as leader, acknowledges a collector's batches and does not propose them"),
    evil("evil-unapplied-revoke", "allows what is contained, in its own log"),
    evil("evil-hidden-revoke", "leaves containments out of lists"),
    evil("evil-false-path", "proves consistency by a path that proves nothing"),
];

/// The bugs that every build looks for.
pub const SMOKE: [&str; 3] = ["cascade-one-level", "checkpoint-unchecked", "opening-forgets-head"];
