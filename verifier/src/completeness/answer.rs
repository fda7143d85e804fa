//! An answer, page after page.

use std::collections::{BTreeMap, BTreeSet};

use proofline_proto::v1;

use super::batch_parts;
use super::entry_keys::EntryKeys;
use super::fault::{AnswerError, AnswerFault};
use super::key::EntryKey;
use super::key_range::{ListRange, OpenList};
use super::page_entries::{Commitment, CommitmentError, PageEntryError, limit};
use super::question::{Question, QuestionError};
use super::set_proof::{SetProofError, fold_set};
use super::walk::{LineageEdge, LineageNode, Walk, WalkError};
use super::window;
use crate::coordinate::{EntryIndex, LeafIndex, TreeSize};
use crate::entry::LogEntry;
use crate::hash::{LogHash, TreeHash};
use crate::tree::{TreeError, parse_path};
use crate::trust::VerifiedCheckpoint;

/// Verifies an answer as its pages come. It keeps a few numbers of each entry and one counter of the list that is being given.
#[derive(Debug)]
pub struct AnswerVerifier {
    checkpoint: VerifiedCheckpoint,
    note: Vec<u8>,
    asked: Option<v1::LineageQuestion>,
    pages: u64,
    has_ended: bool,
    answer: Option<Answer>,
}

/// An entry that belongs to an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundEntry {
    /// What it says.
    pub entry: LogEntry,
    /// Its leaf in the log tree.
    pub leaf: LogHash,
}

/// What a verified page adds to the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedPage {
    /// From 0.
    pub number: u64,
    /// Whether the answer ends here.
    pub is_last: bool,
    /// Entries of the answer, each on one page only.
    pub found: Vec<FoundEntry>,
    /// Entries that stand beside them: the commitment, and the ends of the window.
    pub beside: Vec<FoundEntry>,
    /// Keys that were reached.
    pub nodes: Vec<LineageNode>,
    /// How they were reached.
    pub edges: Vec<LineageEdge>,
}

/// How far an answer reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything in the window that the question leads to is here.
    Complete,
    /// The answer ends before its last page.
    CutShort {
        /// The list that should go on; none in an answer of every entry.
        list: Option<EntryKey>,
        /// At which position of the list, or at which entry.
        from: u64,
    },
}

/// What is known of an answer behind its last page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerSummary {
    /// What was asked.
    pub question: Question,
    /// Where the commitment stands, and how many entries it covers.
    pub commitment: Option<(EntryIndex, TreeSize)>,
    /// Pages that were verified.
    pub pages: u64,
    /// Entries of the answer.
    pub entries: u64,
    /// How far it reaches.
    pub extent: Extent,
}

/// What the pages have in common, and where they stand.
#[derive(Debug)]
struct Answer {
    message: v1::LineageQuestion,
    question: Question,
    commitment_index: u64,
    commitment: Option<Commitment>,
    walk: Walk,
    open: Option<OpenList>,
    /// The next entry of a window of every entry.
    next: EntryIndex,
    /// Entries at the ends of the window, which a later page may list without holding them.
    held: BTreeMap<u64, FoundEntry>,
    entries: u64,
    /// The window ends where the question does, not only where what vouches for it does.
    shows_end: bool,
}

impl AnswerVerifier {
    /// Begins under a checkpoint that is trusted, and the note that it came in.
    #[must_use]
    pub fn new(checkpoint: VerifiedCheckpoint, note: &[u8]) -> Self {
        Self { checkpoint, note: note.to_vec(), asked: None, pages: 0, has_ended: false, answer: None }
    }

    /// Expects the answer to be to this question.
    #[must_use]
    pub fn asking(self, question: v1::LineageQuestion) -> Self {
        Self { asked: Some(question), ..self }
    }

    /// Returns the checkpoint that the answer is under.
    #[must_use]
    pub fn checkpoint(&self) -> &VerifiedCheckpoint {
        &self.checkpoint
    }

