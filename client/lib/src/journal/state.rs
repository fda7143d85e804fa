//! What the records of a journal add up to.

use std::collections::{BTreeMap, HashSet};

use proofline_proto::v1;
use prost::Message as _;

use super::steps::{Founded, Kept, Opened, Place, Record, Signed, Step, Submission};
use crate::{
    lane::{Epoch, LaneName, Sequence},
    source::SourceKey,
};

/// Sources in one record of a compacted journal.
const SOURCES_PER_RECORD: usize = 4_096;

/// Whether the signature of a waiting batch still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may be taken, or was taken: it is sent exactly as it is.
    Signed,
    /// It was not and cannot be taken: its events are signed again.
    Orphaned,
}

/// A batch without a receipt.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) batch: v1::Batch,
    pub(crate) sources: Vec<SourceKey>,
    pub(crate) standing: Standing,
}

/// The fold of all records.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct State {
    founded: Option<LaneName>,
    /// The newest epoch that this journal knows of.
    epoch: Epoch,
    /// The newest batch that the ledger gave a receipt for.
    acknowledged: Option<(Epoch, Sequence)>,
    next_submission: u64,
    waiting: BTreeMap<Submission, Waiting>,
    sources: HashSet<SourceKey>,
}

impl State {
    pub(crate) fn founded(&self) -> Option<&LaneName> {
        self.founded.as_ref()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn acknowledged(&self) -> Option<(Epoch, Sequence)> {
        self.acknowledged
    }

    pub(crate) fn next_submission(&self) -> Submission {
        Submission(self.next_submission)
    }

    /// The batches without a receipt, in the order in which they were first signed.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Submission, &Waiting)> {
        self.waiting.iter().map(|(submission, waiting)| (*submission, waiting))
    }

    pub(crate) fn first_waiting(&self) -> Option<(Submission, &Waiting)> {
        self.waiting().next()
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn knows(&self, source: &SourceKey) -> bool {
        self.sources.contains(source)
    }

    pub(crate) fn source_count(&self) -> usize {
        self.sources.len()
    }

    /// Takes the next record.
    pub(crate) fn apply(&mut self, record: Record) -> Result<(), &'static str> {
        match (record.step.ok_or("a record says nothing")?, &self.founded) {
            (Step::Founded(it), None) => self.founded = Some(it.into()),
            (Step::Founded(_), Some(_)) => return Err("it is founded twice"),
            (_, None) => return Err("it does not begin with whose it is"),
            (Step::Opened(it), Some(_)) => self.open(it)?,
            (Step::Signed(it), Some(_)) => self.sign(it)?,
            (Step::Acknowledged(it), Some(_)) => {
                let of = self.waiting.remove(&Submission(it.submission)).ok_or("a receipt for a batch that does not wait")?;
                self.acknowledged = self.acknowledged.max(Some((Epoch(of.batch.epoch), Sequence(of.batch.sequence))));
                self.forget_rejected(&of.sources, &it.receipt.unwrap_or_default());
            }
            (Step::Orphaned(it), Some(_)) => self.orphan(Submission(it.submission))?,
            (Step::Kept(it), Some(_)) => self.keep(it)?,
        }
        Ok(())
    }

    /// What was rejected is no event of the log: read again, it is sent again, by then perhaps within the collector's scope. Where
    /// not every event has a source, it cannot be told which of them were rejected.
    fn forget_rejected(&mut self, sources: &[SourceKey], receipt: &v1::AppendResponse) {
        if sources.len() != receipt.events.len() {
            return;
        }
        for (source, _) in sources.iter().zip(&receipt.events).filter(|(_, event)| event.rejection != 0) {
            self.sources.remove(source);
        }
    }

    fn open(&mut self, it: Opened) -> Result<(), &'static str> {
        if Epoch(it.epoch) <= self.epoch {
            return Err("epochs do not rise");
        }
        self.epoch = Epoch(it.epoch);
        Ok(())
    }

    fn sign(&mut self, it: Signed) -> Result<(), &'static str> {
        let submission = Submission(it.submission);
        let batch = it.batch.ok_or("a signed batch is missing")?;
        match self.waiting.get(&submission) {
            Some(waiting) if waiting.standing == Standing::Signed => return Err("a batch is signed twice"),
            Some(_) => {}
            None if it.submission == self.next_submission => self.next_submission += 1,
            None => return Err("a batch is numbered out of order"),
        }
        let sources = it.sources.iter().map(|bytes| SourceKey::from_slice(bytes)).collect::<Option<Vec<_>>>();
        let sources = sources.ok_or("the key of a source is malformed")?;
        self.sources.extend(sources.iter().copied());
        self.waiting.insert(submission, Waiting { batch, sources, standing: Standing::Signed });
        Ok(())
    }

    fn orphan(&mut self, submission: Submission) -> Result<(), &'static str> {
        let waiting = self.waiting.get_mut(&submission).ok_or("an orphan that does not wait")?;
        if waiting.batch.events.is_empty() {
            // A closing batch: there is nothing to sign again.
            self.waiting.remove(&submission);
        } else {
            waiting.standing = Standing::Orphaned;
        }
        Ok(())
    }

    fn keep(&mut self, it: Kept) -> Result<(), &'static str> {
        let sources = it.sources.iter().map(|bytes| SourceKey::from_slice(bytes)).collect::<Option<Vec<_>>>();
        self.sources.extend(sources.ok_or("the key of a source is malformed")?);
        self.next_submission = self.next_submission.max(it.next_submission);
        if let Some(Place { epoch, sequence }) = it.acknowledged {
            self.acknowledged = Some((Epoch(epoch), Sequence(sequence)));
        }
        Ok(())
    }

    /// Returns records whose fold is this state.
    pub(crate) fn snapshot(&self) -> Vec<Record> {
        let mut steps: Vec<Step> = self.founded.iter().map(|lane| Step::Founded(Founded::of(lane))).collect();
        if self.epoch > Epoch(0) {
            steps.push(Step::Opened(Opened { epoch: self.epoch.0 }));
        }
        let mut sources: Vec<_> = self.sources.iter().collect();
        sources.sort();
        for some in sources.chunks(SOURCES_PER_RECORD) {
            steps.push(Step::Kept(Kept { next_submission: 0, sources: some.iter().map(|it| it.to_vec()).collect(), ..Kept::default() }));
        }
        for (submission, waiting) in &self.waiting {
            // Lets the numbering jump to this batch.
            steps.push(Step::Kept(Kept { next_submission: submission.0, ..Kept::default() }));
            let sources = waiting.sources.iter().map(|source| source.to_vec()).collect();
            steps.push(Step::Signed(Signed { submission: submission.0, batch: Some(waiting.batch.clone()), sources }));
            if waiting.standing == Standing::Orphaned {
                steps.push(Step::Orphaned(super::steps::Orphaned { submission: submission.0 }));
            }
        }
        let acknowledged = self.acknowledged.map(|(epoch, sequence)| Place { epoch: epoch.0, sequence: sequence.0 });
        steps.push(Step::Kept(Kept { next_submission: self.next_submission, acknowledged, ..Kept::default() }));
        steps.into_iter().map(|step| Record { step: Some(step) }).collect()
    }

    /// About how many bytes a compacted journal would have.
    pub(crate) fn bytes_min(&self) -> u64 {
        let sources = self.sources.len().saturating_mul(SourceKey::BYTES + 2);
        let waiting: usize = self.waiting.values().map(|waiting| waiting.batch.encoded_len()).sum();
        u64::try_from(sources.saturating_add(waiting)).unwrap_or(u64::MAX)
    }
}
