//! The map over all keys: a binary trie over the bits of their hashes, in which a subtree with one key is that key's leaf.
//!
//! Four levels are one page, of sixteen places: empty, a leaf, or the root of the page below. What the map is depends on the
//! keys alone, never on the order in which they came.

use super::pending::Pending;
use crate::hash::{Hash, map_leaf, map_node};
use crate::store::{Store, StoreFault, Table};

/// Half-bytes of a key's hash: no page lies deeper.
const DEPTH_MAX: usize = 64;
const PLACES: usize = 16;

/// What the map says of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Hash of the key.
    pub(crate) key: Hash,
    /// Entries that carry it.
    pub(crate) count: u64,
    /// Root of their list.
    pub(crate) root: Hash,
}

impl Leaf {
    fn hash(&self) -> Hash {
        map_leaf(&self.key, self.count, &self.root)
    }
}

/// One place of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Empty,
    Leaf(Leaf),
    /// Root of the page below, which has two keys or more.
    Inner(Hash),
}

/// A subtree as its parent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subtree {
    Empty,
    One(Hash),
    Many(Hash),
}

impl Subtree {
    fn hash(self) -> Hash {
        match self {
            Self::Empty => Hash::ZERO,
            Self::One(hash) | Self::Many(hash) => hash,
        }
    }

    fn join(left: Self, right: Self) -> Self {
        match (left, right) {
            (Self::Empty, other @ (Self::Empty | Self::One(_))) | (other @ Self::One(_), Self::Empty) => other,
            (Self::Empty | Self::One(_) | Self::Many(_), _) => Self::Many(map_node(&left.hash(), &right.hash())),
        }
    }
}

/// Sixteen places: the next half-byte of a key says which is its.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Page([Place; PLACES]);

const LEAF: u8 = 1;
const INNER: u8 = 2;

impl Page {
    fn read(pending: &Pending, store: &impl Store, at: &[u8]) -> Result<Self, StoreFault> {
        match pending.get(store, Table::KeyMap, at)? {
            None => Ok(Self::default()),
            Some(row) => Self::decode(&row).ok_or_else(|| StoreFault::Damaged { table: Table::KeyMap, key: at.to_vec() }),
        }
    }

    fn decode(mut row: &[u8]) -> Option<Self> {
        let mut page = Self::default();
        while let Some(([number, kind], rest)) = row.split_first_chunk::<2>() {
            let (hash, rest) = rest.split_first_chunk::<32>()?;
            let (place, rest) = match *kind {
                INNER => (Place::Inner(Hash(*hash)), rest),
                LEAF => {
                    let (count, rest) = rest.split_first_chunk::<8>()?;
                    let (root, rest) = rest.split_first_chunk::<32>()?;
                    (Place::Leaf(Leaf { key: Hash(*hash), count: u64::from_be_bytes(*count), root: Hash(*root) }), rest)
                }
                _ => return None,
            };
            *page.0.get_mut(usize::from(*number))? = place;
            row = rest;
        }
        row.is_empty().then_some(page)
    }

    fn encode(&self) -> Vec<u8> {
        let mut row = Vec::new();
        for (number, place) in (0_u8..).zip(&self.0) {
            match place {
                Place::Empty => (),
                Place::Leaf(leaf) => {
                    row.extend([number, LEAF]);
                    row.extend(leaf.key.0);
                    row.extend(leaf.count.to_be_bytes());
                    row.extend(leaf.root.0);
                }
                Place::Inner(hash) => {
                    row.extend([number, INNER]);
                    row.extend(hash.0);
                }
            }
        }
        row
    }

    fn subtrees(&self) -> [Subtree; PLACES] {
        self.0.map(|place| match place {
            Place::Empty => Subtree::Empty,
            Place::Leaf(leaf) => Subtree::One(leaf.hash()),
            Place::Inner(hash) => Subtree::Many(hash),
        })
    }

    fn root(&self) -> Subtree {
        fold(&self.subtrees())
    }
}

fn fold(of: &[Subtree]) -> Subtree {
    match of {
        [] => Subtree::Empty,
        [one] => *one,
        _ => {
            let (left, right) = of.split_at(of.len() / 2);
            Subtree::join(fold(left), fold(right))
        }
    }
}

fn half_byte(key: &Hash, depth: usize) -> usize {
    let byte = usize::from(key.0.get(depth / 2).copied().unwrap_or_default());
    if depth.is_multiple_of(2) { byte >> 4 } else { byte & 15 }
}

