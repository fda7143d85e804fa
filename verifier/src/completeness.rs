//! Completeness and lineage: which entries carry a key, that these are all, and what hangs together with it.
//!
//! It holds docs/FORMATS.md section 17, from the keys of one entry to a whole answer of pages. Always true: a list of entries
//! is believed because a map that commits to it stands in the log, and the policy's quorum cosigned a checkpoint behind it;
//! what a question leads to is derived here again from the entries, never taken from the answer. Nothing in here knows how
//! a ledger finds its entries.

mod answer;
mod batch_parts;
mod entry_keys;
mod fault;
mod key;
mod key_range;
mod map;
mod page_entries;
mod question;
mod set_proof;
mod walk;
mod window;

pub use answer::{AnswerSummary, AnswerVerifier, Extent, FoundEntry, VerifiedPage};
pub use batch_parts::BatchPartError;
pub(crate) use batch_parts::{place_of_event, place_of_statement};
pub use entry_keys::EntryKeys;
pub use fault::{AnswerError, AnswerFault};
pub use key::{EntryKey, KEY_ENTRY_CONTEXT, KeyHash, MAP_KEY_CONTEXT, dimension_name};
pub use key_range::RangeError;
pub use map::{MAP_LEAF_CONTEXT, MAP_NODE_CONTEXT, MapError};
pub use page_entries::{CommitmentError, PageEntryError};
pub use question::{DEPTH_MAX, Direction, Question, QuestionError, STARTS_MAX};
pub use set_proof::{SetProofError, fold_set};
pub use walk::{LineageEdge, LineageNode, WalkError};
pub use window::WindowError;
