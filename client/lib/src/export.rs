//! Files of evidence, put together from what nodes answer.
//!
//! Everything in a file stands under one checkpoint. Nothing is verified here: whoever receives the file does that.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proofline_proto::v1;
use proofline_verifier::{
    Checkpoint, EntryIndex, LogHash, SESSION_EVIDENCE_FORMAT, SessionPosition, SignedNote, TlogProof, TreeError, TreeSize, parse_path,
};
use prost::Message as _;
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    call::CallError,
    client::{Client, Link},
    refusal::Reason,
};

/// Members of one page: small enough for one message, whatever their size.
const PAGE_SIZE: u32 = 500;
/// How often to begin again when checkpoints are published faster than the parts of a file can be fetched.
const ROUNDS_MAX: u32 = 50;
/// How long to wait for a checkpoint that covers an entry which was committed just now.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why a file of evidence cannot be put together.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The ledger refused, or could not be reached in time.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An answer lacks a part.
    #[error("the ledger's answer has no {0}")]
    Missing(&'static str),
    /// A hash of a path is not 32 bytes long.
    #[error(transparent)]
    Path(#[from] TreeError),
    /// The checkpoint changed before all parts could be fetched, again and again.
    #[error("checkpoints changed faster than the parts of the file could be fetched, {0} times")]
    Restless(u32),
}

/// A COSE receipt, and what it does not hold itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The receipt.
    pub receipt: Vec<u8>,
    /// Exact bytes of the entry.
    pub entry: Vec<u8>,
    /// A signed note about the tree whose root the receipt signs.
    pub checkpoint: Vec<u8>,
}

/// A session to look at: what a node says of it, unproven.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// What is counted and summed up of it.
    pub summary: v1::SessionSummary,
    /// Its entries, by position.
    pub members: Vec<v1::SessionMember>,
    /// Entries of the log that the node's checkpoint covers; what came behind them is not here.
    pub size: TreeSize,
}

/// Names one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionName {
    /// Whose.
    pub tenant_id: String,
    /// Which.
    pub session_id: String,
}

