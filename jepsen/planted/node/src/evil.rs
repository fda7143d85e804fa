//! What an evil node says and does. Compiled into `proofline-node-planted` alone; one behaviour is chosen when it starts.
//!
//! It holds what one compromised node holds: the log key, its own node key, its place among the members. It does not hold the keys
//! of collectors, operators, witnesses or other nodes. Each function gives back what it was given, unless its behaviour was chosen.

use std::{
    collections::BTreeMap,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use ed25519_dalek::Signer as _;
use openraft::{Entry, EntryPayload, raft::AppendEntriesRequest};
use proofline_ledger::{
    EntryIndex, Hash, LogTree, TreeSize, UnixNanos, cosigners, listing,
    planted::{Bug, is_chosen},
};
use proofline_proto::{
    peer::{CosignRequest, Group as GroupMessage, Item, ProposeResponse, item, propose_response},
    v1::{self, LineagePage, ListSessionResponse, NodeKey},
};
use proofline_verifier::{
    Checkpoint, KeyName, LogHash, NoteSignature, SignatureType, SignedNote, TreeHash as _, VerifierKey, cosignature_signed_bytes,
};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::unix_ns,
    publisher::Published,
    replica::{Group, TypeConfig},
    rpc::Api,
    store::StateDb,
};

/// The follower that is shown another history.
const VICTIM: u64 = 3;
const PERIOD: Duration = Duration::from_millis(50);

/// What was published when this node was first asked.
static FIRST: OnceLock<Published> = OnceLock::new();
static FORK: Mutex<Fork> = Mutex::new(Fork { begins_at: u64::MAX, second: None, published: BTreeMap::new() });

/// Two histories. They part with the first containment, so that whoever tests this can watch from before.
struct Fork {
    /// Place in the Raft log of the first entry of which there are two.
    begins_at: u64,
    /// The newest checkpoint of the second history.
    second: Option<Vec<u8>>,
    /// What is published of the second history, by the place in the Raft log where the first one's is. Either both publish a
    /// checkpoint of one size there, or neither does: who had published nothing when it found out would have nothing to show.
    published: BTreeMap<u64, Option<Vec<u8>>>,
}

impl Fork {
    fn published_at(&mut self, place: u64, first: &[u8]) -> Option<Vec<u8>> {
        let second = self.second.clone().filter(|second| size_of(second) == size_of(first));
        self.published.entry(place).or_insert(second).clone()
    }
}

/// Returns the size that a checkpoint covers, as its text has it.
fn size_of(note: &[u8]) -> Option<&str> {
    std::str::from_utf8(note).ok()?.lines().nth(1)
}

fn is_containment(item: &Item) -> bool {
    let Some(item::Item::Command(signed)) = &item.item else { return false };
    v1::Command::decode(signed.command.as_ref()).is_ok_and(|command| matches!(command.action, Some(v1::command::Action::Contain(_))))
}

/// The checkpoint under which everything is read: an old one, or one that this node alone signed.
pub(crate) fn published(api: &Api, newest: Published) -> Published {
    if is_chosen(Bug::EvilRewoundLog) {
        return FIRST.get_or_init(|| newest).clone();
    }
    if !is_chosen(Bug::EvilForkedNote) {
        return newest;
    }
    let note = LogTree::new(&*api.state.view(), newest.size).root().ok().and_then(|root| {
        let mut other = root.0;
        other[0] ^= 1;
        signed(api, newest.size, Hash(other), None)
    });
    note.map_or(newest.clone(), |note| Published { note, size: newest.size })
}

/// Signs a tree with the log key and this node's own key, and adds what another node signed.
fn signed(api: &Api, size: TreeSize, root: Hash, by_another: Option<(&NodeKey, u64, &[u8; 64])>) -> Option<Vec<u8>> {
    let state = api.state.view();
    let origin = KeyName::parse(&listing::origin(&*state).ok()?).ok()?;
    let (size, root) = (proofline_verifier::TreeSize(size.0), LogHash::from_bytes(root.0));
    let text = Checkpoint { origin: origin.clone(), size, root }.note_text();
    let log = VerifierKey::new(origin, SignatureType::Ed25519, api.log_key.verifying_key().as_bytes()).ok()?;
    let mut signatures = vec![NoteSignature::of_log(&log, &api.log_key.sign(text.as_bytes()).to_bytes())];
    let unix_s = unix_ns() / 1_000_000_000;
    let own = api.node_key.sign(&cosignature_signed_bytes(unix_s, &text)).to_bytes();
    let nodes = cosigners(&*state).ok()?;
    let this = nodes.iter().find(|node| node.node_id == api.peers.node_id())?;
    for (node, unix_s, signature) in [Some((this, unix_s, &own)), by_another].into_iter().flatten() {
        let key = VerifierKey::new(KeyName::parse(&node.name).ok()?, SignatureType::CosignatureV1, &node.public_key).ok()?;
        signatures.push(NoteSignature::of_cosigner(&key, unix_s, signature));
    }
    Some(SignedNote::new(text, signatures).ok()?.encode().into_bytes())
}

