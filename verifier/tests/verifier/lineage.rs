//! A node small enough to see through: it answers questions as docs/FORMATS.md section 17 says, recomputing everything each time.

use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1;
use prost::Message as _;
use v1::Dimension as D;
use v1::LineageDirection as Way;
use v1::command::Action;
use v1::entry_core::Body;
use v1::event::Body as EventBody;

use crate::naive::{CONTENT, Hash, LOG};
use crate::world::{TENANT, World, core};

/// Hash of a key, and its value in the map.
type MapLeaf = (Hash, Vec<u8>);

/// Dimension, tenant, value.
pub(crate) type Key = (i32, String, String);

pub(crate) fn key(dimension: D, value: &str) -> Key {
    let tenant = if dimension == D::Collector { "" } else { TENANT };
    (dimension.into(), tenant.to_owned(), value.to_owned())
}

pub(crate) fn message(of: &Key) -> v1::Key {
    v1::Key { dimension: of.0, tenant_id: of.1.clone(), value: of.2.clone() }
}

/// A question about keys of the tenant, over everything that is committed to.
pub(crate) fn question(starts: &[(D, &str)], direction: Way, depth: u32) -> v1::LineageQuestion {
    let starts = starts.iter().map(|(dimension, value)| message(&key(*dimension, value))).collect();
    v1::LineageQuestion { starts, direction: direction.into(), depth, ..Default::default() }
}

pub(crate) fn key_hash(of: &Key) -> Hash {
    let text = |it: &str| [&(it.len() as u16).to_be_bytes()[..], it.as_bytes()].concat();
    blake3::derive_key("proofline/v1 map key", &[vec![of.0 as u8], text(&of.1), text(&of.2)].concat())
}

/// The lists of a log, and the answers that follow from them. Tests damage the lists to play a ledger that lies.
#[derive(Clone)]
pub(crate) struct Lineage {
    pub(crate) world: World,
    pub(crate) lists: BTreeMap<Key, Vec<u64>>,
    /// Where the commitment stands, and what it covers.
    pub(crate) commitment: usize,
    pub(crate) size: usize,
}

impl Lineage {
    /// Commits to everything in the log so far.
    pub(crate) fn commit(world: World) -> Self {
        let mut lists = BTreeMap::<Key, Vec<u64>>::new();
        for (index, entry) in world.entries.iter().enumerate() {
            for key in keys(entry) {
                lists.entry(key).or_default().push(index as u64);
            }
        }
        Self::committing(world, lists)
    }

    /// Commits to these lists, whatever the log says.
    pub(crate) fn committing(mut world: World, lists: BTreeMap<Key, Vec<u64>>) -> Self {
        let size = world.size();
        let map_root = subtree(&map_leaves(&lists), 0).to_vec();
        let state_digest = vec![7; 32];
        let commitment = world.append(Body::StateCommitment(v1::StateCommitment { size: size as u64, map_root, state_digest }), None);
        Self { world, lists, commitment, size }
    }

    /// Answers a question, with at most so many listed entries on a page.
    pub(crate) fn answer(&self, asked: &v1::LineageQuestion, page_entries: usize) -> Vec<v1::LineagePage> {
        let question = self.fill_in(asked);
        if question.starts.is_empty() {
            return self.answer_every(&question, page_entries);
        }
        let ranges = self.walk(&question).into_iter().flat_map(|key| self.ranges(&key, &question, page_entries));
        let (mut pages, mut listed, mut seen) = (vec![Vec::new()], 0, BTreeSet::new());
        for range in ranges {
            if listed + range.indexes.len() > page_entries && listed > 0 {
                pages.push(Vec::new());
                listed = 0;
            }
            listed += range.indexes.len();
            pages.last_mut().unwrap().push(range);
        }
        let count = pages.len();
        let page = |(number, ranges): (usize, Vec<v1::KeyRange>)| {
            let mut entries: BTreeSet<u64> = [self.commitment as u64].into();
            entries.extend(self.bounds(&question).into_iter().filter(|_| number == 0));
            let in_window = ranges.iter().flat_map(|range| &range.indexes).copied();
            entries.extend(in_window.filter(|it| question.from_index <= *it && *it < question.to_index && !seen.contains(it)));
            seen.extend(entries.iter().copied());
            self.page(number, number + 1 == count, &question, ranges, &entries)
        };
        pages.into_iter().enumerate().map(page).collect()
    }

