//! State commitments, accesses, and answers that are checked here by the words of docs/FORMATS.md, section 17.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::Signer as _;
use proofline_ledger::{
    ContentHash, Divergence, EntryIndex, Hash, KeyIndex, Lineage, LineageFault, LogHash, LogTree, MapStore, Outcome, QuestionProblem,
    Reach, Refusal, Replay, TreeHash, TreeSize, Under, indexed_commitment, listing, newest_commitment, reach, signed,
};
use proofline_proto::{peer, v1};
use prost::Message as _;
use v1::{Dimension, LineageDirection};

use crate::world::*;

fn index(world: &World) -> KeyIndex {
    let mut index = KeyIndex::open(&world.store).unwrap();
    while index.size() < world.ledger.tree_size() {
        index.advance(&world.store, world.ledger.tree_size()).unwrap();
    }
    index
}

/// The truth about what a world has.
pub fn commitment(world: &World) -> v1::StateCommitment {
    v1::StateCommitment {
        size: world.ledger.tree_size().0,
        map_root: index(world).root().0.to_vec(),
        state_digest: world.ledger.state_digest().0.to_vec(),
    }
}

/// Commits to the state as it is, and has the map written. Returns what it committed to.
fn commit(world: &mut World) -> v1::StateCommitment {
    let (said, mut index) = (commitment(world), index(world));
    let Outcome::Committed(at) = world.apply(peer::item::Item::Commitment(said.clone())) else { panic!("not committed") };
    world.store.commit(index.take_changes(Some(at)));
    assert_eq!(indexed_commitment(&world.store).unwrap().unwrap().index, at);
    said
}

fn access(node: u64, seed: u8, question: &v1::LineageQuestion) -> v1::AccessRecorded {
    sign(
        v1::AccessRecorded {
            kind: v1::AccessKind::Lineage.into(),
            reader: "spiffe://test/auditor".to_owned(),
            question: question.encode_to_vec(),
            purpose: "case 7".to_owned(),
            node_id: node,
            public_key: public(&key(seed)),
            signature: Vec::new(),
        },
        seed,
    )
}

fn sign(mut it: v1::AccessRecorded, seed: u8) -> v1::AccessRecorded {
    it.signature = key(seed).sign(&signed::access(ORIGIN, &it)).to_bytes().to_vec();
    it
}

#[test]
fn a_commitment_is_taken_over_what_is_there_and_behind_the_one_before() {
    let (mut world, _) = World::with_collector();
    let said = commit(&mut world);
    assert_eq!(world.entry(said.size).body, Some(v1::entry_core::Body::StateCommitment(said.clone())));
    let newest = newest_commitment(&world.store, world.ledger.tree_size()).unwrap().unwrap();
    assert_eq!((newest.index, newest.size), (EntryIndex(said.size), TreeSize(said.size)));
    assert_eq!(newest_commitment(&world.store, TreeSize(said.size)).unwrap(), None, "it is no entry below its own index");
    for (size, wrong) in [(said.size, "again"), (0, "of nothing"), (said.size + 2, "of more than there is")] {
        let refused = world.apply(peer::item::Item::Commitment(v1::StateCommitment { size, ..said.clone() }));
        assert!(matches!(refused, Outcome::Refused(Refusal::CommitmentOutOfPlace { .. })), "{wrong}: {refused:?}");
    }
    let short = v1::StateCommitment { size: said.size + 1, map_root: vec![0; 31], ..said };
    assert!(matches!(world.apply(peer::item::Item::Commitment(short)), Outcome::Refused(Refusal::Malformed(_))));
    assert_eq!(world.ledger.tree_size(), TreeSize(newest.size.0 + 1), "what is refused leaves no entry");
    world.reopen();
    assert_eq!(world.ledger.committed(), newest.size, "a reopened ledger knows it, too");
}

