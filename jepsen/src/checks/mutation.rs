//! Alterations of right runs, each with the predicate that must notice it: the checks of the checks.

mod altering;
mod containment;
mod history;
mod log;
mod reads;
mod time;

use std::fmt::Write as _;

use super::{Case, Forgery, Judgement, Predicate, judge_one};
use crate::random::Random;
use altering::Alteration;

/// One way to make a right run wrong.
#[derive(Clone, Copy, Debug)]
pub struct Mutation {
    /// What is done.
    pub name: &'static str,
    /// Who must notice.
    pub caught_by: Predicate,
    alter: fn(&mut Alteration<'_>) -> Option<()>,
}

const fn by(caught_by: Predicate, name: &'static str, alter: fn(&mut Alteration<'_>) -> Option<()>) -> Mutation {
    Mutation { name, caught_by, alter }
}

/// Every alteration, by the number of the predicate.
pub const MUTATIONS: [Mutation; 62] = [
    by(Predicate::Agreement, "the end of one node's log is another", log::fork),
    by(Predicate::Agreement, "one node lacks the last entries", log::shorten),
    by(Predicate::Agreement, "one node has another state", log::other_state),
    by(Predicate::Agreement, "an entry is dated a second later on all nodes", log::other_time),
    by(Predicate::NothingLost, "an acknowledged entry is gone", log::drop_entry),
    by(Predicate::NothingLost, "an acknowledgement names the next index", history::shift_acknowledgement),
    by(Predicate::NothingLost, "an acknowledgement names the index of another session's event", history::other_sessions_index),
    by(Predicate::NothingLost, "an acknowledged command stands elsewhere", history::shift_command),
    by(Predicate::NothingInvented, "a bit of a payload is flipped", log::flip_payload),
    by(Predicate::NothingInvented, "nobody sent what is in the log", history::forget_invocation),
    by(Predicate::NothingInvented, "every try of what is in the log was refused", history::refuse_all),
    by(Predicate::NothingInvented, "one try of what is in the log was refused for good", history::refuse_for_good),
    by(Predicate::NothingInvented, "an entry was read before it was sent", reads::read_early),
    by(Predicate::NothingInvented, "a command that was refused is in the log", history::refuse_command),
    by(Predicate::NothingInvented, "somebody stands there for a second batch that he never signed", history::forget_equivocation),
    by(Predicate::AtMostOnce, "an entry stands twice", log::double_entry),
    by(Predicate::AtMostOnce, "two events have one id", log::double_id),
    by(Predicate::AtMostOnce, "a retry was given another index", history::retry_elsewhere),
    by(Predicate::AtMostOnce, "a retry was given another verdict", history::retry_other_verdict),
    by(Predicate::AtMostOnce, "two batches at one place were acknowledged", history::acknowledge_both),
    by(Predicate::AtMostOnce, "a second batch at one place is not in the log", log::drop_equivocation),
    by(Predicate::RealTime, "two requests that followed each other stand in the other order", log::swap_in_time),
    by(Predicate::SessionOrder, "a session skips a position", log::skip_position),
    by(Predicate::SessionOrder, "a lane skips a sequence", log::skip_sequence),
    by(Predicate::SessionOrder, "a session root is of another session", log::other_session_root),
    by(Predicate::SessionOrder, "committed time goes back", log::time_goes_back),
    by(Predicate::Linearizable, "an opening was told of an older batch", history::stale_opening),
    by(Predicate::Linearizable, "an opening that is not in the log was told of no batch", history::lost_opening),
    by(Predicate::Reads, "a read gave other entries", reads::other_entries),
    by(Predicate::Reads, "a read of a session lacks its last entry", reads::session_lacks_entry),
    by(Predicate::Reads, "a node forgot a batch that it had told of", reads::head_goes_back),
    by(Predicate::Streams, "a stream of entries has a hole", reads::hole_in_tail),
    by(Predicate::Streams, "a stream of entries repeats itself", reads::tail_repeats),
    by(Predicate::Streams, "a watcher missed a containment", reads::lose_change),
    by(Predicate::Streams, "a watcher got a containment twice", reads::double_change),
    by(Predicate::Streams, "a watcher got a containment that never was", reads::phantom_change),
    by(Predicate::CheckpointTruth, "a checkpoint with another root, well signed", reads::sign_other_root),
    by(Predicate::CheckpointTruth, "a checkpoint with a signature that does not verify", reads::break_signature),
    by(Predicate::CheckpointTruth, "a checkpoint beyond the log, well signed", reads::sign_beyond),
    by(Predicate::CheckpointTruth, "what a node signed last is another tree", log::sign_other_tree),
    by(Predicate::NoEquivocation, "two nodes show two roots of one size", reads::equivocate),
    by(Predicate::NoEquivocation, "a consistency proof has another hash", reads::break_consistency),
    by(Predicate::CheckpointProgress, "a node's checkpoint shrinks", reads::checkpoint_shrinks),
    by(Predicate::CheckpointProgress, "nodes serve more than any remembers to have signed", log::forget_signature),
    by(Predicate::CheckpointProgress, "checkpoints stand still while events are acknowledged", reads::checkpoints_stand_still),
    by(Predicate::ProofsHold, "an inclusion proof has another hash", reads::break_inclusion),
    by(Predicate::ProofsHold, "an inclusion proof is of another entry", reads::prove_another),
    by(Predicate::Containment, "an event below a revoked session is allowed, in log and answer", containment::allow_after_revoke),
    by(Predicate::Containment, "an answer allows what the log denies", containment::answer_allows),
    by(Predicate::Containment, "the log denies what nothing forbids", containment::deny_without_cause),
    by(Predicate::Containment, "an acknowledged revocation contains nothing", containment::drop_revoke),
    by(
        Predicate::Containment,
        "an event sent after a revocation was acknowledged stands before it and is allowed",
        containment::late_event_allowed,
    ),
    by(Predicate::Containment, "a containment ends and nobody released it", containment::release_unasked),
    by(Predicate::Containment, "a revocation takes too long", time::slow_revoke),
    by(Predicate::Durable, "an acknowledged entry is gone after a power loss", log::lose_power),
    by(Predicate::Corruption, "a flipped bit was served", log::serve_damage),
    by(Predicate::Recovery, "the nodes were the same a second too late", time::late_recovery),
    by(Predicate::Liveness, "nothing was acknowledged for a while", time::no_writes),
    by(Predicate::Liveness, "nothing was acknowledged for too long, whatever was broken", time::starve),
    by(Predicate::Liveness, "nothing was acknowledged for a while, and only one node was frozen", time::idle_beside_frozen),
    by(Predicate::Overload, "a node held a byte too much", time::too_much_memory),
    by(Predicate::NotVacuous, "a scheduled fault was never seen", history::unseen_fault),
];

