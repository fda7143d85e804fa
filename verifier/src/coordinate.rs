//! Coordinates, one type for each: an entry's place in the log, a leaf's place in some tree, a place in a session.

use std::fmt;

macro_rules! coordinate {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

coordinate! {
    /// Names an entry of the log; the genesis entry has index 0.
    EntryIndex
}
coordinate! {
    /// Names a leaf of a tree; the first leaf has index 0.
    LeafIndex
}
coordinate! {
    /// Counts the leaves of a tree.
    TreeSize
}
coordinate! {
    /// Names an entry within its session; dense from 0.
    SessionPosition
}

impl From<EntryIndex> for LeafIndex {
    fn from(index: EntryIndex) -> Self {
        Self(index.0)
    }
}

impl From<SessionPosition> for LeafIndex {
    fn from(position: SessionPosition) -> Self {
        Self(position.0)
    }
}