#[test]
fn an_access_is_recorded_when_a_registered_node_vouches_for_it() {
    let mut world = World::new();
    let question = v1::LineageQuestion::default();
    let good = access(1, 21, &question);
    assert!(matches!(world.apply(peer::item::Item::Access(good.clone())), Outcome::Recorded(EntryIndex(1))));
    let other = world.apply(peer::item::Item::Access(access(1, 22, &question)));
    assert!(matches!(other, Outcome::Refused(Refusal::KeyNotRegistered(_))), "{other:?}");
    let forged = v1::AccessRecorded { purpose: "case 8".to_owned(), ..good.clone() };
    assert!(matches!(world.apply(peer::item::Item::Access(forged)), Outcome::Refused(Refusal::Forged { .. })));
    let wrong: [fn(&mut v1::AccessRecorded); 6] = [
        |it| it.question = vec![0x18, 0],
        |it| it.question = vec![0; 17 * 1_024],
        |it| it.reader = "r".repeat(257),
        |it| it.purpose = "p".repeat(257),
        |it| it.kind = 0,
        |it| it.kind = v1::AccessKind::PayloadRead.into(),
    ];
    for (number, alter) in wrong.into_iter().enumerate() {
        let mut it = good.clone();
        alter(&mut it);
        let refused = world.apply(peer::item::Item::Access(sign(it, 21)));
        assert!(matches!(refused, Outcome::Refused(Refusal::Malformed(_) | Refusal::TooLarge { .. })), "{number}: {refused:?}");
    }
    assert_eq!(world.ledger.tree_size(), TreeSize(2));
}

fn replayed(world: &World) -> Result<Hash, Divergence> {
    let mut replay = Replay::new()?;
    for entry in world.entries() {
        replay.push(entry.into())?;
    }
    replay.finish().map(|(ledger, _)| ledger.state_digest())
}

#[test]
fn replay_computes_every_commitment_again_and_finds_the_first_that_is_false() {
    let (mut world, mut collector) = World::with_collector();
    commit(&mut world);
    collector.append(&mut world, vec![event("s-1", "agent-1"), event("s-2", "agent-1")]).unwrap();
    // A commitment may come late: of a size that entries have passed.
    let late = commitment(&world);
    collector.append(&mut world, vec![event("s-1", "agent-1")]).unwrap();
    assert!(matches!(world.apply(peer::item::Item::Access(access(1, 21, &v1::LineageQuestion::default()))), Outcome::Recorded(_)));
    assert!(matches!(world.apply(peer::item::Item::Commitment(late)), Outcome::Committed(_)));
    assert_eq!(replayed(&world).unwrap(), world.ledger.state_digest());

    let truth = commitment(&world);
    let mut false_map = World::empty();
    (false_map.store, false_map.now) = (world.store.clone(), world.now);
    false_map.reopen();
    let at = world.ledger.tree_size().0;
    let said = v1::StateCommitment { map_root: vec![1; 32], ..truth.clone() };
    assert!(matches!(false_map.apply(peer::item::Item::Commitment(said)), Outcome::Committed(_)), "apply records a claim");
    let found = replayed(&false_map).unwrap_err();
    assert!(matches!(found, Divergence::OtherMap { index, size, .. } if index.0 == at && size.0 == at), "{found}");

    let said = v1::StateCommitment { state_digest: vec![1; 32], ..truth.clone() };
    assert!(matches!(world.apply(peer::item::Item::Commitment(said)), Outcome::Committed(_)));
    let found = replayed(&world).unwrap_err();
    assert!(matches!(found, Divergence::OtherState { index, .. } if index.0 == at), "{found}");
}

#[test]
fn the_map_does_not_depend_on_the_steps_that_led_to_it() {
    let (mut world, mut collector) = World::with_collector();
    for number in 0..40 {
        let session = format!("s-{}", number % 7);
        collector.append(&mut world, vec![event(&session, "agent-1"), child(&format!("c-{number}"), &session)]).unwrap();
    }
    let whole = index(&world);
    for step in [1, 3, 20] {
        let (mut store, mut size) = (world.store.clone(), 0);
        let mut index = KeyIndex::open(&store).unwrap();
        while size < world.ledger.tree_size().0 {
            size = (size + step).min(world.ledger.tree_size().0);
            index.advance(&store, TreeSize(size)).unwrap();
            if size % 2 == 0 {
                store.commit(index.take_changes(None));
                index = KeyIndex::open(&store).unwrap();
            }
        }
        assert_eq!((index.root(), index.keys(), index.size()), (whole.root(), whole.keys(), whole.size()), "steps of {step}");
    }
}

fn start(dimension: Dimension, value: &str) -> v1::Key {
    v1::Key { dimension: dimension.into(), tenant_id: TENANT.to_owned(), value: value.to_owned() }
}

