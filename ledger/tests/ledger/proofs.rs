use proofline_ledger::{
    ContentHash, Direction, EntryIndex, Hash, KeyRange, LogHash, LogTree, MapStore, Position, Row, SignedBatch, Store, StoreFault, Table,
    TreeHash, TreeSize, listing, session_at, session_entries, session_path,
};
use proofline_proto::v1;

use crate::world::*;

/// The definition of RFC 6962 section 2.1, without any cleverness.
fn naive_root<H: TreeHash>(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => H::empty(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            H::node(&naive_root::<H>(left), &naive_root::<H>(right))
        }
    }
}

/// Section 2.1.1.
fn naive_path<H: TreeHash>(leaves: &[Hash], index: usize) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, sibling) = if index < left.len() {
        (naive_path::<H>(left, index), naive_root::<H>(right))
    } else {
        (naive_path::<H>(right, index - left.len()), naive_root::<H>(left))
    };
    path.push(sibling);
    path
}

/// Section 2.1.2: SUBPROOF(m, D, b) with b true.
fn naive_consistency<H: TreeHash>(leaves: &[Hash], first: usize, is_whole: bool) -> Vec<Hash> {
    if first == leaves.len() {
        return if is_whole { Vec::new() } else { vec![naive_root::<H>(leaves)] };
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    let (mut path, sibling) = if first <= left.len() {
        (naive_consistency::<H>(left, first, is_whole), naive_root::<H>(right))
    } else {
        (naive_consistency::<H>(right, first - left.len(), false), naive_root::<H>(left))
    };
    path.push(sibling);
    path
}

fn grown(sessions: usize, entries: usize) -> World {
    let (mut world, mut collector) = World::with_collector();
    for from in (0..entries).step_by(100) {
        let events = (from..entries.min(from + 100)).map(|n| event(&format!("s{}", n % sessions), "a")).collect();
        collector.append(&mut world, events).unwrap();
    }
    world
}

/// Counts the bytes that are read from it.
struct Counting<'a>(&'a MapStore, std::cell::Cell<usize>);

impl Store for Counting<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreFault> {
        self.0.get(table, key)
    }

    fn scan(&self, table: Table, range: KeyRange<'_>, direction: Direction, limit: usize) -> Result<Vec<Row>, StoreFault> {
        let rows = self.0.scan(table, range, direction, limit)?;
        self.1.set(self.1.get() + rows.iter().map(|row| row.value.len()).sum::<usize>());
        Ok(rows)
    }
}

#[test]
fn a_chunk_of_entries_is_bounded_by_bytes_before_it_is_read() {
    let world = grown(3, 300);
    let (first, behind) = (EntryIndex(3), EntryIndex(303));
    let all = listing::entries(&world.store, first, behind, usize::MAX).unwrap();
    let sizes: Vec<usize> = all.iter().map(Vec::len).collect();
    for wanted in [1, 40, 299, 300] {
        let bytes = sizes[..wanted].iter().sum();
        let store = Counting(&world.store, std::cell::Cell::new(0));
        let chunk = listing::entries_within(&store, first, behind, 512, bytes).unwrap();
        assert_eq!(chunk, all[..wanted]);
        let most = sizes.iter().max().unwrap();
        assert!(store.1.get() <= bytes + 16 * most, "{} bytes were read for {bytes}", store.1.get());
    }
    assert_eq!(listing::entries_within(&world.store, first, behind, 20, usize::MAX).unwrap(), all[..20]);
    assert!(listing::entries_within(&world.store, behind, behind, 20, usize::MAX).unwrap().is_empty());
}

#[test]
fn the_head_is_what_an_opened_ledger_says_of_itself() {
    for entries in [0, 1, 255, 300] {
        let world = grown(3, entries);
        let ledger = &world.ledger;
        let expected = listing::Head { size: ledger.tree_size(), root: ledger.log_root(), state_digest: ledger.state_digest() };
        assert_eq!(listing::head(&world.store).unwrap(), expected);
    }
}

fn leaves(world: &World) -> Vec<Hash> {
    world.entries().iter().map(|entry| LogHash::leaf(entry)).collect()
}

#[test]
fn log_paths_equal_the_definition_at_every_kind_of_size() {
    let world = grown(7, 70_000);
    let leaves = leaves(&world);
    for size in [1, 2, 3, 255, 256, 257, 511, 512, 513, 4_096, 65_535, 65_536, 65_537, leaves.len()] {
        let at = &leaves[..size];
        let mut tree = LogTree::new(&world.store, TreeSize(size as u64));
        assert_eq!(tree.root().unwrap(), naive_root::<LogHash>(at), "size {size}");
        for index in [0, 1, size / 3, size / 2, size - 1] {
            let path = tree.inclusion_path(EntryIndex(index as u64)).unwrap();
            if index < size {
                assert_eq!(path.unwrap(), naive_path::<LogHash>(at, index), "index {index} of {size}");
            }
        }
        for first in [1, 2, size / 3, size / 2 + 1, size] {
            if (1..=size).contains(&first) {
                let path = tree.consistency_path(TreeSize(first as u64)).unwrap().unwrap();
                assert_eq!(path, naive_consistency::<LogHash>(at, first, true), "{first} in {size}");
            }
        }
    }
    assert_eq!(world.ledger.log_root(), naive_root::<LogHash>(&leaves));
}