impl Client {
    /// Returns the newest published checkpoint, a signed note. It is not verified.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn checkpoint(&self) -> Result<Vec<u8>, CallError> {
        let call = |link: Link| async move { link.audit().get_checkpoint(v1::GetCheckpointRequest {}).await };
        Ok(self.call(call).await?.checkpoint)
    }

    /// Returns the exact bytes of an entry; waits a little for one that was committed just now.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn entry(&self, index: EntryIndex) -> Result<Vec<u8>, CallError> {
        let call = |link: Link| async move { link.audit().get_entry(v1::GetEntryRequest { index: index.0 }).await };
        Ok(self.published(call).await?.entry)
    }

    /// Puts a `.tlog-proof` of one entry together.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn tlog_proof(&self, index: EntryIndex) -> Result<TlogProof, ExportError> {
        // An entry never changes, so it may come before its proof and its checkpoint.
        let entry = self.entry(index).await?;
        let call = |link: Link| async move { link.audit().get_inclusion_proof(v1::GetInclusionProofRequest { index: index.0 }).await };
        let proof = self.published(call).await?;
        let checkpoint = String::from_utf8(proof.checkpoint).map_err(|_| ExportError::Missing("checkpoint in UTF-8"))?;
        Ok(TlogProof { entry: Some(entry), index, path: parse_path::<LogHash>(&proof.log_path)?, checkpoint })
    }

    /// Fetches a COSE receipt of one entry, with the entry and the checkpoint of the same tree.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn receipt(&self, index: EntryIndex) -> Result<Receipt, ExportError> {
        let entry = self.entry(index).await?;
        let call = |link: Link| async move { link.audit().get_receipt(v1::GetReceiptRequest { index: index.0 }).await };
        let v1::GetReceiptResponse { receipt, checkpoint } = self.published(call).await?;
        Ok(Receipt { receipt, entry, checkpoint })
    }

    /// Fetches a `.session-proof`: one entry in its session.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn session_proof(&self, session: &SessionName, position: SessionPosition) -> Result<v1::SessionProof, ExportError> {
        let SessionName { tenant_id, session_id } = session.clone();
        let request = v1::GetSessionProofRequest { tenant_id, session_id, position: position.0 };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.audit().get_session_proof(request).await }
        };
        self.call(call).await?.proof.ok_or(ExportError::Missing("proof"))
    }

    /// Returns what is summed up of a session, for looking at: nothing is proven.
    ///
    /// # Errors
    /// [`CallError`]; its refusal is `NOT_FOUND` when no entry that is published belongs to such a session.
    pub async fn session_summary(&self, session: &SessionName) -> Result<v1::SessionSummary, CallError> {
        Ok(self.fetch_page(session, 0, 1).await?.session.unwrap_or_default())
    }

    /// Fetches every entry of a session, for looking at: nothing is proven.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn session(&self, session: &SessionName) -> Result<SessionView, ExportError> {
        let mut parts = SessionParts::default();
        self.fetch_members(session, &mut parts).await?;
        let note = SignedNote::parse(&parts.checkpoint).ok();
        let checkpoint = note.and_then(|note| Checkpoint::parse_text(note.text()).ok()).ok_or(ExportError::Missing("checkpoint"))?;
        let summary = parts.summary.ok_or(ExportError::Missing("summary of the session"))?;
        Ok(SessionView { summary, members: parts.members, size: checkpoint.size })
    }

    /// Fetches a `.session-evidence`: the whole session, as far as the newest checkpoint covers it.
    ///
    /// # Errors
    /// [`ExportError`].
    pub async fn session_evidence(&self, session: &SessionName) -> Result<v1::SessionEvidence, ExportError> {
        let mut parts = SessionParts::default();
        let mut registrations = Registrations::default();
        for _ in 0..ROUNDS_MAX {
            // Entries never change: only what is new since the last round is fetched, with the proofs under one checkpoint.
            self.fetch_members(session, &mut parts).await?;
            registrations.renew(&parts.checkpoint);
            for collector in &parts.collectors {
                let answer = self.fetch_registrations(collector).await?;
                registrations.add(answer);
            }
            if registrations.is_under_one_checkpoint() {
                return parts.evidence(session, registrations);
            }
        }
        Err(ExportError::Restless(ROUNDS_MAX))
    }

    async fn fetch_members(&self, session: &SessionName, parts: &mut SessionParts) -> Result<(), CallError> {
        loop {
            let page = self.fetch_page(session, parts.members.len() as u64, PAGE_SIZE).await?;
            let is_last = page.next_position == 0;
            parts.add(page);
            if is_last {
                return Ok(());
            }
        }
    }

    async fn fetch_page(&self, session: &SessionName, from_position: u64, page_size: u32) -> Result<v1::ListSessionResponse, CallError> {
        let SessionName { tenant_id, session_id } = session.clone();
        let request = v1::ListSessionRequest { tenant_id, session_id, from_position, page_size };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.audit().list_session(request).await }
        };
        self.call(call).await
    }

    async fn fetch_registrations(&self, collector_id: &str) -> Result<v1::GetRegistrationsResponse, CallError> {
        let request = v1::GetRegistrationsRequest { collector_id: collector_id.to_owned(), tenant_id: String::new() };
        let call = |link: Link| {
            let request = request.clone();
            async move { link.audit().get_registrations(request).await }
        };
        self.call(call).await
    }

    /// Calls until a checkpoint covers what is asked for, for a little while.
    pub(crate) async fn published<T, F, Fut>(&self, mut call: F) -> Result<T, CallError>
    where
        F: FnMut(Link) -> Fut,
        Fut: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let until = Instant::now() + PUBLISHED_WITHIN.min(self.retry().within);
        loop {
            match self.call(&mut call).await {
                Err(error) if is_beyond(&error) && Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
                answer => return answer,
            }
        }
    }
}

fn is_beyond(error: &CallError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.reason == Reason::BeyondCheckpoint)
}

/// What the pages of a session add up to.
#[derive(Debug, Default)]
struct SessionParts {
    checkpoint: Vec<u8>,
    last: Option<v1::ProvenEntry>,
    summary: Option<v1::SessionSummary>,
    members: Vec<v1::SessionMember>,
    statements: Vec<v1::BatchStatement>,
    places: BTreeMap<(String, u32, u64, u64), u32>,
    collectors: BTreeSet<String>,
}

impl SessionParts {
    fn add(&mut self, page: v1::ListSessionResponse) {
        let places: Vec<u32> = page.statements.into_iter().map(|statement| self.place(statement)).collect();
        for mut member in page.members {
            // Members that are no events name no statement; they keep the 0 that the format wants.
            if is_event(&member.entry) {
                let place = usize::try_from(member.statement).ok().and_then(|place| places.get(place)).copied();
                member.statement = place.unwrap_or(u32::MAX);
            }
            self.members.push(member);
        }
        self.checkpoint = page.checkpoint;
        self.last = page.last;
        self.summary = page.session;
    }

