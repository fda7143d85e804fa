//! What alterations of every kind do: find something by lot, and write it anew.

use proofline_proto::v1;
use prost::{Message as _, bytes::Bytes};

use crate::{
    checks::{Body, Case, Entry, Forgery},
    history::{Action, Answer, Operation, Outcome},
    random::Random,
};

/// A run that is being altered.
pub(super) struct Alteration<'a> {
    pub(super) case: &'a mut Case,
    pub(super) forgery: &'a Forgery,
    pub(super) lot: Random,
}

impl Alteration<'_> {
    /// Returns the longest log.
    pub(super) fn log(&self) -> &[Bytes] {
        self.case.finals.nodes.iter().map(|node| node.log.as_slice()).max_by_key(|log| log.len()).unwrap_or_default()
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.log().iter().filter_map(Entry::parse).collect()
    }

    /// Finds an entry by lot.
    pub(super) fn an_entry(&mut self, suits: impl Fn(&Entry) -> bool) -> Option<usize> {
        let places: Vec<usize> = self.entries().iter().enumerate().filter(|(_, entry)| suits(entry)).map(|(place, _)| place).collect();
        self.lot.one_of(&places).copied()
    }

    /// Finds an acknowledged event by lot.
    pub(super) fn an_event(&mut self) -> Option<usize> {
        self.an_entry(|entry| matches!(entry.body, Body::Event { .. }))
    }

    /// Writes an entry anew, the same on every node that has it.
    pub(super) fn rewrite(&mut self, place: usize, alter: impl Fn(&mut v1::Entry, &mut v1::EntryCore) -> Option<()>) -> Option<()> {
        let exact = rewritten(self.log().get(place)?, alter)?;
        for node in &mut self.case.finals.nodes {
            if let Some(entry) = node.log.get_mut(place) {
                *entry = exact.clone();
            }
        }
        Some(())
    }

    /// Changes the log of every node in the same way.
    pub(super) fn each_log(&mut self, alter: impl Fn(&mut Vec<Bytes>)) {
        self.case.finals.nodes.iter_mut().for_each(|node| alter(&mut node.log));
    }

    /// Finds an operation by lot.
    pub(super) fn an_operation(&mut self, suits: impl Fn(&Operation) -> bool) -> Option<usize> {
        let operations = self.case.history.operations.iter().enumerate();
        let places: Vec<usize> = operations.filter(|(_, operation)| suits(operation)).map(|(place, _)| place).collect();
        self.lot.one_of(&places).copied()
    }

    /// Finds an acknowledged append by lot, of events.
    pub(super) fn an_acknowledgement(&mut self) -> Option<usize> {
        self.an_operation(
            |it| matches!((&it.action, it.answer()), (Action::Append { events, .. }, Some(Answer::Appended { .. })) if !events.is_empty()),
        )
    }

    pub(super) fn operation(&mut self, place: usize) -> Option<&mut Operation> {
        self.case.history.operations.get_mut(place)
    }

    /// Returns what an operation was answered, to be altered.
    pub(super) fn answer(&mut self, place: usize) -> Option<&mut Answer> {
        match &mut self.operation(place)?.outcome {
            Outcome::Ok { answer } => Some(answer),
            Outcome::Fail { .. } | Outcome::Info { .. } => None,
        }
    }

    /// Adds a copy of an operation, with a number of its own.
    pub(super) fn again(&mut self, place: usize) -> Option<usize> {
        let mut copy = self.case.history.operations.get(place)?.clone();
        let next = self.case.history.operations.iter().map(|it| it.id.0).max()? + 1;
        copy.id.0 = next;
        copy.process.0 = next + 1_000_000;
        self.case.history.operations.push(copy);
        Some(self.case.history.operations.len() - 1)
    }
}

/// Decodes an entry, alters it and encodes it again.
pub(super) fn rewritten(exact: &[u8], alter: impl Fn(&mut v1::Entry, &mut v1::EntryCore) -> Option<()>) -> Option<Bytes> {
    let mut entry = v1::Entry::decode(exact).ok()?;
    let mut core = v1::EntryCore::decode(entry.core.as_ref()).ok()?;
    alter(&mut entry, &mut core)?;
    entry.core = core.encode_to_vec().into();
    Some(Bytes::from(entry.encode_to_vec()))
}

/// Gives the recorded event of an entry to be altered.
pub(super) fn alter_event(core: &mut v1::EntryCore, alter: impl Fn(&mut v1::Event)) -> Option<()> {
    let Some(v1::entry_core::Body::Event(recorded)) = &mut core.body else { return None };
    let mut event = v1::Event::decode(recorded.event.as_ref()).ok()?;
    alter(&mut event);
    recorded.event = event.encode_to_vec().into();
    Some(())
}