#[test]
fn every_small_tree_is_exact() {
    let world = grown(3, 300);
    let leaves = leaves(&world);
    for size in 1..=leaves.len() {
        let mut tree = LogTree::new(&world.store, TreeSize(size as u64));
        for index in 0..size {
            let path = tree.inclusion_path(EntryIndex(index as u64)).unwrap().unwrap();
            assert_eq!(path, naive_path::<LogHash>(&leaves[..size], index));
            let path = tree.consistency_path(TreeSize(index as u64 + 1)).unwrap().unwrap();
            assert_eq!(path, naive_consistency::<LogHash>(&leaves[..size], index + 1, true));
        }
    }
}

#[test]
fn nothing_is_proven_beyond_the_size() {
    let world = grown(1, 5);
    let size = world.ledger.tree_size();
    let mut tree = LogTree::new(&world.store, size);
    assert_eq!(tree.inclusion_path(EntryIndex(size.0)).unwrap(), None);
    assert_eq!(tree.consistency_path(TreeSize(0)).unwrap(), None);
    assert_eq!(tree.consistency_path(TreeSize(size.0 + 1)).unwrap(), None);
    assert_eq!(tree.leaf(EntryIndex(size.0)).unwrap(), None);
    assert!(session_at(&world.store, TENANT, "nope", size).unwrap().is_none());
    assert!(session_at(&world.store, TENANT, "s0", TreeSize(1)).unwrap().is_none());
    let session = session_at(&world.store, TENANT, "s0", size).unwrap().unwrap();
    assert_eq!(session_path(&world.store, &session, Position(5)).unwrap(), None);
}

#[test]
fn session_paths_equal_the_definition_across_chunks() {
    let (mut world, mut collector) = World::with_collector();
    let mut sizes = Vec::new();
    for _ in 0..37 {
        collector.append(&mut world, (0..91).map(|_| event("s", "a")).collect()).unwrap();
        sizes.push(world.ledger.tree_size());
    }
    let mut all = Vec::new();
    for entry in world.entries() {
        let (entry, core) = proofline_ledger::entry::parse(&entry).unwrap();
        if core.session.is_some() {
            all.push((ContentHash::leaf(&entry.core), Hash::from_slice(&entry.session_root).unwrap()));
        }
    }
    for size in sizes {
        let session = session_at(&world.store, TENANT, "s", size).unwrap().unwrap();
        let n = usize::try_from(session.size).unwrap();
        let leaves: Vec<Hash> = all[..n].iter().map(|(leaf, _)| *leaf).collect();
        assert_eq!(all[n - 1].1, naive_root::<ContentHash>(&leaves), "the last entry binds the session");
        assert_eq!(session_entries(&world.store, &session, Position(0), usize::MAX).unwrap().len(), n);
        for position in [0, 1, n / 2, n.saturating_sub(2), n - 1, 1023.min(n - 1), 1024.min(n - 1)] {
            let path = session_path(&world.store, &session, Position(position as u64)).unwrap().unwrap();
            assert_eq!(path, naive_path::<ContentHash>(&leaves, position), "{position} of {n}");
        }
    }
}

#[test]
fn batch_paths_lead_to_the_root_that_the_collector_signed_past_rejections() {
    let (mut world, mut collector) = World::with_collector();
    let mut events: Vec<prost::bytes::Bytes> =
        (0..13).map(|n| prost::Message::encode_to_vec(&event(&format!("s{n}"), "a")).into()).collect();
    events[4] = vec![0xff].into();
    let batch = collector.batch(events.clone());
    let receipt = collector.append_bytes(&mut world, events.clone()).unwrap();
    let v1::EntryCore { body: Some(v1::entry_core::Body::Event(recorded)), .. } = world.entry(receipt.first_index) else { panic!() };
    let signed = SignedBatch::find(&world.store, recorded.at.as_ref().unwrap()).unwrap();
    let leaves: Vec<Hash> = events.iter().map(|event| ContentHash::leaf(event)).collect();
    assert_eq!(signed.statement.signature, batch.signature);
    assert_eq!(signed.statement.events_root, naive_root::<ContentHash>(&leaves).0);
    for offset in 0..13 {
        assert_eq!(signed.path(offset).unwrap(), naive_path::<ContentHash>(&leaves, offset as usize));
    }
    assert_eq!(signed.path(13), None);
}

#[test]
fn listings_page_through_everything_once() {
    let world = grown(25, 100);
    let size = world.ledger.tree_size();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = listing::sessions(&world.store, TENANT, &after, 7, size).unwrap();
        let Some(last) = page.last() else { break };
        after.clone_from(&last.session_id);
        seen.extend(page.into_iter().map(|session| (session.session_id.clone(), session.size)));
    }
    let mut expected: Vec<(String, u64)> = (0..25).map(|n| (format!("s{n}"), 4)).collect();
    expected.sort_by_key(|(name, _)| (name.len(), name.clone()));
    assert_eq!(seen, expected);
    let early = listing::sessions(&world.store, TENANT, "", 2, TreeSize(12)).unwrap();
    assert_eq!(early.len(), 2, "sessions that are not covered yet do not shorten a page");
    assert_eq!(listing::collectors(&world.store, "", 10).unwrap().len(), 1);
    assert!(listing::collectors(&world.store, "gateway-1", 10).unwrap().is_empty());
    assert_eq!(listing::registrations(&world.store, "gateway-1", size).unwrap(), [EntryIndex(0), EntryIndex(1)]);
}
