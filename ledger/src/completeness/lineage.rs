//! Follows a question through the lists of keys, page by page: docs/FORMATS.md, sections 17.5 and 17.6.
//!
//! Always true: a page is full before the next one is begun, and what a page needs to be verified stands on it. Memory is
//! bounded by the states that were reached and by one page.

use std::collections::{HashMap, HashSet, VecDeque};

use proofline_proto::v1;
use prost::bytes::Bytes;
use thiserror::Error;
use v1::{Dimension, LineageDirection};

use super::commitment::CommitmentAt;
use super::keys::{Carrier, Key, Leads};
use super::list::List;
use super::page::{Draft, Listed};
use super::question::{QuestionProblem, check_question, resolve};
use crate::hash::Hash;
use crate::ids::{EntryIndex, TreeSize};
use crate::limits::LINEAGE_STATES_MAX;
use crate::listing;
use crate::store::{Store, StoreFault, Table};

/// Places that are looked at between two questions whether to go on.
const LOOKED_AT_ONCE: usize = 1_024;

/// Why a question has no answer, or no further page.
#[derive(Debug, Error)]
pub enum LineageFault {
    /// It is no question.
    #[error(transparent)]
    Question(#[from] QuestionProblem),
    /// A question by key, and nothing is committed to that could answer it.
    #[error("no state commitment is confirmed and published here yet")]
    NothingCommitted,
    /// More hangs together than one answer shows.
    #[error("the question leads to more than {LINEAGE_STATES_MAX} keys; narrow it by depth, kinds or time")]
    TooWide,
    /// Whoever has the page made did not want it any more.
    #[error("the page was given up on the way")]
    Stopped,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// What an answer stands on. The store must not change under it.
#[derive(Clone, Debug)]
pub struct Under {
    /// The published checkpoint, as a signed note.
    pub note: Vec<u8>,
    /// Entries that it covers.
    pub size: TreeSize,
    /// The commitment that the rows of the store are the map of, covered by the checkpoint.
    pub commitment: Option<CommitmentAt>,
    /// Entries of one page, at least 1.
    pub page_entries: usize,
}

/// A node of the graph, and where to go from it.
#[derive(Clone, Debug)]
struct State {
    key: Key,
    direction: LineageDirection,
}

/// One list of a state that is being read.
struct Reading<'a, S> {
    list: List<'a, S>,
    listed: Listed,
    /// The node whose list it is.
    node: Key,
    leads: Leads,
    direction: LineageDirection,
    /// Distance of what it leads to; `None` when that is too far.
    next_distance: Option<u32>,
    /// The list stands on earlier pages already, or on this one.
    was_given: bool,
    next: u64,
    end: u64,
}

/// An answer on its way.
pub struct Lineage<'a, S> {
    store: &'a S,
    under: Under,
    question: v1::LineageQuestion,
    /// States that are still to be read, with their distances.
    queue: VecDeque<(State, u32)>,
    reached: HashSet<(Hash, LineageDirection)>,
    lists_given: HashSet<Hash>,
    /// Which entries stood on a page, a bit each.
    entries_given: HashMap<u64, u64>,
    /// Lists of the state that is read, and the one that is being read.
    lists: VecDeque<Reading<'a, S>>,
    /// Where a question without keys is.
    dense: Option<u64>,
    number: u64,
    is_done: bool,
    /// Places that were looked at since it was last asked whether to go on.
    looked: usize,
}

impl<'a, S: Store> Lineage<'a, S> {
    /// Begins an answer.
    ///
    /// # Errors
    /// [`LineageFault`] when the question is none, or nothing is there to answer it from.
    pub fn begin(store: &'a S, question: v1::LineageQuestion, under: Under) -> Result<Self, LineageFault> {
        check_question(&question)?;
        let by_key = !question.starts.is_empty();
        let under = Under { commitment: under.commitment.filter(|_| by_key), ..under };
        let covered = match under.commitment {
            Some(commitment) => commitment.size,
            None if by_key => return Err(LineageFault::NothingCommitted),
            None => under.size,
        };
        let question = resolve(store, question, covered)??;
        let mut lineage = Self {
            store,
            under,
            queue: VecDeque::new(),
            reached: HashSet::new(),
            lists_given: HashSet::new(),
            entries_given: HashMap::new(),
            lists: VecDeque::new(),
            dense: (!by_key).then_some(question.from_index),
            number: 0,
            is_done: false,
            looked: 0,
            question,
        };
        lineage.start()?;
        Ok(lineage)
    }