fn question(starts: Vec<v1::Key>, direction: LineageDirection, depth: u32) -> v1::LineageQuestion {
    v1::LineageQuestion { starts, direction: direction.into(), depth, ..Default::default() }
}

fn under(world: &World, page_entries: usize) -> Under {
    let commitment = indexed_commitment(&world.store).unwrap();
    Under { note: crate::evidence::checkpoint(world, world.ledger.tree_size()), size: world.ledger.tree_size(), commitment, page_entries }
}

fn ask(world: &World, of: v1::LineageQuestion, page_entries: usize) -> Result<Vec<v1::LineagePage>, LineageFault> {
    let under = under(world, page_entries);
    let checkpoint = crate::evidence::policy().verify_checkpoint(&under.note).unwrap();
    let mut verifier = proofline_verifier::AnswerVerifier::new(checkpoint, &under.note).asking(of.clone());
    let mut lineage = Lineage::begin(&world.store, of.clone(), under)?;
    let mut pages = Vec::new();
    while let Some(page) = lineage.next_page(&mut || true)? {
        verifier.push(&page).unwrap_or_else(|error| panic!("{} by the verifier: {error}, asked {of:?}", error.check().as_str()));
        pages.push(page);
    }
    // A window whose end in time no entry shows yet may still get entries.
    let to = pages.last().unwrap().question.as_ref().unwrap().to_index;
    let behind = listing::entry(&world.store, EntryIndex(to)).unwrap().map(|exact| proofline_verifier::LogEntry::parse(&exact).unwrap());
    let is_shown = of.to_unix_ns == 0 || behind.is_some_and(|it| it.committed_unix_ns >= of.to_unix_ns);
    let cut = proofline_verifier::Extent::CutShort { list: None, from: to };
    let expected = if is_shown || of.starts.is_empty() { proofline_verifier::Extent::Complete } else { cut };
    assert_eq!(verifier.finish().unwrap().extent, expected);
    Ok(pages)
}

fn derived(context: &str, parts: &[&[u8]]) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    Hash(hasher.finalize().into())
}

fn set_root(lo: u64, n: u64, of: &BTreeMap<u64, Hash>, path: &mut dyn Iterator<Item = Hash>, node: fn(&Hash, &Hash) -> Hash) -> Hash {
    if of.range(lo..lo + n).next().is_none() {
        return path.next().expect("the proof is long enough");
    }
    if n == 1 {
        return of[&lo];
    }
    let k = n.next_power_of_two() / 2;
    let left = set_root(lo, k, of, path, node);
    node(&left, &set_root(lo + k, n - k, of, path, node))
}

fn check_set(n: u64, of: &BTreeMap<u64, Hash>, path: &[Vec<u8>], node: fn(&Hash, &Hash) -> Hash) -> Hash {
    let mut path = path.iter().map(|hash| Hash::from_slice(hash).unwrap());
    let root = set_root(0, n, of, &mut path, node);
    assert!(path.next().is_none(), "no hash is left over");
    root
}

/// Checks all pages as a verifier would, and returns the indexes of the window that they give, page by page.
fn check(world: &World, pages: &[v1::LineagePage]) -> Vec<Vec<u64>> {
    let size = world.ledger.tree_size();
    let commitment = indexed_commitment(&world.store).unwrap().unwrap();
    let (mut seen, mut joined) = (BTreeSet::new(), BTreeMap::<v1_key::Sorted, (u64, Vec<u64>)>::new());
    let mut given = Vec::new();
    for (number, page) in pages.iter().enumerate() {
        assert_eq!((page.number, page.last), (number as u64, number + 1 == pages.len()));
        let leaves = page.entries.iter().map(|entry| (entry.index, LogHash::leaf(&entry.entry))).collect();
        assert_eq!(check_set(size.0, &leaves, &page.log_path, LogHash::node), LogTree::new(&world.store, size).root().unwrap());
        check_statements(page);
        for range in &page.ranges {
            check_map(range, commitment.map_root);
            let of = range.key.clone().unwrap();
            let (next, indexes) = joined.entry(v1_key::Sorted::of(&of)).or_insert_with(|| (range.from, Vec::new()));
            assert_eq!(*next, range.from, "ranges join without a gap");
            *next += range.indexes.len() as u64;
            indexes.extend(&range.indexes);
            if range.count > 0 {
                let listed = (range.from..).zip(range.indexes.iter().map(|it| derived("proofline/v1 key entry", &[&it.to_be_bytes()])));
                let root = check_set(range.count, &listed.collect(), &range.range_path, ContentHash::node);
                assert_eq!(range.root, root.0, "{of:?}");
            }
        }
        let mut here: Vec<u64> = page.entries.iter().map(|entry| entry.index).filter(|it| *it != commitment.index.0).collect();
        assert!(here.iter().all(|it| seen.insert(*it)), "no entry stands on two pages");
        here.sort_unstable();
        given.push(here);
    }
    let asked = pages[0].question.clone().unwrap();
    for (of, (_, indexes)) in joined {
        let all: Vec<u64> = of.carriers(world, commitment.size);
        let within: Vec<u64> = indexes.into_iter().filter(|it| (asked.from_index..asked.to_index).contains(it)).collect();
        let expected: Vec<u64> = all.into_iter().filter(|it| (asked.from_index..asked.to_index).contains(it)).collect();
        assert_eq!(within, expected, "{of:?} lists every entry that carries it");
        assert!(within.iter().all(|it| seen.contains(it)), "what is listed is given");
    }
    given
}

