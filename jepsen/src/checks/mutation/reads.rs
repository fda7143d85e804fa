//! Alterations of reads, streams, checkpoints and proofs.

use super::altering::Alteration;
use crate::history::{Action, Answer, CheckpointSeen, Digest, LaneHead, Moment, Observation, Observed, Outcome};

fn entries_read(answer: Option<&Answer>) -> bool {
    matches!(answer, Some(Answer::Entries(run)) if run.count > 0)
}

pub(super) fn read_early(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_operation(|it| entries_read(it.answer()) && it.invoked > Moment(1_000))?;
    let operation = it.operation(place)?;
    (operation.invoked, operation.returned) = (Moment(0), Moment(0));
    let Answer::Entries(run) = it.answer(place)? else { return None };
    (run.first > 4 || run.count > 20).then_some(())
}

pub(super) fn other_entries(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_operation(|it| entries_read(it.answer()))?;
    let Answer::Entries(run) = it.answer(place)? else { return None };
    run.digest.0[7] ^= 16;
    Some(())
}

pub(super) fn session_lacks_entry(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_operation(|it| matches!(it.answer(), Some(Answer::Session { .. })))?;
    let Answer::Session { entries, indexes, .. } = it.answer(place)? else { return None };
    *entries = entries.checked_sub(1)?;
    indexes.pop()?;
    Some(())
}

pub(super) fn head_goes_back(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_operation(|it| matches!(it.answer(), Some(Answer::Head { last, .. }) if last.sequence > 1))?;
    let other = it.again(place)?;
    let operation = it.operation(other)?;
    operation.invoked = Moment(operation.returned.0 + 1);
    operation.returned = Moment(operation.invoked.0 + 1);
    let Answer::Head { last, .. } = it.answer(other)? else { return None };
    *last = LaneHead { sequence: last.sequence - 1, ..*last };
    Some(())
}

/// Finds a stream of one kind that brought enough, and returns what it brought.
fn stream<'a>(it: &'a mut Alteration<'_>, suits: fn(&Action) -> bool, at_least: usize) -> Option<&'a mut Vec<Observation>> {
    let place = it.an_operation(|it| suits(&it.action) && it.observed.len() >= at_least)?;
    Some(&mut it.operation(place)?.observed)
}

const fn is_tail(action: &Action) -> bool {
    matches!(action, Action::Tail { .. })
}

const fn is_watch(action: &Action) -> bool {
    matches!(action, Action::WatchContainment { .. })
}

pub(super) fn hole_in_tail(it: &mut Alteration<'_>) -> Option<()> {
    let observed = stream(it, is_tail, 3)?;
    observed.remove(observed.len() / 2);
    Some(())
}

pub(super) fn tail_repeats(it: &mut Alteration<'_>) -> Option<()> {
    let observed = stream(it, is_tail, 3)?;
    let copy = observed.get(1)?.clone();
    observed.insert(2, copy);
    Some(())
}

fn change(observed: &[Observation]) -> Option<usize> {
    observed.iter().position(|seen| matches!(seen.what, Observed::Change { .. }))
}

/// Finds a watch that brought a change and something behind it.
fn watch<'a>(it: &'a mut Alteration<'_>) -> Option<(&'a mut Vec<Observation>, usize)> {
    let place = it.an_operation(|it| is_watch(&it.action) && change(&it.observed).is_some_and(|place| place + 1 < it.observed.len()))?;
    let observed = &mut it.operation(place)?.observed;
    let place = change(observed)?;
    Some((observed, place))
}

pub(super) fn lose_change(it: &mut Alteration<'_>) -> Option<()> {
    let (observed, place) = watch(it)?;
    observed.remove(place);
    Some(())
}

pub(super) fn double_change(it: &mut Alteration<'_>) -> Option<()> {
    let (observed, place) = watch(it)?;
    let copy = observed.get(place)?.clone();
    observed.insert(place + 1, copy);
    Some(())
}

pub(super) fn phantom_change(it: &mut Alteration<'_>) -> Option<()> {
    let observed = stream(it, is_watch, 1)?;
    let Observed::Change { containment, .. } = &mut observed.get_mut(0)?.what else { return None };
    *containment += 1_000;
    Some(())
}

/// Finds a checkpoint that was shown with its whole note.
fn shown(it: &mut Alteration<'_>) -> Option<usize> {
    it.an_operation(|it| matches!(it.answer(), Some(Answer::Checkpoint(seen)) if !seen.note.is_empty()))
}

