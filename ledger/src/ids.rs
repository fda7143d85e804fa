//! Coordinates, each a type of its own: an entry index is never a session position, and neither is a size.

macro_rules! coordinate {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

coordinate!(
    /// Place of an entry in the log, from 0. Not a Raft log index.
    EntryIndex(u64)
);
coordinate!(
    /// Number of leaves of the log tree.
    TreeSize(u64)
);
coordinate!(
    /// Place of an entry in its session, dense from 0.
    Position(u64)
);
coordinate!(
    /// The ledger's own short name for a session: the order in which sessions were first seen.
    SessionOrdinal(u64)
);
coordinate!(
    /// One of a collector's parallel chains, 0 to 63.
    Lane(u32)
);
coordinate!(
    /// Opening of a lane, from 1; assigned by the ledger.
    Epoch(u64)
);
coordinate!(
    /// Place of a batch in its epoch, from 1.
    Sequence(u64)
);
coordinate!(
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    UnixNanos(u64)
);