    /// Returns the question with what its times mean filled in.
    #[must_use]
    pub fn question(&self) -> &v1::LineageQuestion {
        &self.question
    }

    fn start(&mut self) -> Result<(), LineageFault> {
        let directions: &[LineageDirection] = match self.question.direction() {
            LineageDirection::Both => &[LineageDirection::Up, LineageDirection::Down],
            LineageDirection::Up => &[LineageDirection::Up],
            LineageDirection::Down => &[LineageDirection::Down],
            LineageDirection::Unspecified => &[LineageDirection::Unspecified],
        };
        let starts: Vec<Key> = self.question.starts.iter().map(Key::of).collect();
        for key in starts {
            for direction in directions {
                self.reach(State { key: key.clone(), direction: *direction }, 0)?;
            }
        }
        Ok(())
    }

    /// Returns the next page, or `None` behind the last. A page may be long in coming, where what it could hold was given before:
    /// `goes_on` is asked now and then.
    ///
    /// # Errors
    /// [`LineageFault`] when the answer gets too wide, is stopped, or the store fails. There is no further page then.
    pub fn next_page(&mut self, goes_on: &mut dyn FnMut() -> bool) -> Result<Option<v1::LineagePage>, LineageFault> {
        if self.is_done {
            return Ok(None);
        }
        self.is_done = true;
        let mut page = Draft::new(self.under.page_entries);
        self.open(&mut page)?;
        let is_last = if self.dense.is_some() { self.fill_densely(&mut page)? } else { self.fill(&mut page, goes_on)? };
        let frame = v1::LineagePage {
            number: self.number,
            last: is_last,
            question: Some(self.question.clone()),
            checkpoint: self.under.note.clone(),
            commitment_index: self.under.commitment.map_or(0, |commitment| commitment.index.0),
            ..v1::LineagePage::default()
        };
        let made = page.finish(self.store, self.under.size, frame)?;
        self.number += 1;
        self.is_done = is_last;
        Ok(Some(made))
    }

    /// Puts onto a page what stands there whatever the lists give.
    fn open(&mut self, page: &mut Draft) -> Result<(), LineageFault> {
        if let Some(commitment) = self.under.commitment {
            page.add(commitment.index.0, self.entry(commitment.index.0)?);
        }
        if self.number == 0 && (self.question.from_unix_ns != 0 || self.question.to_unix_ns != 0) {
            let (from, to) = (self.question.from_index, self.question.to_index);
            for index in [from.checked_sub(1), Some(from), to.checked_sub(1), Some(to)].into_iter().flatten() {
                if index < self.under.size.0 && self.give(index) {
                    page.add(index, self.entry(index)?);
                }
            }
        }
        Ok(())
    }

    /// Fills a page with the entries of the window, one after the other. Tells whether nothing is left.
    fn fill_densely(&mut self, page: &mut Draft) -> Result<bool, LineageFault> {
        while let Some(next) = self.dense.filter(|next| *next < self.question.to_index) {
            if page.is_full() {
                return Ok(false);
            }
            if self.give(next) {
                page.add(next, self.entry(next)?);
                page.count_entry();
            }
            self.dense = Some(next + 1);
        }
        Ok(true)
    }

    /// Fills a page from the lists. Tells whether nothing is left.
    fn fill(&mut self, page: &mut Draft, goes_on: &mut dyn FnMut() -> bool) -> Result<bool, LineageFault> {
        loop {
            if let Some(mut reading) = self.lists.pop_front() {
                let read = self.read(&mut reading, page, goes_on)?;
                if read == Read::PageFull {
                    self.lists.push_front(reading);
                    return Ok(false);
                }
            } else if let Some((state, distance)) = self.queue.pop_front() {
                self.open_lists(&state, distance)?;
            } else {
                return Ok(true);
            }
        }
    }

    /// Opens the lists of a state that is to be read.
    fn open_lists(&mut self, state: &State, distance: u32) -> Result<(), LineageFault> {
        let leads = Leads::of(state.key.dimension, state.direction);
        let next_distance = (leads != Leads::Nowhere && distance < self.question.depth).then_some(distance + 1);
        let with_parents = state.key.dimension == Dimension::Session && state.direction == LineageDirection::Down;
        let dimensions = [Some(state.key.dimension), with_parents.then_some(Dimension::ParentSession)];
        for dimension in dimensions.into_iter().flatten() {
            let key = Key { dimension, ..state.key.clone() };
            let hash = key.hash();
            let mut list = List::open(self.store, hash)?;
            let next = list.position_of(self.question.from_index)?.saturating_sub(1);
            let end = list.count().min(list.position_of(self.question.to_index)? + 1);
            self.lists.push_back(Reading {
                listed: Listed { key, hash, count: list.count(), root: list.root() },
                list,
                node: state.key.clone(),
                leads,
                direction: state.direction,
                next_distance,
                was_given: !self.lists_given.insert(hash),
                next,
                end,
            });
        }
        Ok(())
    }