fn check_map(range: &v1::KeyRange, map_root: Hash) {
    let of = range.key.clone().unwrap();
    let text = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let hash = derived("proofline/v1 map key", &[&[u8::try_from(of.dimension).unwrap()], &text(&of.tenant_id), &text(&of.value)]);
    let leaf = |key: &[u8], value: &[u8]| derived("proofline/v1 map leaf", &[key, value]);
    let mut folded = match (range.count, range.other_key.is_empty()) {
        (0, true) => Hash::ZERO,
        (0, false) => leaf(&range.other_key, &range.other_value),
        _ => leaf(&hash.0, &[&range.count.to_be_bytes()[..], &range.root].concat()),
    };
    for (depth, sibling) in (0..range.map_path.len()).rev().zip(&range.map_path) {
        let is_right = hash.0[depth / 8] >> (7 - depth % 8) & 1 == 1;
        let (left, right) = if is_right { (sibling.clone(), folded.0.to_vec()) } else { (folded.0.to_vec(), sibling.clone()) };
        folded = derived("proofline/v1 map node", &[&left, &right]);
    }
    assert_eq!(folded, map_root, "{of:?}");
}

fn check_statements(page: &v1::LineagePage) {
    let mut leaves: BTreeMap<(String, u32, u64, u64), BTreeMap<u64, Hash>> = BTreeMap::new();
    for entry in &page.entries {
        let core = proofline_ledger::entry::parse(&entry.entry).unwrap().1;
        let Some(v1::entry_core::Body::Event(event)) = core.body else { continue };
        let at = event.at.unwrap();
        let batch = leaves.entry((at.collector_id, at.lane, at.epoch, at.sequence)).or_default();
        batch.insert(at.offset.into(), ContentHash::leaf(&event.event));
    }
    assert_eq!(page.statements.len(), leaves.len());
    for (part, (place, leaves)) in page.statements.iter().zip(leaves) {
        let of = part.statement.clone().unwrap();
        assert_eq!((of.collector_id.clone(), of.lane, of.epoch, of.sequence), place);
        assert_eq!(check_set(of.event_count.into(), &leaves, &part.batch_path, ContentHash::node).0[..], of.events_root);
    }
}

/// A key that sorts, and finds its entries by reading all of them.
mod v1_key {
    use super::{TreeSize, World, v1};
    use prost::Message as _;
    use v1::Dimension;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub struct Sorted(i32, String);

    impl Sorted {
        pub fn of(key: &v1::Key) -> Self {
            Self(key.dimension, key.value.clone())
        }

        /// By hand, for the dimensions and events that these tests use.
        pub fn carriers(&self, world: &World, size: TreeSize) -> Vec<u64> {
            (0..size.0).filter(|index| self.is_carried(&world.entry(*index))).collect()
        }

