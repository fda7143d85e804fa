//! Following a question: which lists belong to the answer, and in which order, derived from the entries alone.

use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1::Dimension;
use thiserror::Error;

use super::entry_keys::EntryKeys;
use super::key::EntryKey;
use super::question::{Direction, Question};
use crate::coordinate::EntryIndex;
use crate::report::{Outcome, Refusal};

/// Why the lists of an answer are not those that its question leads to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WalkError {
    /// A list that the question does not lead to, or not yet.
    #[error("the list of {found} stands where that of {expected} belongs")]
    OtherList {
        /// What the answer gives.
        found: EntryKey,
        /// What the question leads to.
        expected: EntryKey,
    },
    /// A list behind the last one that the question leads to.
    #[error("the list of {0} is none that the question leads to")]
    StrayList(EntryKey),
    /// The answer ends without a list.
    #[error("the answer ends without the list of {0}")]
    NoList(EntryKey),
    /// A list names an entry that does not carry its key.
    #[error("entry {index} does not carry {key}")]
    NotCarried {
        /// The entry.
        index: EntryIndex,
        /// Key of the list.
        key: EntryKey,
    },
}

impl Refusal for WalkError {
    fn outcome(&self) -> Outcome {
        Outcome::Failed
    }
}

/// A key that an answer reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineageNode {
    /// Which.
    pub key: EntryKey,
    /// Steps from the nearest start.
    pub distance: u32,
}

/// A step that an entry shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineageEdge {
    /// The key whose list held the entry.
    pub from: EntryKey,
    /// The key that it leads to.
    pub to: EntryKey,
    /// The first entry that shows it.
    pub by: EntryIndex,
}

/// Names a key in this walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Number(u32);

impl Number {
    fn place(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Nowhere,
    Up,
    Down,
}

/// A node with a direction. Starts have distance 0, and nothing else has.
#[derive(Clone, Copy, Debug)]
struct State {
    node: Number,
    way: Way,
    distance: u32,
}

/// What an entry leads to: enough to follow it again when another list names it, without the entry.
#[derive(Debug, Default)]
struct Leads {
    carried: Box<[Number]>,
    own_session: Option<Number>,
    up: Box<[Number]>,
    down: Box<[Number]>,
}

/// The state whose lists are being read.
#[derive(Debug)]
struct Reading {
    state: State,
    lists: Vec<Number>,
    at: usize,
    taken: Vec<u64>,
}

/// The walk of one answer. It keeps a few numbers of each entry, and no entry.
#[derive(Debug)]
pub(super) struct Walk {
    direction: Direction,
    depth: u32,
    kinds: BTreeSet<Dimension>,
    numbers: BTreeMap<EntryKey, Number>,
    keys: Vec<EntryKey>,
    states: Vec<State>,
    reached: BTreeSet<(Number, Way)>,
    next_state: usize,
    reading: Option<Reading>,
    /// Lists that were given, with their entries in the window.
    given: BTreeMap<Number, Vec<u64>>,
    leads: BTreeMap<u64, Leads>,
    steps: BTreeSet<(Number, Number)>,
    nodes: Vec<LineageNode>,
    edges: Vec<LineageEdge>,
}

impl Walk {
    /// Starts at the starts of a question.
    pub(super) fn new(question: &Question) -> Self {
        let mut walk = Self {
            direction: question.direction,
            depth: question.depth,
            kinds: question.kinds.clone(),
            numbers: BTreeMap::new(),
            keys: Vec::new(),
            states: Vec::new(),
            reached: BTreeSet::new(),
            next_state: 0,
            reading: None,
            given: BTreeMap::new(),
            leads: BTreeMap::new(),
            steps: BTreeSet::new(),
            nodes: Vec::new(),
            edges: Vec::new(),
        };
        let ways: &[Way] = match question.direction {
            Direction::None => &[Way::Nowhere],
            Direction::Up => &[Way::Up],
            Direction::Down => &[Way::Down],
            Direction::Both => &[Way::Up, Way::Down],
        };
        for start in &question.starts {
            let node = walk.number(start);
            ways.iter().for_each(|way| walk.reach(node, *way, 0));
        }
        walk
    }

    /// Keeps what an entry leads to.
    pub(super) fn know(&mut self, index: EntryIndex, keys: &EntryKeys) {
        let mut numbers = |of: &BTreeSet<EntryKey>| of.iter().map(|key| self.number(key)).collect();
        let leads = Leads { carried: numbers(&keys.carried), own_session: None, up: numbers(&keys.up), down: numbers(&keys.down) };
        let own_session = keys.own_session.as_ref().map(|key| self.number(key));
        self.leads.insert(index.0, Leads { own_session, ..leads });
    }

    /// Tells whether an entry was seen already.
    pub(super) fn knows(&self, index: EntryIndex) -> bool {
        self.leads.contains_key(&index.0)
    }

    /// Returns the list that must come next; nothing when the question leads to no further one.
    pub(super) fn expected(&mut self) -> Option<EntryKey> {
        loop {
            if let Some(list) = self.reading.as_ref().and_then(|reading| reading.lists.get(reading.at).copied()) {
                if !self.given.contains_key(&list) {
                    return self.keys.get(list.place()).cloned();
                }
                self.follow_given(list);
                continue;
            }
            let state = *self.states.get(self.next_state)?;
            self.next_state += 1;
            let lists = if self.is_read(state) { self.lists_of(state) } else { Vec::new() };
            self.reading = Some(Reading { state, lists, at: 0, taken: Vec::new() });
        }
    }

