use std::fmt;

use super::{Judgement, Reading, availability, checkpoints, containment, corruption, order, reads, safety, sessions, streams};

macro_rules! predicates {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $words:literal, $check:path;)*) => {
        /// What must be true of a run.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Predicate {
            $($(#[$doc])* $name,)*
        }

        impl Predicate {
            /// Every predicate, in the order of its number.
            pub const ALL: [Self; 20] = [$(Self::$name),*];

            /// Returns its number and name.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// Returns what it says.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }

            pub(super) fn check(self, reading: &Reading<'_>) -> Judgement {
                match self { $(Self::$name => $check(reading),)* }
            }
        }
    };
}

predicates! {
    /// P1
    Agreement = "P1 agreement", "all nodes have the same log and state, and the state is that of the log", safety::agreement;
    /// P2
    NothingLost = "P2 nothing lost", "what was acknowledged stands where it was said to stand, as it was sent", safety::nothing_lost;
    /// P3
    NothingInvented = "P3 nothing invented", "what stands in the log was sent, before anybody saw it; what was refused does not", safety::nothing_invented;
    /// P4
    AtMostOnce = "P4 at most once", "nothing stands twice, and every answer to the same request is the same", safety::at_most_once;
    /// P5
    RealTime = "P5 real-time order", "what began after an acknowledgement stands behind it", order::real_time;
    /// P6
    SessionOrder = "P6 session order", "sessions and lanes have no gap, and their trees are those of their entries", sessions::session_order;
    /// P7
    Linearizable = "P7 linearizable reads", "an opening of a lane is told of every batch before it, and of none behind it", order::linearizable;
    /// P8
    Reads = "P8 reads", "what was read is a part of the log, and no node goes back on what it said", reads::reads;
    /// P9
    Streams = "P9 streams", "who follows gets everything once, in order", streams::streams;
    /// P10
    CheckpointTruth = "P10 checkpoint truth", "every checkpoint is signed and is the root of the log", checkpoints::truth;
    /// P11
    NoEquivocation = "P11 no equivocation", "no two checkpoints contradict each other, and proofs show it", checkpoints::no_equivocation;
    /// P12
    CheckpointProgress = "P12 checkpoint progress", "checkpoints grow, and soon cover what was acknowledged", checkpoints::progress;
    /// P13
    ProofsHold = "P13 proofs", "every proof verifies, and no altered one does", checkpoints::proofs;
    /// P14
    Containment = "P14 containment", "nothing below what was revoked is allowed, and verdicts can be recomputed", containment::containment;
    /// P15
    Durable = "P15 durability", "P2 and P14 hold though disks lost what was not synced", corruption::durable;
    /// P16
    Corruption = "P16 corruption", "damage is noticed or does no harm", corruption::corruption;
    /// P17
    Recovery = "P17 recovery", "soon after everything is healed all nodes have the same state", availability::recovery;
    /// P18
    Liveness = "P18 liveness", "a stable majority takes writes", availability::liveness;
    /// P19
    Overload = "P19 overload", "memory stays bounded", availability::overload;
    /// P20
    NotVacuous = "P20 not vacuous", "what was scheduled was seen to happen", availability::not_vacuous;
}

impl fmt::Display for Predicate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.label())
    }
}
