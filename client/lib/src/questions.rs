//! What compliance and responders ask of entries that they have: nothing here asks a node, and nothing is believed that the
//! entries do not say. Give it entries that were verified, all of a session or all of a key.

mod access;
mod authority;
mod coverage;
mod explanation;
mod numbering;
#[cfg(test)]
mod tests;

pub use access::{AccessReview, Declared, Use, review_access};
pub use authority::{Authority, CredentialHeld, authority_of};
pub use coverage::{Coverage, coverage_of};
pub use explanation::{Explanation, LinkFound, LinkName, NotAnAction, explain};
pub use numbering::{EpochNumbering, Numbering, SILENCE_MAX_NS, numbering_of};