    /// Reads a list on, until it ends or needs room that the page does not have.
    fn read(&mut self, of: &mut Reading<'a, S>, page: &mut Draft, goes_on: &mut dyn FnMut() -> bool) -> Result<Read, LineageFault> {
        if of.was_given && of.next_distance.is_none() {
            return Ok(Read::Whole);
        }
        // There is a range even if it lists no index.
        if !of.was_given {
            if page.is_full() {
                return Ok(Read::PageFull);
            }
            page.begin_range(self.store, &of.listed, of.next)?;
        }
        let mut has_listed = false;
        while of.next < of.end {
            // A range without an index would prove nothing: its first one has its place on the page where it began.
            if !of.was_given && has_listed && page.is_full() {
                // The next page goes on with a range of its own.
                page.end_range(&mut of.list)?;
                return Ok(Read::PageFull);
            }
            self.ask(goes_on)?;
            let index = of.list.index(of.next)?;
            if !of.was_given {
                page.list(index);
            }
            if (self.question.from_index..self.question.to_index).contains(&index) {
                self.visit(of, index, page)?;
            }
            of.next += 1;
            has_listed = true;
        }
        if !of.was_given {
            page.end_range(&mut of.list)?;
        }
        Ok(Read::Whole)
    }

    fn ask(&mut self, goes_on: &mut dyn FnMut() -> bool) -> Result<(), LineageFault> {
        self.looked += 1;
        if self.looked.is_multiple_of(LOOKED_AT_ONCE) && !goes_on() { Err(LineageFault::Stopped) } else { Ok(()) }
    }

    /// Gives an entry of the window, and follows it.
    fn visit(&mut self, of: &Reading<'a, S>, index: u64, page: &mut Draft) -> Result<(), LineageFault> {
        let is_new = !of.was_given && self.give(index);
        if !is_new && of.next_distance.is_none() {
            return Ok(());
        }
        let entry = self.entry(index)?;
        if is_new {
            page.add(index, entry.clone());
            page.count_entry();
        }
        let Some(distance) = of.next_distance else { return Ok(()) };
        let carrier = Carrier::parse(entry).ok_or_else(|| damaged(index))?;
        let next = carrier.event.map(|event| of.leads.next(&of.node, of.listed.key.dimension, &event));
        for key in next.into_iter().flatten() {
            self.reach(State { key, direction: of.direction }, distance)?;
        }
        Ok(())
    }

    fn reach(&mut self, state: State, distance: u32) -> Result<(), LineageFault> {
        let (dimension, direction) = (state.key.dimension, state.direction);
        let is_wanted = distance == 0 || self.question.kinds.is_empty() || self.question.kinds.contains(&dimension.into());
        if !is_wanted || !self.reached.insert((state.key.hash(), direction)) {
            return Ok(());
        }
        if self.reached.len() > LINEAGE_STATES_MAX {
            return Err(LineageFault::TooWide);
        }
        let is_followed = dimension == Dimension::Session && direction == LineageDirection::Up && distance > 0;
        let also_down = is_followed && self.question.direction() == LineageDirection::Both;
        let down = also_down.then(|| State { direction: LineageDirection::Down, ..state.clone() });
        let is_read = distance == 0 || (Leads::of(dimension, direction) != Leads::Nowhere && distance < self.question.depth);
        if is_read {
            self.queue.push_back((state, distance));
        }
        down.map_or(Ok(()), |down| self.reach(down, distance))
    }

    /// Takes note that an entry is given; tells whether it was not before.
    fn give(&mut self, index: u64) -> bool {
        let (word, bit) = (self.entries_given.entry(index / 64).or_default(), 1 << (index % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn entry(&self, index: u64) -> Result<Bytes, StoreFault> {
        listing::entry(self.store, EntryIndex(index))?.map(Bytes::from).ok_or_else(|| damaged(index))
    }
}

/// How far a list was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Whole,
    PageFull,
}

fn damaged(index: u64) -> StoreFault {
    StoreFault::Damaged { table: Table::Entries, key: crate::key::entry(EntryIndex(index)).to_vec() }
}

impl<S> std::fmt::Debug for Lineage<'_, S> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Lineage").field("question", &self.question).field("number", &self.number).finish_non_exhaustive()
    }
}