    /// Pages count their statements for themselves; the file holds each once.
    fn place(&mut self, statement: v1::BatchStatement) -> u32 {
        let name = (statement.collector_id.clone(), statement.lane, statement.epoch, statement.sequence);
        let next = u32::try_from(self.statements.len()).unwrap_or(u32::MAX);
        let place = *self.places.entry(name).or_insert(next);
        if place == next {
            self.collectors.insert(statement.collector_id.clone());
            self.statements.push(statement);
        }
        place
    }

    fn evidence(self, session: &SessionName, registrations: Registrations) -> Result<v1::SessionEvidence, ExportError> {
        let genesis = registrations.entries.get(&0).ok_or(ExportError::Missing("genesis entry"))?;
        Ok(v1::SessionEvidence {
            format: SESSION_EVIDENCE_FORMAT.to_owned(),
            origin: origin(&genesis.entry).ok_or(ExportError::Missing("origin"))?,
            tenant_id: session.tenant_id.clone(),
            session_id: session.session_id.clone(),
            checkpoint: self.checkpoint,
            members: self.members,
            statements: self.statements,
            last: self.last,
            registrations: registrations.entries.into_values().collect(),
        })
    }
}

/// The registrations of several collectors, each entry once.
#[derive(Debug, Default)]
struct Registrations {
    checkpoint: Vec<u8>,
    others: u32,
    entries: BTreeMap<u64, v1::ProvenEntry>,
}

impl Registrations {
    fn renew(&mut self, checkpoint: &[u8]) {
        *self = Self { checkpoint: checkpoint.to_vec(), ..Self::default() };
    }

    fn add(&mut self, answer: v1::GetRegistrationsResponse) {
        self.others += u32::from(answer.checkpoint != self.checkpoint);
        self.entries.extend(answer.registrations.into_iter().map(|entry| (entry.index, entry)));
    }

    fn is_under_one_checkpoint(&self) -> bool {
        self.others == 0
    }
}

fn core(entry: &[u8]) -> Option<v1::entry_core::Body> {
    let entry = v1::Entry::decode(entry).ok()?;
    v1::EntryCore::decode(entry.core).ok()?.body
}

fn is_event(entry: &[u8]) -> bool {
    matches!(core(entry), Some(v1::entry_core::Body::Event(_)))
}

fn origin(genesis: &[u8]) -> Option<String> {
    match core(genesis) {
        Some(v1::entry_core::Body::Genesis(genesis)) => Some(genesis.origin),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_entry() -> Vec<u8> {
        let body = v1::entry_core::Body::Event(v1::RecordedEvent::default());
        let core = v1::EntryCore { body: Some(body), ..Default::default() }.encode_to_vec();
        v1::Entry { core: core.into(), session_root: Vec::new() }.encode_to_vec()
    }

    fn page(sequences: &[u64], statements_of_members: &[u32]) -> v1::ListSessionResponse {
        let statement = |sequence: &u64| v1::BatchStatement { collector_id: "c".to_owned(), sequence: *sequence, ..Default::default() };
        let member = |statement: &u32| v1::SessionMember { entry: event_entry(), statement: *statement, batch_path: Vec::new() };
        v1::ListSessionResponse {
            statements: sequences.iter().map(statement).collect(),
            members: statements_of_members.iter().map(member).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_statement_that_two_pages_share_is_in_the_file_once() {
        let mut parts = SessionParts::default();
        parts.add(page(&[1, 2], &[0, 1, 1]));
        parts.add(page(&[2, 3], &[0, 1]));
        assert_eq!(parts.statements.iter().map(|it| it.sequence).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(parts.members.iter().map(|it| it.statement).collect::<Vec<_>>(), [0, 1, 1, 1, 2]);
    }

    #[test]
    fn registrations_under_another_checkpoint_begin_a_new_round() {
        let mut registrations = Registrations::default();
        registrations.renew(b"one");
        registrations.add(v1::GetRegistrationsResponse { checkpoint: b"two".to_vec(), registrations: Vec::new() });
        assert!(!registrations.is_under_one_checkpoint());
        registrations.renew(b"two");
        assert!(registrations.is_under_one_checkpoint());
    }
}