    fn answer_every(&self, question: &v1::LineageQuestion, page_entries: usize) -> Vec<v1::LineagePage> {
        let all: Vec<u64> = (question.from_index..question.to_index).collect();
        let chunks: Vec<_> = all.chunks(page_entries).collect();
        let page = |(number, chunk): (usize, &&[u64])| {
            let mut entries: BTreeSet<u64> = chunk.iter().copied().collect();
            entries.extend(self.bounds(question).into_iter().filter(|_| number == 0));
            let mut page = self.page(number, number + 1 == chunks.len(), question, Vec::new(), &entries);
            page.commitment_index = 0;
            page
        };
        chunks.iter().enumerate().map(page).collect()
    }

    fn fill_in(&self, asked: &v1::LineageQuestion) -> v1::LineageQuestion {
        let limit = if asked.starts.is_empty() { self.world.size() } else { self.size } as u64;
        let first_at = |time: u64| {
            let is_behind = |entry: &Vec<u8>| core(entry).unwrap().committed_unix_ns >= time;
            (self.world.entries.iter().position(is_behind).unwrap_or(self.world.size()) as u64).min(limit)
        };
        let from_index = if asked.from_unix_ns == 0 { asked.from_index } else { first_at(asked.from_unix_ns) };
        let to_index = match (asked.to_unix_ns, asked.to_index) {
            (0, 0) => limit,
            (0, to) => to,
            (time, _) => first_at(time),
        };
        v1::LineageQuestion { from_index, to_index, ..asked.clone() }
    }

    fn bounds(&self, question: &v1::LineageQuestion) -> Vec<u64> {
        if question.from_unix_ns == 0 && question.to_unix_ns == 0 {
            return Vec::new();
        }
        let around =
            [question.from_index.checked_sub(1), Some(question.from_index), question.to_index.checked_sub(1), Some(question.to_index)];
        around.into_iter().flatten().filter(|it| *it < self.world.size() as u64).collect()
    }

    fn page(
        &self,
        number: usize,
        last: bool,
        question: &v1::LineageQuestion,
        ranges: Vec<v1::KeyRange>,
        entries: &BTreeSet<u64>,
    ) -> v1::LineagePage {
        let entry = |index: &u64| v1::IndexedEntry { index: *index, entry: self.world.entries[*index as usize].clone().into() };
        let mut page = v1::LineagePage {
            number: number as u64,
            last,
            question: Some(question.clone()),
            checkpoint: self.world.checkpoint().into_bytes(),
            commitment_index: self.commitment as u64,
            ranges,
            entries: entries.iter().map(entry).collect(),
            ..Default::default()
        };
        self.prove(&mut page);
        page
    }

    /// Puts the proofs on a page that its entries need.
    pub(crate) fn prove(&self, page: &mut v1::LineagePage) {
        let listed: Vec<_> = page.entries.iter().map(|one| one.index as usize).collect();
        page.log_path = owned(&LOG.set_path(&self.world.log_leaves(), &listed));
        let mut offsets = BTreeMap::<(String, u32, u64, u64), Vec<usize>>::new();
        for one in &page.entries {
            if let Some(Body::Event(event)) = core(&one.entry).unwrap().body {
                let at = event.at.unwrap();
                offsets.entry((at.collector_id, at.lane, at.epoch, at.sequence)).or_default().push(at.offset as usize);
            }
        }
        let part = |(place, offsets): (&(String, u32, u64, u64), &Vec<usize>)| {
            let is_its =
                |of: &v1::BatchStatement| (&of.collector_id, of.lane, of.epoch, of.sequence) == (&place.0, place.1, place.2, place.3);
            let batch = self.world.batches.iter().find(|batch| is_its(&batch.statement)).unwrap();
            let batch_path = owned(&CONTENT.set_path(&CONTENT.leaves(&batch.events), offsets));
            v1::StatementPart { statement: Some(batch.statement.clone()), batch_path }
        };
        page.statements = offsets.iter().map(part).collect();
    }

    /// The ranges of a list in a window, each of so many indexes at most.
    fn ranges(&self, key: &Key, question: &v1::LineageQuestion, at_most: usize) -> Vec<v1::KeyRange> {
        let Some(list) = self.lists.get(key) else { return vec![self.absent(key)] };
        let begin = list.iter().position(|it| *it >= question.from_index).unwrap_or(list.len()).saturating_sub(1);
        let end = list.iter().position(|it| *it >= question.to_index).map_or(list.len(), |at| at + 1);
        let begins: Vec<_> = (begin..end).step_by(at_most).collect();
        begins.into_iter().map(|from| self.range(key, from, end.min(from + at_most))).collect()
    }

