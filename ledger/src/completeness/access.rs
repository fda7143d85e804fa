//! Who read evidence: an entry, signed by the node that answered, before anything is answered.

use proofline_proto::v1;
use v1::entry_core::Body;

use crate::ids::EntryIndex;
use crate::ledger::{Judged, Ledger};
use crate::log::Draft;
use crate::prepare::PreparedAccess;
use crate::registry;
use crate::store::Store;
use crate::writes::Writes;

/// Records an access that a registered node vouches for.
pub(crate) fn record<S: Store>(ledger: &mut Ledger, writes: &mut Writes<'_, S>, prepared: &PreparedAccess) -> Judged<EntryIndex> {
    let it = &prepared.access;
    if let Err(refusal) = registry::check_node(writes, it.node_id, &it.public_key)? {
        return Ok(Err(refusal));
    }
    Ok(Ok(ledger.log.append(writes, Draft::of(Body::AccessRecorded(it.clone())))))
}
