//! What a replay compares state commitments with: the map over the entries, and the digests of the states behind them.

use std::collections::BTreeMap;

use proofline_proto::v1;

use super::Divergence;
use crate::completeness::KeyIndex;
use crate::hash::Hash;
use crate::ids::{EntryIndex, TreeSize};
use crate::store::MapStore;

/// States since the last commitment, by size. A commitment covers a size at which a submission ended.
#[derive(Debug, Default)]
pub(super) struct States {
    digests: BTreeMap<u64, Hash>,
}

impl States {
    /// Takes note of the state behind a submission.
    pub(super) fn reached(&mut self, size: TreeSize, digest: Hash) {
        self.digests.insert(size.0, digest);
    }

    /// Compares a commitment, entry `index`, with what the entries that it covers give.
    pub(super) fn check(&mut self, store: &mut MapStore, index: EntryIndex, said: &v1::StateCommitment) -> Result<(), Divergence> {
        let size = TreeSize(said.size);
        let recorded = |bytes: &[u8]| Hash::from_slice(bytes).ok_or(Divergence::Unreadable(index));
        let (map_root, state_digest) = (recorded(&said.map_root)?, recorded(&said.state_digest)?);
        let computed = *self.digests.get(&size.0).ok_or(Divergence::NoState { index, size })?;
        if computed != state_digest {
            return Err(Divergence::OtherState { index, size, recorded: state_digest, computed });
        }
        let mut keys = KeyIndex::open(store)?;
        while keys.size() < size {
            keys.advance(store, size)?;
            store.commit(keys.take_changes(None));
        }
        if keys.root() != map_root {
            return Err(Divergence::OtherMap { index, size, recorded: map_root, computed: keys.root() });
        }
        store.commit(keys.take_changes(Some(index)));
        self.digests = self.digests.split_off(&size.0);
        Ok(())
    }
}