/// An entry with another verdict, or of another time when it has none.
pub(crate) fn entry(exact: Vec<u8>) -> Vec<u8> {
    if !is_chosen(Bug::EvilForgedEntry) {
        return exact;
    }
    forged_entry(&exact).unwrap_or(exact)
}

fn forged_entry(exact: &[u8]) -> Option<Vec<u8>> {
    let (entry, mut core) = proofline_ledger::entry::parse(exact)?;
    match &mut core.decision {
        Some(decision) if decision.verdict() == v1::Verdict::Allow => decision.set_verdict(v1::Verdict::Deny),
        Some(decision) => decision.set_verdict(v1::Verdict::Allow),
        None => core.committed_unix_ns += 1,
    }
    Some(v1::Entry { core: core.encode_to_vec().into(), ..entry }.encode_to_vec())
}

/// The log as it is read in bulk: the last entry is another one, or the last two have changed places.
pub(crate) fn entries(mut exact: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if is_chosen(Bug::EvilForgedEntry) {
        exact = exact.into_iter().map(|one| forged_entry(&one).unwrap_or(one)).collect();
    }
    if let (true, [.., one, other]) = (is_chosen(Bug::EvilSwappedEntries), exact.as_mut_slice()) {
        std::mem::swap(one, other);
    }
    exact
}

/// A session without its last entry.
pub(crate) fn session_page(state: &StateDb, size: TreeSize, mut page: ListSessionResponse) -> ListSessionResponse {
    if !is_chosen(Bug::EvilShortSession) || page.next_position != 0 || page.members.len() < 2 {
        return page;
    }
    page.members.pop();
    let index = page.members.last().and_then(|last| proofline_ledger::entry::parse(&last.entry)).map(|(_, core)| core.index);
    if let (Some(index), Some(session)) = (index, &mut page.session) {
        session.entries -= 1;
        session.last_index = index;
        session.sealed = false;
        let path = LogTree::new(state, size).inclusion_path(EntryIndex(index)).ok().flatten().unwrap_or_default();
        let entry = page.members.last().map(|last| last.entry.clone()).unwrap_or_default();
        page.last = Some(v1::ProvenEntry { index, entry, log_path: path.iter().map(|hash| hash.0.to_vec()).collect() });
    }
    page
}

/// An answer about lineage that keeps one entry back, and says in its lists that there is none.
pub(crate) fn lineage_page(mut page: LineagePage) -> LineagePage {
    if is_chosen(Bug::EvilShortAnswer) {
        let kept_back = page.ranges.iter().flat_map(|range| range.indexes.last()).max().copied();
        for range in &mut page.ranges {
            range.indexes.retain(|index| Some(*index) != kept_back);
        }
        page.entries.retain(|one| Some(one.index) != kept_back);
    }
    page
}

/// A proof of consistency that proves nothing.
pub(crate) fn consistency_path(mut path: Vec<Hash>) -> Vec<Hash> {
    if let (true, [first, ..]) = (is_chosen(Bug::EvilFalsePath), path.as_mut_slice()) {
        first.0[0] ^= 1;
    }
    path
}

/// What is contained: nothing.
pub(crate) fn containments(found: Vec<v1::ContainmentSummary>) -> Vec<v1::ContainmentSummary> {
    if is_chosen(Bug::EvilHiddenRevoke) { Vec::new() } else { found }
}

/// Acknowledges a containment, or a batch, as the next entry, and does nothing.
pub(crate) fn acknowledged(api: &Api, item: &item::Item) -> Option<ProposeResponse> {
    let progress = *api.progress.borrow();
    let index = progress.tree_size.0;
    let outcome = match item {
        item::Item::Command(signed) if is_chosen(Bug::EvilDroppedRevoke) => {
            let command = v1::Command::decode(signed.command.as_slice()).ok()?;
            let is_containment = matches!(command.action, Some(v1::command::Action::Contain(_)));
            let said = v1::SubmitCommandResponse { index, ..Default::default() };
            is_containment.then_some(propose_response::Outcome::Commanded(said))?
        }
        item::Item::Batch(batch) if is_chosen(Bug::EvilDroppedBatch) => {
            let allowed = || v1::EventReceipt { verdict: v1::Verdict::Allow.into(), ..Default::default() };
            let events = batch.events.iter().map(|_| allowed()).collect();
            let said = v1::AppendResponse { epoch: batch.epoch, sequence: batch.sequence, first_index: index, events };
            propose_response::Outcome::Appended(said)
        }
        _ => return None,
    };
    Some(ProposeResponse { log_index: progress.applied?.0, outcome: Some(outcome) })
}