    pub(crate) fn range(&self, key: &Key, from: usize, to: usize) -> v1::KeyRange {
        let list = &self.lists[key];
        let leaves = list_leaves(list);
        let listed: Vec<_> = (from..to).collect();
        v1::KeyRange {
            key: Some(message(key)),
            count: list.len() as u64,
            root: CONTENT.root(&leaves).to_vec(),
            map_path: owned(&path(&map_leaves(&self.lists), &key_hash(key), 0).0),
            from: from as u64,
            indexes: list[from..to].to_vec(),
            range_path: owned(&CONTENT.set_path(&leaves, &listed)),
            ..Default::default()
        }
    }

    fn absent(&self, key: &Key) -> v1::KeyRange {
        let (map_path, other) = path(&map_leaves(&self.lists), &key_hash(key), 0);
        let (other_key, other_value) = other.map_or_else(Default::default, |(key, value)| (key.to_vec(), value));
        v1::KeyRange { key: Some(message(key)), map_path: owned(&map_path), other_key, other_value, ..Default::default() }
    }

    /// The lists that a question leads to, in the order of section 17.5.
    pub(crate) fn walk(&self, question: &v1::LineageQuestion) -> Vec<Key> {
        let asked = question.direction();
        let ways = if asked == Way::Both { vec![Way::Up, Way::Down] } else { vec![asked] };
        let mut states: Vec<(Key, Way, u32)> = Vec::new();
        for start in &question.starts {
            states.extend(ways.iter().map(|way| ((start.dimension, start.tenant_id.clone(), start.value.clone()), *way, 0)));
        }
        let (mut lists, mut at) = (Vec::new(), 0);
        while at < states.len() {
            let (node, way, distance) = states[at].clone();
            at += 1;
            if distance > 0 && (distance >= question.depth || !leads(node.0, way)) {
                continue;
            }
            let mut own = vec![node.clone()];
            if node.0 == i32::from(D::Session) && way == Way::Down {
                own.push((D::ParentSession.into(), node.1.clone(), node.2.clone()));
            }
            for list in own {
                let indexes = self.lists.get(&list).cloned().unwrap_or_default();
                let in_window = indexes.iter().filter(|it| question.from_index <= **it && **it < question.to_index);
                for next in in_window.flat_map(|it| next(&self.world.entries[*it as usize], &node, way, list.0)) {
                    let is_kind = question.kinds.is_empty() || question.kinds.contains(&next.0);
                    if distance < question.depth && is_kind {
                        let and_down = asked == Way::Both && way == Way::Up && next.0 == i32::from(D::Session);
                        for way in [Some(way), and_down.then_some(Way::Down)].into_iter().flatten() {
                            if !states.iter().any(|(node, known, _)| (node, *known) == (&next, way)) {
                                states.push((next.clone(), way, distance + 1));
                            }
                        }
                    }
                }
                if !lists.contains(&list) {
                    lists.push(list);
                }
            }
        }
        lists
    }
}

fn owned(hashes: &[Hash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.to_vec()).collect()
}

fn list_leaves(list: &[u64]) -> Vec<Hash> {
    list.iter().map(|index| blake3::derive_key("proofline/v1 key entry", &index.to_be_bytes())).collect()
}

/// Each key's hash with its value, sorted.
fn map_leaves(lists: &BTreeMap<Key, Vec<u64>>) -> Vec<MapLeaf> {
    let value = |list: &Vec<u64>| [&(list.len() as u64).to_be_bytes()[..], &CONTENT.root(&list_leaves(list))].concat();
    let mut leaves: Vec<_> = lists.iter().map(|(key, list)| (key_hash(key), value(list))).collect();
    leaves.sort();
    leaves
}

fn bit(of: &Hash, depth: usize) -> bool {
    of[depth / 8] & (0x80 >> (depth % 8)) != 0
}

fn halves(leaves: &[MapLeaf], depth: usize) -> (&[MapLeaf], &[MapLeaf]) {
    leaves.split_at(leaves.iter().position(|(key, _)| bit(key, depth)).unwrap_or(leaves.len()))
}

