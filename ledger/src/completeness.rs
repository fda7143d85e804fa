//! Which entries carry a key, and that there are no others: lists of entries by key, one map over all of them, commitments to
//! the map in the log, and answers that prove themselves.
//!
//! What it holds: the tables of [`Table::OF_ONE_NODE`](crate::Table::OF_ONE_NODE), which a node makes for itself out of the
//! entries. What is always true: rows and roots follow from the entries alone. What it does not do: decide when to commit, or
//! whom to believe.

mod access;
mod carried;
mod commitment;
mod index;
mod keys;
mod lineage;
mod list;
mod map;
mod page;
mod pending;
mod question;
pub(crate) mod set_proof;

pub(crate) use self::{access::record, commitment::commit, question::check_question};
pub use self::{
    carried::{Carried, RecentKeys},
    commitment::{CommitmentAt, newest_commitment, next_commitment},
    index::{KeyIndex, confirmed_commitment, indexed_commitment},
    lineage::{Lineage, LineageFault, Under},
    question::{QuestionProblem, Reach, reach},
};