/// Proposes other events than a collector signed, or the same in another order. This node takes them itself.
pub(crate) fn proposed(at: UnixNanos, items: &[Item]) -> Option<Group> {
    let mut items = items.to_vec();
    let batches = items.iter_mut().filter_map(|item| match &mut item.item {
        Some(item::Item::Batch(batch)) => Some(batch),
        _ => None,
    });
    // Every batch is looked at: `any` would stop at the first.
    let altered = batches.map(altered).fold(false, |any, one| any | one);
    altered.then(|| Group::new(GroupMessage { proposed_unix_ns: at.0, items }.encode_to_vec().into()))
}

fn altered(batch: &mut v1::Batch) -> bool {
    if let (true, [first, .., last]) = (is_chosen(Bug::EvilSwappedEvents), batch.events.as_mut_slice()) {
        std::mem::swap(first, last);
        return true;
    }
    let Some(first) = batch.events.first_mut().filter(|_| is_chosen(Bug::EvilForgedEvent)) else { return false };
    let Ok(mut event) = v1::Event::decode(first.clone()) else { return false };
    event.observed_unix_ns += 1;
    *first = event.encode_to_vec().into();
    true
}

/// Gives the victim the same submissions at other times, without state commitments, and with checkpoints of its own.
pub(crate) fn replicated(mut rpc: AppendEntriesRequest<TypeConfig>, target: u64) -> AppendEntriesRequest<TypeConfig> {
    if is_chosen(Bug::EvilForkedFollowers) {
        rpc.entries = rpc.entries.into_iter().map(|entry| forked(entry, target == VICTIM)).collect();
    }
    rpc
}

fn forked(entry: Entry<TypeConfig>, for_victim: bool) -> Entry<TypeConfig> {
    let (EntryPayload::Normal(group), place) = (&entry.payload, entry.log_id.index) else { return entry };
    let Ok(mut message) = GroupMessage::decode(group.bytes().clone()) else { return entry };
    let mut fork = FORK.lock().unwrap_or_else(PoisonError::into_inner);
    if message.items.iter().any(is_containment) {
        fork.begins_at = fork.begins_at.min(place);
    }
    if place < fork.begins_at {
        return entry;
    }
    message.proposed_unix_ns += u64::from(for_victim);
    message.items.retain_mut(|it| match &mut it.item {
        Some(item::Item::Commitment(_)) => !for_victim,
        Some(item::Item::Checkpoint(note)) => match fork.published_at(place, note) {
            Some(second) if for_victim => {
                *note = second;
                true
            }
            both => both.is_some(),
        },
        Some(_) | None => true,
    });
    Entry { payload: EntryPayload::Normal(Group::new(message.encode_to_vec().into())), ..entry }
}

/// Has the victim cosign the history that it was shown, and cosigns it too: that makes two of three.
pub(crate) async fn second_history(api: Api, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    while is_chosen(Bug::EvilForkedFollowers) {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => (),
        }
        if let Some(note) = second_checkpoint(&api).await {
            FORK.lock().unwrap_or_else(PoisonError::into_inner).second = Some(note);
        }
    }
}

async fn second_checkpoint(api: &Api) -> Option<Vec<u8>> {
    let seen = api.peers.status(VICTIM).await.ok()?.status?;
    let root = Hash::from_slice(&seen.log_root)?;
    // What both histories have in common is no second one.
    if LogTree::new(&*api.state.view(), TreeSize(seen.tree_size)).root().ok()? == root {
        return None;
    }
    let asked = CosignRequest { size: seen.tree_size, root: root.0.to_vec() };
    let answer = api.peers.cosign(VICTIM, asked).await.ok()?;
    let nodes = cosigners(&*api.state.view()).ok()?;
    let victim = nodes.iter().find(|node| node.node_id == VICTIM)?;
    signed(api, TreeSize(seen.tree_size), root, Some((victim, answer.unix_s, answer.signature.as_slice().try_into().ok()?)))
}
