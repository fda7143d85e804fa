//! Stretches of a key's list, and how they join.

use proofline_proto::v1;
use thiserror::Error;

use super::key::{EntryKey, KeyHash, list_leaf};
use super::map::{self, MapError, MapValue};
use super::question::Question;
use super::set_proof::{SetProofError, fold_set};
use crate::coordinate::{EntryIndex, LeafIndex, TreeSize};
use crate::hash::{ContentHash, TreeHash};
use crate::report::{Outcome, Refusal};
use crate::tree::{TreeError, parse_hash, parse_path};

/// Why the ranges of a list are not the stretch of it that the window asks for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// A key that no entry can carry.
    #[error("a range is of a key that no entry can carry")]
    NoKey,
    /// A range without entries that is not that of an absent key, or the reverse.
    #[error("the range of {0} has no entries though its key has, or the reverse")]
    Shape(EntryKey),
    /// Indexes that do not rise, or lie behind the commitment.
    #[error("the indexes of {key} do not rise below {size}")]
    Indexes {
        /// Key of the list.
        key: EntryKey,
        /// Entries that the commitment covers.
        size: u64,
    },
    /// The indexes do not stand in the list.
    #[error("the list of {key}: {source}")]
    NotListed {
        /// Key of the list.
        key: EntryKey,
        /// What is wrong.
        source: SetProofError,
    },
    /// The first range begins inside the window.
    #[error("the list of {key} begins at position {from}, and the entries before it are missing")]
    Head {
        /// Key of the list.
        key: EntryKey,
        /// Where it begins.
        from: u64,
    },
    /// A range does not go on where the one before it ended.
    #[error("the list of {key} goes on at position {from} instead of {expected}")]
    Gap {
        /// Key of the list.
        key: EntryKey,
        /// Where it goes on.
        from: u64,
        /// Where it should.
        expected: u64,
    },
    /// The list ends inside the window.
    #[error("the list of {key} ends at position {position} of {count}, and the entries behind it are missing")]
    Tail {
        /// Key of the list.
        key: EntryKey,
        /// Where it ends.
        position: u64,
        /// Entries that carry the key.
        count: u64,
    },
    /// The list goes on behind the window.
    #[error("the list of {0} goes on behind the window")]
    Beyond(EntryKey),
}

impl Refusal for RangeError {
    fn outcome(&self) -> Outcome {
        Outcome::Failed
    }
}

/// One range whose form is right.
#[derive(Clone, Debug)]
pub(super) struct ListRange<'a> {
    pub(super) key: EntryKey,
    value: MapValue,
    count: u64,
    from: u64,
    pub(super) indexes: &'a [u64],
}

impl<'a> ListRange<'a> {
    /// Parses a range and checks it against the root of the map.
    pub(super) fn verify_map(of: &'a v1::KeyRange, map_root: &[u8; 32]) -> Result<Self, MapOrRange> {
        let key = of.key.as_ref().and_then(EntryKey::parse).ok_or(RangeError::NoKey)?;
        let path = of.map_path.iter().map(|hash| map::exactly("hash", hash)).collect::<Result<Vec<_>, _>>()?;
        let value = parse_value(of)?;
        map::verify(&key.hash(), &value, &path, map_root)?;
        Ok(Self { key, value, count: of.count, from: of.from, indexes: &of.indexes })
    }

