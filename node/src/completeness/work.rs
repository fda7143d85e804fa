//! The indexing itself, off the async threads: a step at a time, so that a shutdown need not wait for the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proofline_ledger::{CommitmentAt, EntryIndex, Hash, KeyIndex, RecentKeys, TreeSize, confirmed_commitment, next_commitment};
use proofline_proto::{peer::Opinion, v1::StateCommitment};
use tokio_util::sync::CancellationToken;

use super::{Confirmed, KnownStates, Untrue};
use crate::{
    replica::Progress,
    store::{StateDb, StateStore},
};

/// Rows that are held until they may be written; beyond that they are written on the way.
const HELD_BYTES_MAX: usize = 48 << 20;

/// Entries that may wait for a commitment. A ledger that has more, because none was made for long, is indexed before one is
/// proposed, on every node: else nothing could be published while the others compute what took the leader minutes.
const BEHIND_MAX: u64 = 200_000;
/// Entries that are left for the commitment then, so that it is not behind what was written.
const LEFT: u64 = 100_000;
/// Entries between two looks at the clock.
const STEP: u64 = 20_000;
/// Entries without keys after which the same map is committed to again: who asks looks through what no commitment covers.
const KEYLESS_MAX: u64 = 1_000;
/// How long a node goes ahead without looking for commitments.
const AHEAD_WITHIN: Duration = Duration::from_secs(5);

/// What became of a look at the next commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is true.
    True(EntryIndex),
    /// There is none.
    Nothing,
    /// The node shuts down.
    Stopped,
}

/// The index of one state, and the commitments that were found to be true.
pub(super) struct Work {
    state: Arc<StateDb>,
    taken: TreeSize,
    keys: RecentKeys,
    index: KeyIndex,
    confirmed: Option<CommitmentAt>,
    /// The newest of them whose map was written.
    written: Option<EntryIndex>,
}

impl Work {
    /// Takes up what the state holds. What came in a snapshot was thrown away when it was installed.
    pub(super) fn open(state: &StateStore, keys: &RecentKeys, progress: Progress) -> Result<Self, Untrue> {
        let state = state.view();
        let (index, confirmed) = (KeyIndex::open(&*state)?, confirmed_commitment(&*state)?);
        // Rows that tell of it were written behind it: as its map, or on the way to that of the next one.
        let written = confirmed.map(|of| of.index);
        Ok(Self { state, taken: progress.taken, keys: keys.clone(), index, confirmed, written })
    }

    pub(super) fn taken(&self) -> TreeSize {
        self.taken
    }

    pub(super) fn keys(&self) -> u64 {
        self.index.keys()
    }

    pub(super) fn confirmed(&self) -> Confirmed {
        let size = self.confirmed.map_or(TreeSize(0), |of| of.size);
        Confirmed { taken: self.taken, through: self.confirmed.map(|of| of.index), size }
    }

    /// Tells whether more waits in a log of `size` entries than one commitment should bring.
    pub(super) fn is_far_behind(&self, size: TreeSize) -> bool {
        size.0.saturating_sub(self.index.size().0) > BEHIND_MAX
    }

    /// Indexes towards the end of a log of `size` entries for a while, and leaves the newest to the next commitment.
    pub(super) async fn go_ahead(mut self, size: TreeSize, shutdown: CancellationToken) -> Result<Self, Untrue> {
        let (to, until) = (size.0.saturating_sub(LEFT), Instant::now() + AHEAD_WITHIN);
        let blocking = tokio::task::spawn_blocking(move || {
            while self.index.size().0 < to && Instant::now() < until {
                let step = TreeSize(to.min(self.index.size().0 + STEP));
                if !self.reach(step, &shutdown)? {
                    break;
                }
                self.write_held()?;
            }
            tracing::info!(indexed = %self.index.size(), of = %size, "indexing entries by key");
            Ok(self)
        });
        blocking.await.map_err(|_| Untrue::Interrupted)?
    }

    /// Computes the next commitment again and compares.
    pub(super) async fn confirm_next(mut self, states: KnownStates, shutdown: CancellationToken) -> Result<(Found, Self), Untrue> {
        let from = EntryIndex(self.confirmed.map_or(0, |of| of.index.0 + 1));
        let Some(next) = next_commitment(&*self.state, from)? else { return Ok((Found::Nothing, self)) };
        let blocking = tokio::task::spawn_blocking(move || {
            let found = self.confirm(next, &states, &shutdown)?;
            Ok((found, self))
        });
        blocking.await.map_err(|_| Untrue::Interrupted)?
    }