        fn is_carried(&self, core: &v1::EntryCore) -> bool {
            let Some(v1::entry_core::Body::Event(recorded)) = &core.body else { return false };
            let event = v1::Event::decode(recorded.event.clone()).unwrap();
            let session = event.session.clone().unwrap_or_default();
            let attribution = event.attribution.clone().unwrap_or_default();
            let (tool, resources, child) = match event.body {
                Some(v1::event::Body::ActionIntent(it)) => (it.tool, it.resources, String::new()),
                Some(v1::event::Body::SubAgentSpawned(it)) => (None, Vec::new(), it.child_session_id),
                _ => (None, Vec::new(), String::new()),
            };
            match Dimension::try_from(self.0).unwrap() {
                Dimension::Session => session.session_id == self.1 || child == self.1,
                Dimension::ParentSession => session.parent_session_id == self.1,
                Dimension::Agent => attribution.agent.is_some_and(|it| it.agent_id == self.1),
                Dimension::Credential => attribution.credential.is_some_and(|it| it.credential_id == self.1),
                Dimension::Principal => attribution.initiator.is_some_and(|it| format!("{} {}", it.issuer, it.subject) == self.1),
                Dimension::Tool => tool.is_some_and(|it| it.name == self.1),
                Dimension::Resource => resources.iter().any(|it| it.uri == self.1),
                other => panic!("{other:?} is not used here"),
            }
        }
    }
}

fn touching(session: &str, parent: &str, credential: &str, uri: &str) -> v1::Event {
    let mut event = child(session, parent);
    event.attribution.as_mut().unwrap().credential =
        (!credential.is_empty()).then(|| v1::Credential { credential_id: credential.to_owned(), ..Default::default() });
    if let Some(v1::event::Body::ActionIntent(it)) = &mut event.body {
        it.resources = vec![v1::Resource { uri: uri.to_owned(), ..Default::default() }];
    }
    event
}

/// root → mid → leaf; `other` shares a credential with mid; `far` shares a resource with leaf. Entries 3 to 9.
fn family() -> World {
    let (mut world, mut collector) = World::with_collector();
    let events = [
        touching("root", "", "", "db:a"),
        touching("mid", "root", "cred", "db:b"),
        touching("leaf", "mid", "", "db:c"),
        touching("other", "", "cred", "db:d"),
        touching("far", "", "", "db:c"),
        touching("leaf", "mid", "", "db:e"),
        touching("root", "", "", "db:a"),
    ];
    collector.append(&mut world, events[..3].to_vec()).unwrap();
    collector.append(&mut world, events[3..].to_vec()).unwrap();
    commit(&mut world);
    world.now += SECOND_NS;
    collector.append(&mut world, vec![touching("mid", "root", "", "db:z")]).unwrap();
    world
}

fn entries(world: &World, of: v1::LineageQuestion, page_entries: usize) -> BTreeSet<u64> {
    let pages = ask(world, of, page_entries).unwrap();
    check(world, &pages).concat().into_iter().collect()
}

#[test]
fn a_question_leads_where_the_table_says_and_no_further() {
    use Dimension::{Credential, Resource, Session};
    use LineageDirection::{Both, Down, Unspecified, Up};
    let world = family();
    let cases: [(v1::Key, LineageDirection, u32, &[u64]); 12] = [
        (start(Session, "mid"), Unspecified, 0, &[4]),
        (start(Session, "mid"), Unspecified, 5, &[4]),
        (start(Session, "mid"), Up, 0, &[4]),
        (start(Session, "mid"), Down, 0, &[4, 5, 8]),
        (start(Session, "leaf"), Up, 1, &[5, 8]),
        (start(Session, "leaf"), Up, 2, &[4, 5, 8]),
        // The credential of mid, and through it the other session that used it.
        (start(Session, "leaf"), Up, 3, &[3, 4, 5, 6, 8, 9]),
        (start(Session, "root"), Down, 1, &[3, 4, 9]),
        (start(Session, "root"), Down, 2, &[3, 4, 5, 8, 9]),
        (start(Resource, "db:c"), Down, 9, &[5, 7]),
        (start(Resource, "db:c"), Up, 2, &[5, 7, 8]),
        (start(Credential, "cred"), Both, 2, &[4, 5, 6, 8]),
    ];
    for (from, direction, depth, expected) in cases {
        let of = question(vec![from.clone()], direction, depth);
        let found = entries(&world, of, 100);
        assert_eq!(found, expected.iter().copied().collect(), "{from:?} {direction:?} {depth}");
    }
}