    /// Tells whether the last page came.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Verifies the next page. A page that is refused is not taken: nothing behind it can be.
    ///
    /// # Errors
    /// [`AnswerError`], which names the check.
    pub fn push(&mut self, page: &v1::LineagePage) -> Result<VerifiedPage, AnswerError> {
        let verified = self.verify(page).map_err(|fault| AnswerError { page: self.pages, fault })?;
        self.pages += 1;
        self.has_ended = page.last;
        Ok(verified)
    }

    /// Ends the answer, whether or not its last page came; nothing without a page.
    #[must_use]
    pub fn finish(self) -> Option<AnswerSummary> {
        let has_ended = self.has_ended;
        let mut answer = self.answer?;
        let extent = answer.extent(has_ended);
        let commitment = answer.commitment.map(|it| (it.index, it.size));
        Some(AnswerSummary { question: answer.question, commitment, pages: self.pages, entries: answer.entries, extent })
    }

    fn verify(&mut self, page: &v1::LineagePage) -> Result<VerifiedPage, AnswerFault> {
        self.check_order(page)?;
        let is_first = self.answer.is_none();
        let mut answer = match self.answer.take() {
            Some(answer) => answer,
            None => Answer::begin(page)?,
        };
        let shown = include(page, &self.checkpoint)?;
        answer.commit(page, &shown, &self.checkpoint, self.asked.as_ref())?;
        let bounds: BTreeSet<EntryIndex> =
            if is_first { window::bounds(&answer.question, self.checkpoint.size.0).into_iter().collect() } else { BTreeSet::new() };
        if is_first {
            let most = limit(answer.commitment.as_ref(), &answer.question, self.checkpoint.size);
            window::verify(&answer.question, self.checkpoint.size.0, most, &shown)?;
            answer.shows_end = window::shows_end(&answer.question, most, &shown);
        }
        let listed = answer.take(page, &shown, &bounds)?;
        answer.check_nothing_else(&shown, &listed, &bounds)?;
        batch_parts::verify(shown.values().map(|it| &it.entry), &page.statements, self.checkpoint.origin.as_str())?;
        let verified = answer.sort(page, shown, &listed);
        self.answer = Some(answer);
        Ok(verified)
    }

    fn check_order(&self, page: &v1::LineagePage) -> Result<(), AnswerFault> {
        if self.has_ended {
            return Err(AnswerFault::BehindLast);
        }
        if page.number != self.pages {
            return Err(AnswerFault::Number(page.number));
        }
        if page.checkpoint != self.note {
            return Err(AnswerFault::OtherAnswer("checkpoint"));
        }
        match &self.answer {
            Some(answer) if page.question.as_ref() != Some(&answer.message) => Err(AnswerFault::OtherAnswer("question")),
            Some(answer) if page.commitment_index != answer.commitment_index => Err(AnswerFault::OtherAnswer("commitment")),
            Some(_) | None => Ok(()),
        }
    }
}

impl Answer {
    fn begin(page: &v1::LineagePage) -> Result<Self, AnswerFault> {
        let message = page.question.clone().ok_or(QuestionError::Missing)?;
        let question = Question::parse(&message)?;
        Ok(Self {
            walk: Walk::new(&question),
            next: question.from,
            message,
            question,
            commitment_index: page.commitment_index,
            commitment: None,
            open: None,
            held: BTreeMap::new(),
            entries: 0,
            shows_end: true,
        })
    }

    /// Checks the commitment on a page, and on the first one what it vouches for. Without one nothing would tie the entries to
    /// what was asked.
    fn commit(
        &mut self,
        page: &v1::LineagePage,
        shown: &BTreeMap<u64, FoundEntry>,
        checkpoint: &VerifiedCheckpoint,
        asked: Option<&v1::LineageQuestion>,
    ) -> Result<(), AnswerFault> {
        if self.commitment_index != 0 {
            let entry = shown.get(&self.commitment_index).map(|it| &it.entry);
            self.commitment = Some(Commitment::read(EntryIndex(self.commitment_index), entry)?);
        } else if !(page.ranges.is_empty() && self.question.starts.is_empty()) {
            return Err(CommitmentError::NoneNamed.into());
        }
        let most = limit(self.commitment.as_ref(), &self.question, checkpoint.size);
        if self.question.to.0 > most {
            return Err(CommitmentError::Window { to: self.question.to, limit: most }.into());
        }
        asked.map_or(Ok(()), |asked| Ok(self.question.check_asked(asked, most)?))
    }