fn show(it: &mut Alteration<'_>, place: usize, shown: CheckpointSeen) -> Option<()> {
    *it.answer(place)? = Answer::Checkpoint(shown);
    Some(())
}

fn seen(it: &mut Alteration<'_>, place: usize) -> Option<CheckpointSeen> {
    match it.answer(place)? {
        Answer::Checkpoint(seen) => Some(seen.clone()),
        _ => None,
    }
}

pub(super) fn sign_other_root(it: &mut Alteration<'_>) -> Option<()> {
    let place = shown(it)?;
    let was = seen(it, place)?;
    let forged = it.forgery.sign(was.size, Digest::of(&was.root.0))?;
    show(it, place, forged)
}

pub(super) fn sign_beyond(it: &mut Alteration<'_>) -> Option<()> {
    let place = shown(it)?;
    let forged = it.forgery.sign(it.log().len() as u64 + 1, Digest([1; 32]))?;
    show(it, place, forged)
}

pub(super) fn break_signature(it: &mut Alteration<'_>) -> Option<()> {
    let place = shown(it)?;
    let mut broken = seen(it, place)?;
    let (text, signatures) = broken.note.split_once("\n\n")?;
    let altered: String = signatures.chars().map(|it| if it == 'A' { 'B' } else { it }).collect();
    let is_altered = altered != signatures;
    broken.note = format!("{text}\n\n{altered}");
    show(it, place, broken)?;
    is_altered.then_some(())
}

pub(super) fn equivocate(it: &mut Alteration<'_>) -> Option<()> {
    let place = shown(it)?;
    let was = seen(it, place)?;
    let other = it.again(place)?;
    it.operation(other)?.node.0 += 1;
    let forged = it.forgery.sign(was.size, Digest::of(&was.root.0))?;
    show(it, other, forged)
}

pub(super) fn break_consistency(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_operation(|it| matches!(it.answer(), Some(Answer::Consistent { path }) if !path.is_empty()))?;
    let Answer::Consistent { path } = it.answer(place)? else { return None };
    path.first_mut()?.0[3] ^= 4;
    Some(())
}

/// A node shows a checkpoint, and later an older one that is just as true.
pub(super) fn checkpoint_shrinks(it: &mut Alteration<'_>) -> Option<()> {
    let shown: Vec<_> =
        it.case.history.operations.iter().filter(|it| matches!(it.answer(), Some(Answer::Checkpoint(_)))).cloned().collect();
    let size = |of: &crate::history::Operation| match of.answer() {
        Some(Answer::Checkpoint(seen)) => seen.size,
        _ => 0,
    };
    let last = shown.last()?;
    let first = shown.iter().find(|first| first.node == last.node && size(first) < size(last))?;
    let mut later = first.clone();
    later.id.0 = it.case.history.operations.iter().map(|it| it.id.0).max()? + 1;
    (later.invoked, later.returned) = (Moment(last.returned.0 + 1), Moment(last.returned.0 + 2));
    it.case.history.operations.push(later);
    Some(())
}

pub(super) fn break_inclusion(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_operation(|it| matches!(it.answer(), Some(Answer::Included { path, .. }) if !path.is_empty()))?;
    let Answer::Included { path, .. } = it.answer(place)? else { return None };
    path.last_mut()?.0[31] ^= 128;
    Some(())
}

pub(super) fn prove_another(it: &mut Alteration<'_>) -> Option<()> {
    let place = it.an_operation(|it| matches!(it.answer(), Some(Answer::Included { .. })))?;
    let Action::Inclusion { index } = &mut it.operation(place)?.action else { return None };
    *index ^= 1;
    Some(())
}

/// All checkpoints but the last that anybody saw are as small as the first.
pub(super) fn checkpoints_stand_still(it: &mut Alteration<'_>) -> Option<()> {
    let seen = it.case.history.operations.iter_mut().filter_map(|it| {
        let at = it.returned;
        match &mut it.outcome {
            Outcome::Ok { answer: Answer::Checkpoint(checkpoint) } => Some((at, &mut checkpoint.size)),
            _ => None,
        }
    });
    let mut seen: Vec<_> = seen.collect();
    seen.sort_unstable_by_key(|(at, _)| *at);
    let ((began, first), (ended, _)) = (seen.first().map(|(at, size)| (*at, **size))?, seen.last()?);
    let is_long = ended.ms_since(began) > 2 * it.case.bounds.covered_ms;
    seen.pop();
    seen.into_iter().for_each(|(_, size)| *size = first);
    is_long.then_some(())
}