/// Row key of the page that `key` lies in at `depth`.
fn page_key(key: &Hash, depth: usize) -> Vec<u8> {
    let mut at = vec![u8::try_from(depth).unwrap_or(u8::MAX)];
    at.extend(key.0.iter().take(depth / 2));
    if !depth.is_multiple_of(2) {
        at.push(key.0.get(depth / 2).copied().unwrap_or_default() & 0xf0);
    }
    at
}

/// Puts leaves into the map, which replace those of the same keys, and returns its root. `leaves` are sorted by key, none twice.
pub(crate) fn update(pending: &mut Pending, store: &impl Store, leaves: &[Leaf]) -> Result<Hash, StoreFault> {
    let Some(first) = leaves.first() else { return root(pending, store) };
    let page = Page::read(pending, store, &page_key(&first.key, 0))?;
    Ok(update_page(pending, store, page, 0, leaves)?.hash())
}

/// Returns the root of the map as it is.
pub(crate) fn root(pending: &Pending, store: &impl Store) -> Result<Hash, StoreFault> {
    Ok(Page::read(pending, store, &page_key(&Hash::ZERO, 0))?.root().hash())
}

/// Updates the page at `depth` in which all of `leaves`, at least one, lie.
fn update_page(pending: &mut Pending, store: &impl Store, mut page: Page, depth: usize, leaves: &[Leaf]) -> Result<Subtree, StoreFault> {
    let Some(first) = leaves.first() else { return Ok(page.root()) };
    for of_place in leaves.chunk_by(|one, other| half_byte(&one.key, depth) == half_byte(&other.key, depth)) {
        let Some(leaf) = of_place.first() else { continue };
        let Some(place) = page.0.get_mut(half_byte(&leaf.key, depth)) else { continue };
        *place = match (*place, of_place) {
            (Place::Empty, [one]) => Place::Leaf(*one),
            (Place::Leaf(former), [one]) if former.key == one.key => Place::Leaf(*one),
            (Place::Leaf(former), _) => below(pending, store, Page::default(), depth + 1, &with(former, of_place))?,
            (Place::Empty, _) => below(pending, store, Page::default(), depth + 1, of_place)?,
            (Place::Inner(_), _) => {
                let lower = Page::read(pending, store, &page_key(&leaf.key, depth + 1))?;
                below(pending, store, lower, depth + 1, of_place)?
            }
        };
    }
    pending.put(Table::KeyMap, page_key(&first.key, depth), page.encode());
    Ok(page.root())
}

fn below(pending: &mut Pending, store: &impl Store, page: Page, depth: usize, leaves: &[Leaf]) -> Result<Place, StoreFault> {
    // Two keys with one hash are the same key, so the last half-byte parts them at the latest.
    debug_assert!(depth < DEPTH_MAX, "two keys have the same hash");
    Ok(Place::Inner(update_page(pending, store, page, depth, leaves)?.hash()))
}

/// Returns `leaves` with one more, unless they have its key.
fn with(former: Leaf, leaves: &[Leaf]) -> Vec<Leaf> {
    let mut all = leaves.to_vec();
    if let Err(at) = all.binary_search_by(|leaf| leaf.key.cmp(&former.key)) {
        all.insert(at, former);
    }
    all
}

/// What proves that a key is in the map, or is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MapProof {
    /// From the leaf's side to the root.
    pub(crate) path: Vec<Hash>,
    /// The leaf at the end of the path: that of the key, of another one, or none.
    pub(crate) leaf: Option<Leaf>,
}