    fn confirm(&mut self, next: CommitmentAt, states: &KnownStates, shutdown: &CancellationToken) -> Result<Found, Untrue> {
        let CommitmentAt { index: commitment, size, map_root, state_digest } = next;
        if let Some(computed) = states.digest_at(size).filter(|computed| *computed != state_digest) {
            return Err(Untrue::State { commitment, size, claimed: state_digest, computed });
        }
        let began = Instant::now();
        if !self.reach(size, shutdown)? {
            return Ok(Found::Stopped);
        }
        let computed = self.index.root();
        if computed != map_root {
            return Err(Untrue::Map { commitment, size, claimed: map_root, computed });
        }
        tracing::debug!(%commitment, %size, keys = self.index.keys(), took = ?began.elapsed(), "computed a state commitment again");
        self.confirmed = Some(next);
        Ok(Found::True(commitment))
    }

    /// Brings the index to a size, from behind it too. Tells whether it got there.
    fn reach(&mut self, size: TreeSize, shutdown: &CancellationToken) -> Result<bool, Untrue> {
        if size < self.index.stored() {
            // Another leader committed to less than this one had to write on the way: a rare loss of time.
            self.state.forget_own()?;
        }
        if size < self.index.size() {
            self.index = KeyIndex::open(&*self.state)?;
        }
        while self.index.size() < size {
            if shutdown.is_cancelled() {
                return Ok(false);
            }
            self.index.advance_with(&*self.state, &self.keys, size)?;
            if self.index.size() < size {
                self.write_held()?;
            }
        }
        Ok(true)
    }

    /// Writes what is held when it is too much, although it is the map of no commitment.
    fn write_held(&mut self) -> Result<(), Untrue> {
        if self.index.held_bytes() > HELD_BYTES_MAX {
            self.state.write_own(self.index.take_changes(self.confirmed.map(|of| of.index)))?;
        }
        Ok(())
    }

    /// Writes the map of the newest confirmed commitment, when the index is at it and a checkpoint of `covered` entries shows it.
    ///
    /// On return: questions by key are answered from it. A crash takes all of it away or nothing. Tells whether there was something
    /// to write.
    pub(super) fn write_covered(&mut self, covered: TreeSize) -> Result<bool, Untrue> {
        let servable = self.confirmed.filter(|of| of.size == self.index.size() && of.index.0 < covered.0);
        let Some(of) = servable.filter(|of| self.written != Some(of.index)) else { return Ok(false) };
        self.state.write_own(self.index.take_changes(Some(of.index)))?;
        self.written = Some(of.index);
        Ok(true)
    }

    /// Tells whether a commitment of `size` may follow, when a checkpoint of `covered` entries is the newest.
    pub(super) fn may_propose(&self, size: TreeSize, covered: TreeSize) -> bool {
        // A map that was gone beyond before it was covered is not written any more: the next one takes its place.
        let is_done = |of: CommitmentAt| self.written == Some(of.index) || self.index.size() > of.size;
        let is_covered = self.confirmed.is_none_or(|of| of.index.0 < covered.0 && is_done(of));
        is_covered && size > self.confirmed.map_or(TreeSize(0), |of| of.size) && size >= self.index.size()
    }

    /// Computes what another node would commit to, as far as this one still can.
    pub(super) async fn opinion(
        mut self,
        said: StateCommitment,
        states: KnownStates,
        shutdown: CancellationToken,
    ) -> Result<(Opinion, Self), Untrue> {
        let size = TreeSize(said.size);
        // Beyond a map that is still to be written it would never be written, and questions would be answered from an older one.
        let is_unwritten = self.confirmed.is_some_and(|of| of.size == self.index.size() && self.written != Some(of.index));
        let known = states.digest_at(size).filter(|_| size >= self.index.size() && !is_unwritten);
        let Some(digest) = known else { return Ok((Opinion::Unspecified, self)) };
        if digest.0[..] != said.state_digest[..] {
            return Ok((Opinion::OtherState, self));
        }
        let blocking = tokio::task::spawn_blocking(move || {
            let is_there = self.reach(size, &shutdown)?;
            let opinion = match self.index.root().0[..] == said.map_root[..] {
                _ if !is_there => Opinion::Unspecified,
                true => Opinion::Same,
                false => Opinion::OtherMap,
            };
            Ok((opinion, self))
        });
        blocking.await.map_err(|_| Untrue::Interrupted)?
    }

    /// Computes the map at a size; `None` when no entry with keys came since the last commitment, and few without, or the node
    /// shuts down.
    pub(super) async fn candidate(mut self, size: TreeSize, shutdown: CancellationToken) -> Result<(Option<Hash>, Self), Untrue> {
        let blocking = tokio::task::spawn_blocking(move || {
            let is_there = self.reach(size, &shutdown)?;
            let committed = self.confirmed.map_or(Hash::ZERO, |of| of.map_root);
            let keyless = size.0 - self.confirmed.map_or(0, |of| of.size.0);
            let root = Some(self.index.root()).filter(|root| is_there && (*root != committed || keyless >= KEYLESS_MAX));
            Ok((root, self))
        });
        blocking.await.map_err(|_| Untrue::Interrupted)?
    }
}
