//! Where bugs can be planted, to see that the harness finds them.
//!
//! In what is shipped [`planted!`] is the constant `false` and nothing else of this module exists: no shipped package has the
//! feature, so no flag can switch it on. `jepsen/planted` compiles the same sources with it, into a program of its own.

/// Tells whether a bug is planted: `false`, in what is shipped. With one value: what is done where it is planted.
/// With two: the first where it is planted, else the second.
#[cfg(not(feature = "planted"))]
#[doc(hidden)]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
    ($bug:ident, $done:expr) => {};
    ($bug:ident, $changed:expr, $original:expr) => {
        $original
    };
}

#[cfg(feature = "planted")]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_chosen($crate::planted::Bug::$bug)
    };
    ($bug:ident, $done:expr) => {
        if $crate::planted::is_chosen($crate::planted::Bug::$bug) {
            $done
        }
    };
    ($bug:ident, $changed:expr, $original:expr) => {
        if $crate::planted::is_chosen($crate::planted::Bug::$bug) { $changed } else { $original }
    };
}

/// What an evil node does: nothing, in what is shipped. With `function => value`: the value, which an evil node passes through
/// the function, after further arguments if there are any. With two values: the second, in what is shipped. What is done asks
/// itself which behaviour was chosen.
#[cfg(not(feature = "planted"))]
#[doc(hidden)]
#[macro_export]
macro_rules! evil {
    ($done:expr, $original:expr) => {
        $original
    };
    ($done:expr) => {};
    ($by:path $(, $with:expr)* => $value:expr) => {
        $value
    };
}

#[cfg(feature = "planted")]
#[macro_export]
macro_rules! evil {
    ($done:expr, $original:expr) => {
        $done
    };
    ($done:expr) => {
        $done
    };
    ($by:path $(, $with:expr)* => $value:expr) => {
        $by($($with,)* $value)
    };
}

/// Items that exist only where bugs are planted: none, in what is shipped.
#[cfg(not(feature = "planted"))]
#[doc(hidden)]
#[macro_export]
macro_rules! planted_items {
    ($($item:item)*) => {};
}

#[cfg(feature = "planted")]
#[macro_export]
macro_rules! planted_items {
    ($($item:item)*) => { $($item)* };
}

#[cfg(feature = "planted")]
pub use self::chosen::*;

#[cfg(feature = "planted")]
mod chosen {
    use std::{
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
        time::{SystemTime, UNIX_EPOCH},
    };

    use crate::ids::{TreeSize, UnixNanos};

    /// The variable of the environment that names the bug.
    pub const VARIABLE: &str = "PROOFLINE_PLANTED_BUG";
    /// The value of a program that is to be right: the control.
    pub const NONE: &str = "none";

    static CHOSEN: OnceLock<Option<Bug>> = OnceLock::new();
    /// Containments before the group that is applied, and before the one in front of it.
    static KNOWN: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
    static OPENED_AT: OnceLock<TreeSize> = OnceLock::new();

    macro_rules! bugs {
        ($($bug:ident = $name:literal,)*) => {
            /// A bug that can be planted.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Bug {
                $(#[doc = $name] $bug,)*
            }

            /// All of them, by name.
            pub const BUGS: &[(&str, Bug)] = &[$(($name, Bug::$bug),)*];
        };
    }

    bugs! {
        AcknowledgedBeforeFsync = "acknowledged-before-fsync",
        AcknowledgedBeforeQuorum = "acknowledged-before-quorum",
        LostLeadCalledRefused = "lost-lead-called-refused",
        StartWithoutChecks = "start-without-checks",
        DuplicatesForgotten = "duplicates-forgotten",
        ExactlyOnceWithoutEpoch = "exactly-once-without-epoch",
        OpeningForgetsHead = "opening-forgets-head",
        CascadeOneLevel = "cascade-one-level",
        RevokeSeenAtAdmission = "revoke-seen-at-admission",
        SnapshotWithoutContainment = "snapshot-without-containment",
        CheckpointUnchecked = "checkpoint-unchecked",
        ProofOfOlderTree = "proof-of-older-tree",
        SpawnOutsideSession = "spawn-outside-session",
        SessionRootLags = "session-root-lags",
        TimeOfLocalClock = "time-of-local-clock",
        WatcherStartsLate = "watcher-starts-late",
        EquivocationUnrecorded = "equivocation-unrecorded",
        DeposedLeaderAnswers = "deposed-leader-answers",
        EvilForkedNote = "evil-forked-note",
        EvilForkedFollowers = "evil-forked-followers",
        EvilRewoundLog = "evil-rewound-log",
        EvilShortSession = "evil-short-session",
        EvilShortAnswer = "evil-short-answer",
        EvilForgedEvent = "evil-forged-event",
        EvilForgedEntry = "evil-forged-entry",
        EvilSwappedEvents = "evil-swapped-events",
        EvilSwappedEntries = "evil-swapped-entries",
        EvilDroppedRevoke = "evil-dropped-revoke",
        EvilDroppedBatch = "evil-dropped-batch",
        EvilUnappliedRevoke = "evil-unapplied-revoke",
        EvilHiddenRevoke = "evil-hidden-revoke",
        EvilFalsePath = "evil-false-path",
    }

    /// Chooses the bug that the environment names, before anything else runs; [`NONE`] chooses none.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn choose() -> Result<Option<Bug>, String> {
        let name = std::env::var(VARIABLE).map_err(|_| format!("{VARIABLE} names no bug; give one of: {}", names()))?;
        let known = BUGS.iter().find(|(known, _)| *known == name).map(|(_, bug)| *bug);
        if known.is_none() && name != NONE {
            return Err(format!("no bug is called {name:?}; {VARIABLE} takes one of: {}", names()));
        }
        CHOSEN.set(known).map_err(|_| "a bug was chosen before".to_owned())?;
        Ok(known)
    }

    fn names() -> String {
        [NONE].into_iter().chain(BUGS.iter().map(|(name, _)| *name)).collect::<Vec<_>>().join(", ")
    }

    /// Tells whether this bug was chosen.
    #[must_use]
    pub fn is_chosen(bug: Bug) -> bool {
        CHOSEN.get().copied().flatten() == Some(bug)
    }

    /// Tells whether this node takes batches that nobody signed.
    #[must_use]
    pub fn takes_forgeries() -> bool {
        is_chosen(Bug::EvilForgedEvent) || is_chosen(Bug::EvilSwappedEvents)
    }

    /// Notes how many containments there were when a group began.
    pub fn group_begins(containments: u64) {
        let [before, now] = &KNOWN;
        before.store(now.swap(containments, Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Tells whether a containment was there when events of this group were admitted, one group earlier.
    #[must_use]
    pub fn was_known(containment: u64) -> bool {
        containment <= KNOWN[0].load(Ordering::SeqCst)
    }

    /// Notes how long the log was when this process opened it.
    pub fn opened(size: TreeSize) {
        OPENED_AT.get_or_init(|| size);
    }

    /// Tells whether an entry was made since this process opened the log.
    #[must_use]
    pub fn is_since_start(index: u64) -> bool {
        OPENED_AT.get().is_none_or(|at| index >= at.0)
    }

    /// Returns the time of this machine.
    #[must_use]
    pub fn local_time() -> UnixNanos {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixNanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}