    /// Takes the entries of a page into the answer; returns those that the page lists.
    fn take(
        &mut self,
        page: &v1::LineagePage,
        shown: &BTreeMap<u64, FoundEntry>,
        bounds: &BTreeSet<EntryIndex>,
    ) -> Result<BTreeSet<EntryIndex>, AnswerFault> {
        match self.commitment.filter(|_| !self.question.starts.is_empty()) {
            Some(commitment) => self.take_lists(page, shown, &commitment),
            None => self.take_every(page, shown, bounds),
        }
    }

    /// In a window of every entry: the next ones, without a gap.
    fn take_every(
        &mut self,
        page: &v1::LineagePage,
        shown: &BTreeMap<u64, FoundEntry>,
        bounds: &BTreeSet<EntryIndex>,
    ) -> Result<BTreeSet<EntryIndex>, AnswerFault> {
        if let Some(range) = page.ranges.first() {
            let key = range.key.as_ref().and_then(EntryKey::parse);
            return Err(key.map_or(AnswerFault::OtherAnswer("list"), |key| WalkError::StrayList(key).into()));
        }
        let mut listed = BTreeSet::new();
        for index in self.in_window(shown) {
            if index == self.next {
                self.next.0 += 1;
                listed.insert(index);
            } else if !bounds.contains(&index) {
                return Err(PageEntryError::NotDense { expected: self.next }.into());
            }
        }
        // The end of the window may have stood on the first page.
        if page.last && self.held.contains_key(&self.next.0) {
            listed.insert(self.next);
            self.next.0 += 1;
        }
        if page.last && self.next < self.question.to {
            return Err(PageEntryError::NotDense { expected: self.next }.into());
        }
        Ok(listed)
    }

    fn take_lists(
        &mut self,
        page: &v1::LineagePage,
        shown: &BTreeMap<u64, FoundEntry>,
        commitment: &Commitment,
    ) -> Result<BTreeSet<EntryIndex>, AnswerFault> {
        let parse = |range| ListRange::verify_map(range, &commitment.map_root);
        let ranges = page.ranges.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        for (range, of) in ranges.iter().zip(&page.ranges) {
            range.verify_list(&of.range_path, commitment.size.0)?;
        }
        for index in self.in_window(shown) {
            if self.walk.knows(index) {
                return Err(PageEntryError::Repeated(index).into());
            }
            if let Some(one) = shown.get(&index.0) {
                self.walk.know(index, &EntryKeys::of(&one.entry));
            }
        }
        let mut listed = BTreeSet::new();
        for range in &ranges {
            self.take_range(range, &mut listed)?;
        }
        if page.last {
            self.check_walked()?;
        }
        Ok(listed)
    }

    fn take_range(&mut self, range: &ListRange<'_>, listed: &mut BTreeSet<EntryIndex>) -> Result<(), AnswerFault> {
        let list = match self.open.take() {
            Some(list) if list.key != range.key => return Err(list.cut().into()),
            Some(mut list) => {
                list.go_on(range, &self.question)?;
                list
            }
            None => {
                match self.walk.expected() {
                    Some(expected) if expected != range.key => {
                        return Err(WalkError::OtherList { found: range.key.clone(), expected }.into());
                    }
                    None => return Err(WalkError::StrayList(range.key.clone()).into()),
                    Some(_) => {}
                }
                OpenList::begin(range, &self.question)?
            }
        };
        for index in OpenList::in_window(range, &self.question) {
            if !self.walk.knows(index) {
                return Err(PageEntryError::Missing(index).into());
            }
            self.walk.take(index)?;
            listed.insert(index);
        }
        if list.is_finished(&self.question) {
            self.walk.close_list();
        } else {
            self.open = Some(list);
        }
        Ok(())
    }

