//! Reads a history file.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use thiserror::Error;

use super::{
    fault::{Evidence, FaultId, FaultRecord, Installed, Mark, Marked},
    line::Line,
    operation::{Observation, Operation, Outcome},
    recorder::RunHeader,
    value::{Moment, OperationId},
};

/// Why a history cannot be read.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The file cannot be read.
    #[error("the history cannot be read: {0}")]
    File(#[from] io::Error),
    /// A line is not one of a history.
    #[error("line {line} of the history: {source}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The first line does not say what the run was.
    #[error("the history does not begin with the header of a run")]
    NoHeader,
    /// A line speaks of something that did not begin, or begins or ends it twice.
    #[error("line {line} of the history is out of place")]
    OutOfPlace {
        /// From 1.
        line: usize,
    },
}

/// A whole history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// What the run was.
    pub run: RunHeader,
    /// Operations, in the order in which they began.
    pub operations: Vec<Operation>,
    /// Faults, in the order in which they began.
    pub faults: Vec<FaultRecord>,
    /// What was seen from outside, in order.
    pub marks: Vec<Marked>,
}

impl History {
    /// Begins an empty history.
    #[must_use]
    pub const fn of(run: RunHeader) -> Self {
        Self { run, operations: Vec::new(), faults: Vec::new(), marks: Vec::new() }
    }

    /// Names in every operation the node that was there when it was asked: clients know addresses, and a node that was wiped is
    /// followed by another one at the same address.
    #[must_use]
    pub fn by_tenant(mut self) -> Self {
        for operation in &mut self.operations {
            for marked in self.marks.iter().filter(|marked| marked.at <= operation.invoked) {
                match marked.what {
                    Mark::Follows { node, after } if after == operation.node => operation.node = node,
                    _ => (),
                }
            }
        }
        self
    }

    /// Reads a file. Its last line may be cut short, by a crash of whoever recorded it.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn read(path: &Path) -> Result<Self, HistoryError> {
        let mut lines = BufReader::new(File::open(path)?);
        let (mut text, mut number) = (String::new(), 0);
        let mut building: Option<Building> = None;
        loop {
            text.clear();
            if lines.read_line(&mut text)? == 0 {
                return building.map(|building| building.history).ok_or(HistoryError::NoHeader);
            }
            number += 1;
            let line = match serde_json::from_str(&text) {
                Ok(line) => line,
                Err(_) if !text.ends_with('\n') => continue,
                Err(source) => return Err(HistoryError::Line { line: number, source }),
            };
            match (&mut building, line) {
                (None, Line::Run(run)) => building = Some(Building::of(run)),
                (None, _) => return Err(HistoryError::NoHeader),
                (Some(building), line) => building.take(line).ok_or(HistoryError::OutOfPlace { line: number })?,
            }
        }
    }
}

struct Building {
    history: History,
    /// Operations that began and did not end.
    open: HashMap<OperationId, usize>,
    faults: HashMap<FaultId, usize>,
}

impl Building {
    fn of(run: RunHeader) -> Self {
        Self { history: History::of(run), open: HashMap::new(), faults: HashMap::new() }
    }

    /// Takes one line; `None` when it is out of place.
    fn take(&mut self, line: Line) -> Option<()> {
        match line {
            Line::Run(_) => return None,
            Line::Invoke { id, process, node, at, action } => {
                let unknown = Outcome::Info { reason: "the history ends before it".to_owned() };
                let operation =
                    Operation { id, process, node, action, invoked: at, returned: Moment::NEVER, outcome: unknown, observed: Vec::new() };
                let place = self.history.operations.len();
                self.history.operations.push(operation);
                return self.open.insert(id, place).is_none().then_some(());
            }
            Line::Return { id, at, outcome } => {
                let operation = self.history.operations.get_mut(self.open.remove(&id)?)?;
                operation.returned = if matches!(outcome, Outcome::Info { .. }) { Moment::NEVER } else { at };
                operation.outcome = outcome;
            }
            Line::Observe { id, at, what } => {
                let operation = self.history.operations.get_mut(*self.open.get(&id)?)?;
                operation.observed.push(Observation { at, what });
            }
            Line::Fault { id, fault, targets, detail, at } => {
                let installed = Installed::Indeterminate;
                let fault =
                    FaultRecord { id, fault, targets, detail, began: at, ended: Moment::NEVER, installed, evidence: Evidence::new() };
                let place = self.history.faults.len();
                self.history.faults.push(fault);
                return self.faults.insert(id, place).is_none().then_some(());
            }
            Line::FaultEnd { id, at, installed, evidence } => {
                let fault = self.history.faults.get_mut(*self.faults.get(&id)?)?;
                (fault.ended, fault.installed, fault.evidence) = (at, installed, evidence);
            }
            Line::Mark { at, what } => self.history.marks.push(Marked { at, what }),
        }
        Some(())
    }
}