/// What became of one alteration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mutated {
    /// The predicate noticed: the first thing that it named.
    Caught(String),
    /// The predicate holds all the same: it is not good enough.
    Missed,
    /// The run has nothing that could be altered so.
    NotApplicable,
}

impl Mutation {
    /// Alters a copy of a run; none when it has nothing that could be altered so.
    #[must_use]
    pub fn altered(&self, case: &Case, forgery: &Forgery, seed: u64) -> Option<Case> {
        let mut altered = case.clone();
        (self.alter)(&mut Alteration { case: &mut altered, forgery, lot: Random::of(seed, self.name) })?;
        Some(altered)
    }

    /// Alters a copy of a run and asks the predicate.
    #[must_use]
    pub fn apply(&self, case: &Case, forgery: &Forgery, seed: u64) -> Mutated {
        let Some(altered) = self.altered(case, forgery, seed) else { return Mutated::NotApplicable };
        match judge_one(&altered, self.caught_by) {
            Judgement::True => Mutated::Missed,
            Judgement::False { anomalies, .. } => {
                Mutated::Caught(anomalies.first().map_or_else(String::new, |first| first.name.to_owned()))
            }
            // Only of what was never seen to happen nobody knows; whatever is wrong must be called false.
            Judgement::Unknown(why) if self.caught_by == Predicate::NotVacuous => Mutated::Caught(format!("unknown: {}", why.join("; "))),
            Judgement::Unknown(_) => Mutated::Missed,
        }
    }
}

/// Tries every alteration of a run.
#[must_use]
pub fn mutate_all(case: &Case, forgery: &Forgery, seed: u64) -> Vec<(&'static Mutation, Mutated)> {
    MUTATIONS.iter().map(|mutation| (mutation, mutation.apply(case, forgery, seed))).collect()
}

/// Returns what became of every alteration, as a table in Markdown.
#[must_use]
pub fn table(mutated: &[(&'static Mutation, Mutated)]) -> String {
    let mut text = "| alteration | must be noticed by | what it says |\n|---|---|---|\n".to_owned();
    for (mutation, became) in mutated {
        let says = match became {
            Mutated::Caught(name) => name.as_str(),
            Mutated::Missed => "**nothing**",
            Mutated::NotApplicable => "(the run has nothing to alter)",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {} | {} | {says} |", mutation.name, mutation.caught_by);
    }
    text
}