/// Proves what the map, as the store has it, says of a key.
pub(crate) fn prove(store: &impl Store, key: &Hash) -> Result<MapProof, StoreFault> {
    let (pending, mut path) = (Pending::default(), Vec::new());
    for depth in 0..DEPTH_MAX {
        let page = Page::read(&pending, store, &page_key(key, depth))?;
        let subtrees = page.subtrees();
        let (mut subtrees, mut places) = (&subtrees[..], &page.0[..]);
        while let (Subtree::Many(_), 2..) = (fold(subtrees), subtrees.len()) {
            let half = subtrees.len() / 2;
            let ((left, right), (left_places, right_places)) = (subtrees.split_at(half), places.split_at(half));
            let is_right = half_byte(key, depth) & half != 0;
            let there = if is_right { left } else { right };
            path.push(fold(there).hash());
            (subtrees, places) = if is_right { (right, right_places) } else { (left, left_places) };
        }
        if let Subtree::Empty | Subtree::One(_) = fold(subtrees) {
            path.reverse();
            let leaf = places.iter().find_map(|place| match place {
                Place::Leaf(leaf) => Some(*leaf),
                Place::Empty | Place::Inner(_) => None,
            });
            return Ok(MapProof { path, leaf });
        }
    }
    Err(StoreFault::Damaged { table: Table::KeyMap, key: key.0.to_vec() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::store::{Changes, MapStore};

    /// The definition of section 17.1, over the leaves of one subtree.
    fn naive(leaves: &[Leaf], depth: usize) -> Hash {
        match leaves {
            [] => Hash::ZERO,
            [one] => one.hash(),
            _ => {
                let (left, right): (Vec<Leaf>, Vec<Leaf>) = leaves.iter().partition(|leaf| bit(&leaf.key, depth) == 0);
                map_node(&naive(&left, depth + 1), &naive(&right, depth + 1))
            }
        }
    }

    fn bit(key: &Hash, depth: usize) -> u8 {
        key.0[depth / 8] >> (7 - depth % 8) & 1
    }

    /// The fold of section 17.6: what `leaf` and the path say the root is.
    fn folded(key: &Hash, leaf: Option<Leaf>, path: &[Hash]) -> Hash {
        let begin = leaf.map_or(Hash::ZERO, |leaf| leaf.hash());
        let depths = (0..path.len()).rev();
        depths.zip(path).fold(begin, |hash, (depth, sibling)| match bit(key, depth) {
            0 => map_node(&hash, sibling),
            _ => map_node(sibling, &hash),
        })
    }

    /// Keys that share beginnings of every length, and half-bytes of every value.
    fn key() -> impl Strategy<Value = Hash> {
        let prefix = prop_oneof![Just(0_u8), Just(1), Just(0x10), Just(0xf0), Just(0xff), any::<u8>()];
        (prop::collection::vec(prefix, 1..4), any::<u8>()).prop_map(|(prefix, last)| {
            let mut key = [0x55; 32];
            key[..prefix.len()].copy_from_slice(&prefix);
            key[31] = last;
            Hash(key)
        })
    }

    proptest! {
        #[test]
        fn the_map_is_a_function_of_its_leaves_however_they_came(groups in prop::collection::vec(prop::collection::vec((key(), 1..9_u64), 0..12), 1..8), absent in key()) {
            let (mut store, mut model) = (MapStore::default(), BTreeMap::new());
            for (number, group) in groups.into_iter().enumerate() {
                let mut pending = Pending::default();
                let fresh: BTreeMap<Hash, Leaf> =
                    group.into_iter().map(|(key, count)| (key, Leaf { key, count, root: Hash([number as u8; 32]) })).collect();
                model.extend(fresh.clone());
                let all: Vec<Leaf> = model.values().copied().collect();
                let made = update(&mut pending, &store, &fresh.into_values().collect::<Vec<_>>()).unwrap();
                prop_assert_eq!(made, naive(&all, 0));
                prop_assert_eq!(root(&pending, &store).unwrap(), made);
                store.commit(Changes { rows: pending.take() });
            }
            let all: Vec<Leaf> = model.values().copied().collect();
            let expected = naive(&all, 0);
            for leaf in &all {
                let proof = prove(&store, &leaf.key).unwrap();
                prop_assert_eq!(proof.leaf, Some(*leaf));
                prop_assert_eq!(folded(&leaf.key, proof.leaf, &proof.path), expected);
            }
            let proof = prove(&store, &absent).unwrap();
            prop_assert_eq!(proof.leaf.is_some_and(|leaf| leaf.key == absent), model.contains_key(&absent));
            prop_assert_eq!(folded(&absent, proof.leaf, &proof.path), expected);
            if let Some(other) = proof.leaf {
                prop_assert!((0..proof.path.len()).all(|depth| bit(&other.key, depth) == bit(&absent, depth)));
            }
        }
    }

    #[test]
    fn a_row_that_no_page_encodes_to_is_damaged() {
        for row in [vec![16, INNER], [vec![16, INNER], vec![0; 32]].concat(), [vec![0, 3], vec![0; 32]].concat(), vec![0]] {
            assert!(Page::decode(&row).is_none(), "{row:?}");
        }
    }
}