fn subtree(leaves: &[MapLeaf], depth: usize) -> Hash {
    match leaves {
        [] => [0; 32],
        [(key, value)] => blake3::derive_key("proofline/v1 map leaf", &[&key[..], value].concat()),
        _ => {
            let (left, right) = halves(leaves, depth);
            let both = [subtree(left, depth + 1), subtree(right, depth + 1)].concat();
            blake3::derive_key("proofline/v1 map node", &both)
        }
    }
}

/// The hashes beside the way to a key, leaf side first; of an absent key what stands in its place.
fn path(leaves: &[MapLeaf], key: &Hash, depth: usize) -> (Vec<Hash>, Option<MapLeaf>) {
    match leaves {
        [] => (Vec::new(), None),
        [(other, _)] if other == key => (Vec::new(), None),
        [other] => (Vec::new(), Some(other.clone())),
        _ => {
            let (left, right) = halves(leaves, depth);
            let (own, beside) = if bit(key, depth) { (right, left) } else { (left, right) };
            let (mut path, other) = path(own, key, depth + 1);
            path.push(subtree(beside, depth + 1));
            (path, other)
        }
    }
}

fn leads(dimension: i32, way: Way) -> bool {
    let dimension = D::try_from(dimension).unwrap();
    match way {
        Way::Up => [D::Session, D::Credential, D::Resource, D::Tool, D::Server, D::System, D::Collector, D::Rule].contains(&dimension),
        Way::Down => [D::Session, D::Credential, D::Principal, D::Agent, D::Collector, D::Rule].contains(&dimension),
        _ => false,
    }
}

/// Where an entry of a list leads.
fn next(entry: &[u8], node: &Key, way: Way, list: i32) -> Vec<Key> {
    let Some(Body::Event(recorded)) = core(entry).unwrap().body else { return Vec::new() };
    let event = v1::Event::decode(recorded.event).unwrap();
    let tenant = event.tenant_id.clone();
    let of = |dimension: D, value: &str| (i32::from(dimension), tenant.clone(), value.to_owned());
    let session = event.session.clone().unwrap_or_default();
    let own = of(D::Session, &session.session_id);
    if !leads(node.0, way) {
        return Vec::new();
    }
    let mut next: BTreeSet<Key> = BTreeSet::new();
    if node.0 != i32::from(D::Session) || list == i32::from(D::ParentSession) || (way == Way::Up && own != *node) {
        next.insert(own);
    } else if own == *node && way == Way::Up {
        next.insert(of(D::Session, &session.parent_session_id));
        let attribution = event.attribution.clone().unwrap_or_default();
        let hops = attribution.delegation.iter().flat_map(|hop| [&hop.from, &hop.to]);
        next.extend(hops.chain([&attribution.initiator]).map(|it| of(D::Principal, &principal(it))));
        next.insert(of(D::Agent, &attribution.agent.unwrap_or_default().agent_id));
        next.insert(of(D::Credential, &attribution.credential.unwrap_or_default().credential_id));
    } else if own == *node {
        let touched = [D::Tool, D::Server, D::Resource, D::System].map(i32::from);
        next.extend(keys(entry).into_iter().filter(|key| touched.contains(&key.0)));
        match event.body {
            Some(EventBody::SubAgentSpawned(it)) => {
                next.insert(of(D::Session, &it.child_session_id));
                next.insert(of(D::Credential, &it.child_credential.unwrap_or_default().credential_id));
            }
            Some(EventBody::HandedOff(it)) => drop(next.insert(of(D::Session, &it.to_session_id))),
            Some(EventBody::CredentialIssued(it)) => drop(next.insert(of(D::Credential, &it.credential.unwrap_or_default().credential_id))),
            _ => {}
        }
    }
    next.into_iter().filter(|key| !key.2.is_empty()).collect()
}

fn principal(of: &Option<v1::Principal>) -> String {
    let of = of.clone().unwrap_or_default();
    if of.subject.is_empty() { String::new() } else { format!("{} {}", of.issuer, of.subject).trim_start().to_owned() }
}