    /// Checks that the indexes stand in the list at their positions.
    pub(super) fn verify_list(&self, path: &[Vec<u8>], size: u64) -> Result<(), RangeError> {
        let MapValue::Listed { count, root } = self.value else {
            let is_plain = self.indexes.is_empty() && path.is_empty() && self.from == 0;
            return if is_plain { Ok(()) } else { Err(RangeError::Shape(self.key.clone())) };
        };
        if self.indexes.is_empty() {
            return Err(RangeError::Shape(self.key.clone()));
        }
        let rises = self.indexes.iter().zip(self.indexes.iter().skip(1)).all(|(one, next)| one < next);
        if !rises || self.indexes.last().is_none_or(|last| *last >= size) {
            return Err(RangeError::Indexes { key: self.key.clone(), size });
        }
        let not_listed = |source| RangeError::NotListed { key: self.key.clone(), source };
        let leaf = |(position, index): (u64, &u64)| (LeafIndex(position), list_leaf(*index));
        let leaves: Vec<_> = (self.from..=u64::MAX).zip(self.indexes).map(leaf).collect();
        let path = parse_path::<ContentHash>(path).map_err(|error| not_listed(error.into()))?;
        if leaves.len() != self.indexes.len() {
            return Err(RangeError::Shape(self.key.clone()));
        }
        let computed = fold_set(TreeSize(count), &leaves, &path).map_err(not_listed)?;
        let expected = ContentHash::from_bytes(root);
        if computed == expected {
            return Ok(());
        }
        let mismatch = TreeError::RootMismatch { computed: computed.to_string(), expected: expected.to_string() };
        Err(not_listed(mismatch.into()))
    }
}

/// The two checks that a range meets before it is a range.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum MapOrRange {
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Range(#[from] RangeError),
}

fn parse_value(of: &v1::KeyRange) -> Result<MapValue, MapError> {
    let has_other = !of.other_key.is_empty() || !of.other_value.is_empty();
    match (of.count, has_other) {
        (0, _) if !of.root.is_empty() => Err(MapError::StrayPart("absent")),
        (0, false) => Ok(MapValue::Nothing),
        (0, true) => Ok(MapValue::Other {
            key: KeyHash(map::exactly("hash of another key", &of.other_key)?),
            value: map::exactly("value of another key", &of.other_value)?,
        }),
        (_, true) => Err(MapError::StrayPart("present")),
        (count, false) => {
            let root: ContentHash =
                parse_hash(&of.root).map_err(|_| MapError::Length { what: "root", bytes: of.root.len(), expected: 32 })?;
            Ok(MapValue::Listed { count, root: *root.as_bytes() })
        }
    }
}

/// A list that is being given, range by range.
#[derive(Clone, Debug)]
pub(super) struct OpenList {
    pub(super) key: EntryKey,
    pub(super) count: u64,
    /// Position behind the last index so far.
    pub(super) position: u64,
    last: Option<u64>,
}

impl OpenList {
    /// Takes the first range of a list.
    pub(super) fn begin(range: &ListRange<'_>, window: &Question) -> Result<Self, RangeError> {
        let is_head_missing = range.from > 0 && range.indexes.first().is_none_or(|first| *first >= window.from.0);
        if is_head_missing {
            return Err(RangeError::Head { key: range.key.clone(), from: range.from });
        }
        let mut list = Self { key: range.key.clone(), count: range.count, position: range.from, last: None };
        list.go_on(range, window)?;
        Ok(list)
    }

    /// Takes the next range.
    pub(super) fn go_on(&mut self, range: &ListRange<'_>, window: &Question) -> Result<(), RangeError> {
        if (range.from, range.count) != (self.position, self.count) {
            return Err(RangeError::Gap { key: self.key.clone(), from: range.from, expected: self.position });
        }
        let behind = range.indexes.iter().filter(|index| **index >= window.to.0).count();
        if behind > 1 {
            return Err(RangeError::Beyond(self.key.clone()));
        }
        self.position += range.indexes.len() as u64;
        self.last = range.indexes.last().copied().or(self.last);
        Ok(())
    }

    /// Tells whether nothing of the window is left in the list.
    pub(super) fn is_finished(&self, window: &Question) -> bool {
        self.position >= self.count || self.last.is_some_and(|last| last >= window.to.0)
    }

    /// What is wrong when the list ends here.
    pub(super) fn cut(&self) -> RangeError {
        RangeError::Tail { key: self.key.clone(), position: self.position, count: self.count }
    }

    /// The entries of a range that stand in the window.
    pub(super) fn in_window<'a>(range: &'a ListRange<'_>, window: &'a Question) -> impl Iterator<Item = EntryIndex> + 'a {
        range.indexes.iter().map(|index| EntryIndex(*index)).filter(|index| window.contains(*index))
    }
}
