use std::sync::Arc;

use proofline_ledger::Outcome;
use serde::{Deserialize, Serialize};

/// What applying one Raft entry answered: one outcome for each item of the group, none for Raft's own entries.
///
/// It goes from the state machine to whoever proposed the entry, inside one process. Raft asks for serialisation of its types;
/// these answers never cross a wire, so nothing of them is serialised.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcomes {
    #[serde(skip, default = "nothing")]
    of_items: Arc<[Outcome]>,
}

impl Outcomes {
    /// Takes the outcomes of one group.
    #[must_use]
    pub fn new(outcomes: Vec<Outcome>) -> Self {
        Self { of_items: outcomes.into() }
    }

    /// Returns the outcomes, in the order of the group's items.
    #[must_use]
    pub fn as_slice(&self) -> &[Outcome] {
        &self.of_items
    }
}

fn nothing() -> Arc<[Outcome]> {
    Arc::from([])
}