#[test]
fn kinds_and_windows_narrow_an_answer() {
    let world = family();
    let all = question(vec![start(Dimension::Session, "leaf")], LineageDirection::Up, 9);
    let sessions = v1::LineageQuestion { kinds: vec![Dimension::Session.into()], ..all.clone() };
    assert_eq!(entries(&world, sessions, 100), BTreeSet::from([3, 4, 5, 8, 9]), "not through the credential");
    // Only entry 5 of leaf lies in the window, so mid is known, and its entry 4 is not given.
    let window = v1::LineageQuestion { from_index: 5, to_index: 6, ..all.clone() };
    assert_eq!(entries(&world, window, 100), BTreeSet::from([5]));
    let nothing = v1::LineageQuestion { from_index: 9, to_index: 9, ..all };
    assert_eq!(entries(&world, nothing, 100), BTreeSet::new());
}

#[test]
fn a_key_that_nothing_carries_is_proven_absent() {
    let world = family();
    let pages = ask(&world, question(vec![start(Dimension::Session, "nobody")], LineageDirection::Both, 9), 100).unwrap();
    assert_eq!(check(&world, &pages), [Vec::<u64>::new()]);
    let ranges: Vec<_> = pages[0].ranges.iter().map(|range| (range.count, range.root.len(), range.indexes.len())).collect();
    assert_eq!(ranges, [(0, 0, 0), (0, 0, 0)], "as a session and as a parent");
}

#[test]
fn pages_of_any_size_give_the_same_entries_and_the_same_lists() {
    let (mut world, mut collector) = World::with_collector();
    for number in 0..60 {
        let events = (0..5).map(|of| touching(&format!("s-{}", (number + of) % 9), "", "", &format!("db:{}", number % 4))).collect();
        collector.append(&mut world, events).unwrap();
    }
    commit(&mut world);
    let starts = vec![start(Dimension::Resource, "db:1"), start(Dimension::Session, "s-3")];
    let of = question(starts, LineageDirection::Both, 3);
    let whole = ask(&world, of.clone(), 1_000).unwrap();
    let expected: BTreeSet<u64> = check(&world, &whole).concat().into_iter().collect();
    for page_entries in [1, 2, 7, 100] {
        let pages = ask(&world, of.clone(), page_entries).unwrap();
        let given = check(&world, &pages);
        assert!(given.iter().all(|page| page.len() <= page_entries), "{page_entries} at most");
        assert_eq!(given.concat().into_iter().collect::<BTreeSet<u64>>(), expected, "pages of {page_entries}");
    }
}

#[test]
fn without_keys_the_window_is_given_densely_up_to_the_checkpoint() {
    let world = family();
    let size = world.ledger.tree_size().0;
    let pages = ask(&world, v1::LineageQuestion { from_index: 2, ..Default::default() }, 4).unwrap();
    let given: Vec<Vec<u64>> = pages.iter().map(|page| page.entries.iter().map(|entry| entry.index).collect()).collect();
    assert_eq!(given.concat(), (2..size).collect::<Vec<_>>());
    assert!(pages.iter().all(|page| page.commitment_index == 0 && page.ranges.is_empty() && page.entries.len() <= 4));
    assert_eq!(pages[0].question.as_ref().unwrap().to_index, size);
}

#[test]
fn times_become_indexes_and_their_neighbours_show_it() {
    let world = family();
    let at = START_NS + SECOND_NS;
    let of = v1::LineageQuestion {
        from_unix_ns: START_NS,
        to_unix_ns: at,
        ..question(vec![start(Dimension::Session, "mid")], LineageDirection::Up, 0)
    };
    let pages = ask(&world, of, 100).unwrap();
    let asked = pages[0].question.clone().unwrap();
    let covered = indexed_commitment(&world.store).unwrap().unwrap().size.0;
    assert_eq!((asked.from_index, asked.to_index), (0, covered));
    let on_first: BTreeSet<u64> = pages[0].entries.iter().map(|entry| entry.index).collect();
    assert!(on_first.is_superset(&BTreeSet::from([0, covered - 1, covered])), "{on_first:?}");
    let dense = v1::LineageQuestion { from_unix_ns: at, ..Default::default() };
    let pages = ask(&world, dense, 100).unwrap();
    let indexes: Vec<u64> = pages[0].entries.iter().map(|entry| entry.index).collect();
    let last = world.ledger.tree_size().0 - 1;
    assert_eq!(indexes, [last - 1, last], "the entry before the window shows where it begins");
}

