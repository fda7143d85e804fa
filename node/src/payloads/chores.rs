//! What the writing thread does beside puts, in bounded steps: whoever puts waits for one step at most.

use std::collections::{BTreeMap, VecDeque};

use proofline_ledger::{Retention, Store, listing, payloads};

use super::{Vault, VaultError};

/// Tenants whose retention is read at once.
const TENANTS_AT_ONCE: usize = 256;
/// Payloads of one tenant that one round looks at. What is left is looked at in the next one.
const LOOKED_AT_MAX: u64 = 65_536;

/// What is left to do.
#[derive(Debug, Default)]
pub struct Chores {
    has_erasures: bool,
    /// Tenants that the round still has to look at.
    round: VecDeque<Retention>,
    looked_at: u64,
    /// Where the sweep of each tenant goes on, and what it found held since it began.
    sweeping: BTreeMap<String, (Option<Vec<u8>>, u64)>,
    held: BTreeMap<String, u64>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There may be more.
    Done,
    /// Rows of erased payloads are gone that files still have.
    RowsGone,
    /// A tenant's payloads were counted to the end.
    Counted,
    /// There is nothing to do.
    Nothing,
}

impl Chores {
    /// Takes note that the state may have erasures which the store has not.
    pub fn erase(&mut self) {
        self.has_erasures = true;
    }

    /// Begins a round of the sweep, unless one is under way.
    ///
    /// # Errors
    /// [`VaultError`] when the state cannot be read.
    pub fn sweep(&mut self, state: &impl Store) -> Result<(), VaultError> {
        if !self.round.is_empty() {
            return Ok(());
        }
        let mut after = String::new();
        loop {
            let page = payloads::retentions(state, &after, TENANTS_AT_ONCE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.tenant);
            self.round.extend(page);
        }
    }

    /// Returns how many payloads of each tenant are past their time and held, as its last whole sweep counted them.
    #[must_use]
    pub fn held(&self) -> &BTreeMap<String, u64> {
        &self.held
    }

    /// Does a bounded part of what is left: keys first, then rows, then what is past its time.
    ///
    /// # Errors
    /// [`VaultError`] when the disk or the state fails.
    pub fn step(&mut self, vault: &Vault, state: &impl Store, now_unix_ns: u64) -> Result<Step, VaultError> {
        if self.has_erasures {
            self.has_erasures = vault.destroy_keys(state, now_unix_ns)? > 0;
            return Ok(Step::Done);
        }
        if vault.remove_erased()? {
            return Ok(Step::RowsGone);
        }
        self.sweep_some(vault, state)
    }

    fn sweep_some(&mut self, vault: &Vault, state: &impl Store) -> Result<Step, VaultError> {
        let Some(retention) = self.round.front() else { return Ok(Step::Nothing) };
        let (from, before) = self.sweeping.remove(&retention.tenant).unwrap_or_default();
        let swept = vault.sweep(state, retention, listing::last_committed(state)?, from.as_deref())?;
        if swept.deleted > 0 {
            tracing::info!(tenant = retention.tenant, deleted = swept.deleted, "payloads past their time were deleted");
        }
        let held = before + swept.held;
        self.looked_at += swept.deleted + swept.held;
        let is_counted = swept.next.is_none();
        match swept.next {
            Some(next) => drop(self.sweeping.insert(retention.tenant.clone(), (Some(next), held))),
            None => drop(self.held.insert(retention.tenant.clone(), held)),
        }
        if is_counted || self.looked_at >= LOOKED_AT_MAX {
            self.looked_at = 0;
            self.round.pop_front();
        }
        Ok(if is_counted { Step::Counted } else { Step::Done })
    }
}