/// The keys of an entry, by the table of section 17.3.
pub(crate) fn keys(entry: &[u8]) -> BTreeSet<Key> {
    let core = core(entry).unwrap();
    let mut found: Vec<(D, String, String)> = Vec::new();
    if let Some(place) = core.session {
        found.push((D::Session, place.tenant_id, place.session_id));
    }
    let rules = core.decision.into_iter().flat_map(|it| it.findings).map(|it| it.rule_id);
    match core.body.unwrap() {
        Body::Event(recorded) => {
            let event = v1::Event::decode(recorded.event).unwrap();
            let tenant = event.tenant_id.clone();
            found.push((D::Collector, String::new(), recorded.at.unwrap_or_default().collector_id));
            found.extend(rules.map(|rule| (D::Rule, tenant.clone(), rule)));
            found.extend(event_values(event).into_iter().map(|(dimension, value)| (dimension, tenant.clone(), value)));
        }
        Body::Containment(it) => found.extend(it.targets.iter().map(named)),
        Body::Command(signed) => match v1::Command::decode(&signed.command[..]).unwrap().action.unwrap() {
            Action::RegisterCollector(it) => found.push((D::Collector, String::new(), it.collector_id)),
            Action::RevokeCollector(it) => found.push((D::Collector, String::new(), it.collector_id)),
            Action::RegisterAgent(it) => found.push((D::Agent, it.tenant_id, it.agent_id)),
            Action::Contain(it) => found.extend(it.target.iter().map(named)),
            _ => {}
        },
        _ => {}
    }
    found.into_iter().filter(|it| !it.2.is_empty()).map(|(dimension, tenant, value)| (dimension.into(), tenant, value)).collect()
}

fn named(of: &v1::Target) -> (D, String, String) {
    let agent = of.id.split('/').next().unwrap().to_owned();
    match of.kind() {
        v1::TargetKind::Session => (D::Session, of.tenant_id.clone(), of.id.clone()),
        v1::TargetKind::Agent | v1::TargetKind::AgentInstance => (D::Agent, of.tenant_id.clone(), agent),
        v1::TargetKind::Credential => (D::Credential, of.tenant_id.clone(), of.id.clone()),
        v1::TargetKind::Server => (D::Server, of.tenant_id.clone(), of.id.clone()),
        _ => (D::Session, String::new(), String::new()),
    }
}

fn event_values(event: v1::Event) -> Vec<(D, String)> {
    let session = event.session.unwrap_or_default();
    let attribution = event.attribution.unwrap_or_default();
    let hops = attribution.delegation.iter().flat_map(|hop| [&hop.from, &hop.to]);
    let mut values: Vec<_> = hops.chain([&attribution.initiator]).map(|it| (D::Principal, principal(it))).collect();
    values.push((D::Session, session.session_id));
    values.push((D::ParentSession, session.parent_session_id));
    values.push((D::Agent, attribution.agent.unwrap_or_default().agent_id));
    values.push((D::Credential, attribution.credential.unwrap_or_default().credential_id));
    let joined = |before: &str, name: &str| if before.is_empty() { name.to_owned() } else { format!("{before}/{name}") };
    let resource = |it: v1::Resource| [(D::Resource, it.uri), (D::System, it.system)];
    match event.body {
        Some(EventBody::ActionIntent(it)) => {
            let tool = it.tool.unwrap_or_default();
            if !tool.name.is_empty() {
                values.push((D::Tool, joined(&tool.server_id, &tool.name)));
            }
            values.push((D::Server, tool.server_id));
            values.extend(it.resources.into_iter().flat_map(resource));
        }
        Some(EventBody::ActionOutcome(it)) => values.extend(it.accesses.into_iter().filter_map(|it| it.resource).flat_map(resource)),
        Some(EventBody::DataAccess(it)) => values.extend(it.resource.into_iter().flat_map(resource)),
        Some(EventBody::SubAgentSpawned(it)) => {
            values.push((D::Agent, it.child_agent_id));
            values.push((D::Session, it.child_session_id));
            values.push((D::Credential, it.child_credential.unwrap_or_default().credential_id));
        }
        Some(EventBody::HandedOff(it)) => values.extend([(D::Session, it.to_session_id), (D::Principal, principal(&it.to))]),
        Some(EventBody::CredentialIssued(it)) => values.push((D::Credential, it.credential.unwrap_or_default().credential_id)),
        Some(EventBody::MemoryAccess(it)) => {
            if !it.record_id.is_empty() {
                values.push((D::Resource, format!("memory:{}", joined(&it.store_id, &it.record_id))));
            }
            values.push((D::System, it.store_id));
        }
        _ => {}
    }
    values
}