    /// Takes the next entry of the expected list.
    pub(super) fn take(&mut self, index: EntryIndex) -> Result<(), WalkError> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        let Some(list) = reading.lists.get(reading.at).copied() else { return Ok(()) };
        reading.taken.push(index.0);
        let state = reading.state;
        if !self.leads.get(&index.0).is_some_and(|leads| leads.carried.contains(&list)) {
            let key = self.keys.get(list.place()).cloned();
            return key.map_or(Ok(()), |key| Err(WalkError::NotCarried { index, key }));
        }
        self.follow(state, list, index.0);
        Ok(())
    }

    /// Ends the expected list.
    pub(super) fn close_list(&mut self) {
        if let Some(reading) = &mut self.reading {
            if let Some(list) = reading.lists.get(reading.at) {
                self.given.insert(*list, std::mem::take(&mut reading.taken));
            }
            reading.at += 1;
        }
    }

    /// Returns the nodes and edges that were found since this was last asked.
    pub(super) fn found(&mut self) -> (Vec<LineageNode>, Vec<LineageEdge>) {
        (std::mem::take(&mut self.nodes), std::mem::take(&mut self.edges))
    }

    fn number(&mut self, key: &EntryKey) -> Number {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        // A ledger of 2^32 keys would not fit an answer.
        let number = Number(u32::try_from(self.keys.len()).unwrap_or(u32::MAX));
        self.keys.push(key.clone());
        self.numbers.insert(key.clone(), number);
        number
    }

    fn dimension(&self, node: Number) -> Dimension {
        self.keys.get(node.place()).map_or(Dimension::Unspecified, |key| key.dimension)
    }

    fn is_read(&self, state: State) -> bool {
        state.distance == 0 || (state.distance < self.depth && leads_on(self.dimension(state.node), state.way))
    }

    fn lists_of(&mut self, state: State) -> Vec<Number> {
        let parents = self
            .keys
            .get(state.node.place())
            .filter(|key| key.dimension == Dimension::Session && state.way == Way::Down)
            .map(|key| EntryKey { dimension: Dimension::ParentSession, ..key.clone() });
        let parents = parents.map(|key| self.number(&key));
        [state.node].into_iter().chain(parents).collect()
    }

    /// Follows a list again that was given for another state.
    fn follow_given(&mut self, list: Number) {
        let Some(state) = self.reading.as_ref().map(|reading| reading.state) else { return };
        let indexes = self.given.remove(&list).unwrap_or_default();
        for index in &indexes {
            self.follow(state, list, *index);
        }
        self.given.insert(list, indexes);
        if let Some(reading) = &mut self.reading {
            reading.at += 1;
        }
    }

    /// Goes from a state to where an entry of one of its lists leads.
    fn follow(&mut self, state: State, list: Number, index: u64) {
        let Some(leads) = self.leads.get(&index) else { return };
        let next = next_nodes(leads, state, self.dimension(state.node), self.dimension(list));
        for node in next {
            self.step(state, node, index);
        }
    }

    fn step(&mut self, from: State, to: Number, by: u64) {
        let distance = from.distance + 1;
        let dimension = self.dimension(to);
        if distance > self.depth || !(self.kinds.is_empty() || self.kinds.contains(&dimension)) {
            return;
        }
        if from.node != to && self.steps.insert((from.node, to)) {
            let ends = (self.keys.get(from.node.place()).cloned(), self.keys.get(to.place()).cloned());
            if let (Some(from), Some(to)) = ends {
                self.edges.push(LineageEdge { from, to, by: EntryIndex(by) });
            }
        }
        self.reach(to, from.way, distance);
        if self.direction == Direction::Both && from.way == Way::Up && dimension == Dimension::Session {
            self.reach(to, Way::Down, distance);
        }
    }

    fn reach(&mut self, node: Number, way: Way, distance: u32) {
        let is_new = [Way::Nowhere, Way::Up, Way::Down].iter().all(|way| !self.reached.contains(&(node, *way)));
        if self.reached.insert((node, way)) {
            self.states.push(State { node, way, distance });
        }
        if let Some(key) = self.keys.get(node.place()).filter(|_| is_new) {
            self.nodes.push(LineageNode { key: key.clone(), distance });
        }
    }
}

/// Tells whether the table of section 17.5 gives next nodes.
fn leads_on(node: Dimension, way: Way) -> bool {
    use Dimension::{Agent, Collector, Credential, ParentSession, Principal, Resource, Rule, Server, Session, System, Tool, Unspecified};
    match (node, way) {
        (_, Way::Nowhere) | (Unspecified | ParentSession, _) => false,
        (Session | Credential | Collector | Rule, Way::Up | Way::Down) => true,
        (Resource | Tool | Server | System, way) => way == Way::Up,
        (Principal | Agent, way) => way == Way::Down,
    }
}

/// The next nodes of one entry, by dimension and value.
fn next_nodes(of: &Leads, state: State, node: Dimension, list: Dimension) -> Vec<Number> {
    let own = of.own_session;
    match (node, state.way) {
        (Dimension::Session, Way::Up) if own == Some(state.node) => of.up.to_vec(),
        (Dimension::Session, Way::Up) => own.into_iter().collect(),
        (Dimension::Session, Way::Down) if list == Dimension::ParentSession => own.into_iter().collect(),
        (Dimension::Session, Way::Down) if own == Some(state.node) => of.down.to_vec(),
        (Dimension::Session, _) => Vec::new(),
        (node, way) if leads_on(node, way) => own.into_iter().collect(),
        (_, _) => Vec::new(),
    }
}
