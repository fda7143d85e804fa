//! What is checked before a node may vote with its journal.
//!
//! The journal must be whole from its purge point to its end, hold at least what the high-water file says, and hold exactly
//! that record there. Every check failing means: this node must not vote again under its identity.

use std::path::Path;

use openraft::{LogId, Vote};

use super::{
    JournalError, JournalTrace,
    extent::RecordSizes,
    mark::{HighWater, Mark, Tip},
    record,
    records::{Purged, Records},
};

/// A journal that passed all checks.
pub(super) struct Opened {
    pub(super) records: Records,
    pub(super) high_water: HighWater,
    pub(super) vote: Option<Vote<u64>>,
    pub(super) committed: Option<LogId<u64>>,
    pub(super) purged: Option<Purged>,
    pub(super) tip: Tip,
    pub(super) sizes: RecordSizes,
}

/// Looks what is there without opening the database.
pub(super) fn trace(records_path: &Path, mark_path: &Path) -> Result<JournalTrace, JournalError> {
    if Records::exist(records_path) {
        return Ok(JournalTrace::Used);
    }
    if !mark_path.exists() {
        return Ok(JournalTrace::None);
    }
    let (_, mark) = HighWater::open(mark_path)?;
    Ok(if mark == Mark::EMPTY { JournalTrace::Unused } else { JournalTrace::Used })
}

/// Opens the journal in `records_path`, or creates an empty one.
///
/// On return: a new journal's high-water file is durable. A crash inside leaves at most that file, marking nothing.
pub(super) fn open(records_path: &Path, mark_path: &Path) -> Result<Opened, JournalError> {
    if !Records::exist(records_path) && !mark_path.exists() {
        HighWater::create(mark_path)?;
    }
    let (high_water, mark) = HighWater::open(mark_path)?;
    let records = Records::open(records_path)?;
    let (vote, committed, purged) = (records.vote()?, records.committed()?, records.purged()?);
    let (tip, sizes) = verify(&records, purged, &mark)?;
    check_vote(vote, &mark)?;
    Ok(Opened { records, high_water, vote, committed, purged, tip, sizes })
}

/// Walks the whole chain and returns its end, and how large its records are.
fn verify(records: &Records, purged: Option<Purged>, mark: &Mark) -> Result<(Tip, RecordSizes), JournalError> {
    let mut sizes = RecordSizes::default();
    let mut tip = purged.map_or(Tip::EMPTY, |at| Tip { log_id: Some(at.log_id), chain: at.chain });
    let mut marked = covered(&tip, mark).then_some(tip);
    records.walk(tip.next_index(), |index, bytes| {
        tip = follow(&tip, index, bytes)?;
        sizes.push(bytes.len());
        if mark.tip.log_id.is_some_and(|at| at.index == index) {
            marked = Some(tip);
        }
        Ok(())
    })?;
    check_mark(marked, mark, &tip)?;
    Ok((tip, sizes))
}

/// Returns whether what the mark promises lies in the purged part: it was committed, and the state holds it.
fn covered(purged: &Tip, mark: &Mark) -> bool {
    mark.tip.log_id.is_none_or(|at| at.index < purged.next_index())
}

fn follow(tip: &Tip, index: u64, bytes: &[u8]) -> Result<Tip, JournalError> {
    if index != tip.next_index() {
        return Err(JournalError::Hole { missing: tip.next_index() });
    }
    let link = record::link(index, bytes).map_err(|damage| JournalError::RecordDamaged { index, damage })?;
    if link.previous != tip.chain && !proofline_ledger::planted!(StartWithoutChecks) {
        return Err(JournalError::ChainBroken { index });
    }
    Ok(Tip { log_id: Some(link.log_id), chain: link.hash })
}

fn check_mark(marked: Option<Tip>, mark: &Mark, tip: &Tip) -> Result<(), JournalError> {
    // Planted: a start with less than what was acknowledged.
    let Some(at) = mark.tip.log_id.filter(|_| !proofline_ledger::planted!(StartWithoutChecks)) else { return Ok(()) };
    match marked {
        None => Err(JournalError::Regressed { mark: at, last: tip.log_id }),
        Some(found) if found.log_id.is_some_and(|id| id.index == at.index) && found != mark.tip => {
            Err(JournalError::MarkContradicted { mark: at })
        }
        Some(_) => Ok(()),
    }
}

fn check_vote(stored: Option<Vote<u64>>, mark: &Mark) -> Result<(), JournalError> {
    match mark.vote {
        Some(promised) if stored.is_none_or(|stored| stored < promised) && !proofline_ledger::planted!(StartWithoutChecks) => {
            Err(JournalError::VoteRegressed { mark: promised, stored })
        }
        _ => Ok(()),
    }
}

/// Returns the end of the log as it was right before `since`.
pub(super) fn tip_before(records: &Records, purged: Option<Purged>, since: u64) -> Result<Tip, JournalError> {
    let Some(index) = since.checked_sub(1) else { return Ok(Tip::EMPTY) };
    if let Some(at) = purged.filter(|at| at.log_id.index == index) {
        return Ok(Tip { log_id: Some(at.log_id), chain: at.chain });
    }
    let bytes = records.record(index)?.ok_or(JournalError::Hole { missing: index })?;
    let link = record::link(index, &bytes).map_err(|damage| JournalError::RecordDamaged { index, damage })?;
    Ok(Tip { log_id: Some(link.log_id), chain: link.hash })
}