    /// Checks on the last page that nothing is left to follow.
    fn check_walked(&mut self) -> Result<(), AnswerFault> {
        if let Some(list) = &self.open {
            return Err(list.cut().into());
        }
        self.walk.expected().map_or(Ok(()), |missing| Err(WalkError::NoList(missing).into()))
    }

    /// Checks that every entry of a page has a reason to stand there.
    fn check_nothing_else(
        &self,
        shown: &BTreeMap<u64, FoundEntry>,
        listed: &BTreeSet<EntryIndex>,
        bounds: &BTreeSet<EntryIndex>,
    ) -> Result<(), AnswerFault> {
        let is_commitment = |index: u64| self.commitment_index != 0 && index == self.commitment_index;
        let belongs = |index: u64| is_commitment(index) || listed.contains(&EntryIndex(index)) || bounds.contains(&EntryIndex(index));
        let stray = shown.keys().find(|index| !belongs(**index));
        stray.map_or(Ok(()), |index| Err(PageEntryError::Unlisted(EntryIndex(*index)).into()))
    }

    /// Parts the entries of a page into those of the answer and those beside them.
    fn sort(&mut self, page: &v1::LineagePage, shown: BTreeMap<u64, FoundEntry>, listed: &BTreeSet<EntryIndex>) -> VerifiedPage {
        let (mut found, mut beside) = (Vec::new(), Vec::new());
        for (index, one) in shown {
            if listed.contains(&EntryIndex(index)) {
                self.held.remove(&index);
                found.push(one);
            } else {
                if self.question.contains(EntryIndex(index)) {
                    self.held.insert(index, one.clone());
                }
                beside.push(one);
            }
        }
        found.extend(listed.iter().filter_map(|index| self.held.remove(&index.0)));
        self.entries += found.len() as u64;
        let (nodes, edges) = self.walk.found();
        VerifiedPage { number: page.number, is_last: page.last, found, beside, nodes, edges }
    }

    fn in_window(&self, shown: &BTreeMap<u64, FoundEntry>) -> Vec<EntryIndex> {
        shown.keys().map(|index| EntryIndex(*index)).filter(|index| self.question.contains(*index)).collect()
    }

    fn extent(&mut self, has_ended: bool) -> Extent {
        if self.question.starts.is_empty() {
            return if has_ended { Extent::Complete } else { Extent::CutShort { list: None, from: self.next.0 } };
        }
        if has_ended {
            return if self.shows_end { Extent::Complete } else { Extent::CutShort { list: None, from: self.question.to.0 } };
        }
        match &self.open {
            Some(list) => Extent::CutShort { list: Some(list.key.clone()), from: list.position },
            None => Extent::CutShort { list: self.walk.expected(), from: 0 },
        }
    }
}

/// Checks that the entries of a page stand in the log, and parses them.
fn include(page: &v1::LineagePage, checkpoint: &VerifiedCheckpoint) -> Result<BTreeMap<u64, FoundEntry>, AnswerFault> {
    let leaves: Vec<_> = page.entries.iter().map(|one| (LeafIndex(one.index), LogHash::leaf(&one.entry))).collect();
    let path = parse_path::<LogHash>(&page.log_path).map_err(|error| AnswerFault::NotIncluded(error.into()))?;
    if !(leaves.is_empty() && path.is_empty()) {
        let computed = fold_set(checkpoint.size, &leaves, &path).map_err(AnswerFault::NotIncluded)?;
        if computed != checkpoint.root {
            let mismatch = TreeError::RootMismatch { computed: computed.to_string(), expected: checkpoint.root.to_string() };
            return Err(AnswerFault::NotIncluded(SetProofError::Tree(mismatch)));
        }
    }
    let mut entries = BTreeMap::new();
    let mut newest = 0;
    for (one, (_, leaf)) in page.entries.iter().zip(leaves) {
        let index = EntryIndex(one.index);
        let entry = LogEntry::parse_at(&one.entry, index).map_err(|source| AnswerFault::Entry { index, source })?;
        if entry.committed_unix_ns < newest {
            return Err(AnswerFault::TimeFalls(index));
        }
        newest = entry.committed_unix_ns;
        entries.insert(index.0, FoundEntry { entry, leaf });
    }
    Ok(entries)
}