#[test]
fn what_is_no_question_is_refused() {
    let world = family();
    let mid = start(Dimension::Session, "mid");
    let of = |alter: fn(&mut v1::LineageQuestion)| {
        let mut of = question(vec![start(Dimension::Session, "mid")], LineageDirection::Up, 1);
        alter(&mut of);
        match ask(&world, of, 10) {
            Err(LineageFault::Question(problem)) => problem,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(of(|it| it.depth = 33), QuestionProblem::TooDeep(33));
    assert_eq!(of(|it| it.starts = vec![v1::Key::default(); 65]), QuestionProblem::TooManyStarts(65));
    assert_eq!(of(|it| it.starts[0].value.clear()), QuestionProblem::NoKey(0));
    assert_eq!(of(|it| it.starts[0].tenant_id.clear()), QuestionProblem::NoKey(0));
    assert_eq!(of(|it| it.starts[0].dimension = Dimension::Collector.into()), QuestionProblem::NoKey(0));
    assert_eq!(of(|it| it.starts[0].dimension = Dimension::ParentSession.into()), QuestionProblem::NoKey(0));
    assert_eq!(of(|it| it.starts.push(it.starts[0].clone())), QuestionProblem::Repeated(1));
    assert_eq!(of(|it| it.kinds = vec![99]), QuestionProblem::UnknownWord);
    assert_eq!(of(|it| it.direction = 9), QuestionProblem::UnknownWord);
    assert_eq!(of(|it| (it.from_index, it.to_index) = (5, 4)), QuestionProblem::Backwards { from: 5, to: 4 });
    assert_eq!(of(|it| (it.to_index, it.to_unix_ns) = (5, 4)), QuestionProblem::EdgeTwice);
    assert_eq!(of(|it| it.to_index = 999), QuestionProblem::BeyondCommitment { to: 999, covered: 10 });
    let uncommitted = MapStore::default();
    let nothing = Under { commitment: None, ..under(&world, 10) };
    let begun = Lineage::begin(&uncommitted, question(vec![mid], LineageDirection::Up, 1), nothing);
    assert!(matches!(begun, Err(LineageFault::NothingCommitted)));
    assert!(listing::entry(&world.store, EntryIndex(0)).unwrap().is_some());
}

#[test]
fn a_question_without_an_end_falls_short_while_an_entry_with_a_key_is_not_committed_to() {
    let (mut world, mut collector) = World::with_collector();
    let reached = |world: &World, of: &v1::LineageQuestion| reach(&world.store, of, world.ledger.tree_size()).unwrap();
    let by_key = question(vec![start(Dimension::Session, "s")], LineageDirection::Up, 1);
    assert_eq!(reached(&world, &by_key), Reach::Nothing, "nothing is committed to");

    collector.append(&mut world, vec![event("s", "agent-1")]).unwrap();
    let covered = TreeSize(commit(&mut world).size);
    assert_eq!(reached(&world, &by_key), Reach::Whole, "the commitment itself carries no key");
    for _ in 0..100 {
        world.apply(peer::item::Item::Access(access(1, 21, &by_key)));
    }
    assert_eq!(reached(&world, &by_key), Reach::Whole, "nor do the records of who asked");
    let last = listing::entry(&world.store, EntryIndex(covered.0 - 1)).unwrap().unwrap();
    let committed_at = v1::EntryCore::decode(v1::Entry::decode(&last[..]).unwrap().core).unwrap().committed_unix_ns;

    collector.append(&mut world, vec![event("s", "agent-1")]).unwrap();
    let with = |alter: fn(&mut v1::LineageQuestion, u64)| {
        let mut of = by_key.clone();
        alter(&mut of, committed_at);
        of
    };
    assert_eq!(reached(&world, &by_key), Reach::Short(covered), "an event of a session does");
    assert_eq!(reached(&world, &with(|it, at| it.to_unix_ns = at + 1)), Reach::Short(covered), "this may reach to it");
    assert_eq!(reached(&world, &with(|it, at| it.to_unix_ns = at)), Reach::Whole, "it came later than what is asked for");
    assert_eq!(reached(&world, &with(|it, _| it.to_index = 3)), Reach::Whole, "not asked for");
    assert_eq!(reached(&world, &with(|it, _| it.depth = 99)), Reach::Whole, "no question");
    assert_eq!(reached(&world, &with(|it, _| (it.from_index, it.from_unix_ns) = (1, 1))), Reach::Whole, "nor this");
    commit(&mut world);
    assert_eq!(reached(&world, &by_key), Reach::Whole);
}

#[test]
fn an_answer_that_leads_to_too_much_says_so_behind_its_pages() {
    let (mut world, mut collector) = World::with_collector();
    let touches = |number: usize| {
        let mut event = event("wide", "agent-1");
        if let Some(v1::event::Body::ActionIntent(it)) = &mut event.body {
            let uri = |of: usize| v1::Resource { uri: format!("db:{}", number * 64 + of), ..Default::default() };
            it.resources = (0..64).map(uri).collect();
        }
        event
    };
    for first in (0..1_600).step_by(100) {
        collector.append(&mut world, (first..first + 100).map(touches).collect()).unwrap();
    }
    commit(&mut world);
    let wide = question(vec![start(Dimension::Session, "wide")], LineageDirection::Down, 1);
    let mut answer = Lineage::begin(&world.store, wide.clone(), under(&world, 100)).unwrap();
    assert!(!answer.next_page(&mut || true).unwrap().unwrap().last);
    let end = std::iter::from_fn(|| answer.next_page(&mut || true).transpose()).find_map(Result::err);
    assert!(matches!(end, Some(LineageFault::TooWide)), "{end:?}");
    assert!(answer.next_page(&mut || true).unwrap().is_none(), "nothing comes behind it");
    let narrow = v1::LineageQuestion { kinds: vec![Dimension::Tool.into()], ..wide };
    assert!(ask(&world, narrow, 1_000).unwrap().last().unwrap().last);
}

#[test]
fn a_page_that_is_long_in_coming_can_be_given_up() {
    let (mut world, mut collector) = World::with_collector();
    for _ in 0..30 {
        collector.append(&mut world, (0..100).map(|_| event("long", "agent-1")).collect()).unwrap();
    }
    commit(&mut world);
    // Upwards the whole list is given; downwards it is gone through again, and nothing of it stands on a page.
    let both = question(vec![start(Dimension::Session, "long")], LineageDirection::Both, 1);
    let mut answer = Lineage::begin(&world.store, both, under(&world, 1_000)).unwrap();
    let mut asked_on_one_page = 0;
    let end = loop {
        let mut asked = 0;
        let page = answer.next_page(&mut || {
            asked += 1;
            asked < 2
        });
        asked_on_one_page = asked_on_one_page.max(asked);
        match page {
            Ok(Some(_)) => (),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert!(matches!(end, Some(LineageFault::Stopped)), "{end:?} after it was asked {asked_on_one_page} times on one page");
}

#[test]
fn the_verifier_accepts_every_answer() {
    let world = family();
    let (dimensions, mut asked) = (
        [
            Dimension::Session,
            Dimension::Credential,
            Dimension::Resource,
            Dimension::Agent,
            Dimension::Principal,
            Dimension::Tool,
            Dimension::Collector,
            Dimension::Server,
        ],
        0,
    );
    let values = ["root", "mid", "leaf", "other", "far", "cred", "db:a", "db:c", "agent-1", "gateway-1", "nobody"];
    let first = world.now - 20 * SECOND_NS;
    for dimension in dimensions {
        for value in values {
            for direction in [LineageDirection::Unspecified, LineageDirection::Up, LineageDirection::Down, LineageDirection::Both] {
                for (depth, page_entries) in [(0, 100), (1, 2), (2, 1), (9, 3)] {
                    let mut key = start(dimension, value);
                    if dimension == Dimension::Collector {
                        key.tenant_id.clear();
                    }
                    let base = question(vec![key], direction, depth);
                    let windows = [
                        base.clone(),
                        v1::LineageQuestion { from_index: 4, to_index: 7, ..base.clone() },
                        v1::LineageQuestion { from_unix_ns: first, to_unix_ns: world.now, ..base.clone() },
                        v1::LineageQuestion { from_unix_ns: world.now, ..base.clone() },
                        v1::LineageQuestion { starts: Vec::new(), from_unix_ns: first, ..base },
                    ];
                    for of in windows {
                        ask(&world, of, page_entries).unwrap();
                        asked += 1;
                    }
                }
            }
        }
    }
    println!("{asked} answers");
}
