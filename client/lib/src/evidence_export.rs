//! `.evidence.zip`: the answer to a question, with all that its signatures need, written to a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use proofline_proto::v1::{self, disclosed_payload::State, entry_core::Body};
use proofline_verifier::{
    AnswerSummary, Checkpoint, CheckpointError, ConsistencyProof, EntryIndex, FoundEntry, LogHash, Manifest, ManifestMember, Policy,
    SignedNote, TreeError, TreeHash as _, TreeSize, VerifiedCheckpoint, parse_path,
};
use prost::Message as _;
use thiserror::Error;

use crate::{
    archive::ArchiveWriter,
    call::CallError,
    client::{Client, Link},
    export::ExportError,
    lineage::{Lineage, LineageError},
    log_set::LogSet,
    payload::{PayloadError, PayloadRead},
    whole_file::Existing,
};

/// Why no file of evidence was written.
#[derive(Debug, Error)]
pub enum EvidenceExportError {
    /// The answer.
    #[error(transparent)]
    Lineage(#[from] LineageError),
    /// What the answer's signatures need.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A call.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A payload.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// A checkpoint that came with a proof.
    #[error("a checkpoint cannot be read: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A proof.
    #[error(transparent)]
    Path(#[from] TreeError),
    /// The file.
    #[error("{path}: {source}")]
    File {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is there already.
    #[error("{0} is there already")]
    Exists(PathBuf),
    /// No page came.
    #[error("the ledger's answer has no page")]
    NoPage,
    /// The registrations have no proof under the answer's checkpoint.
    #[error("the registrations cannot be proven under the checkpoint of the answer")]
    Registrations,
}

/// What to write, and where.
#[derive(Clone, Debug)]
pub struct EvidenceOrder {
    /// What to ask.
    pub request: v1::TraceLineageRequest,
    /// The question in words.
    pub asked: String,
    /// Time of the export, nanoseconds since the Unix epoch.
    pub exported_unix_ns: u64,
    /// An older checkpoint to prove consistency with.
    pub consistent_with: Option<TreeSize>,
    /// The file.
    pub out: PathBuf,
    /// What becomes of a file that is there.
    pub existing: Existing,
    /// Whether payloads go into the file.
    pub payloads: PayloadsWanted,
}

/// Whether payloads go into a file of evidence. Each that is read is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadsWanted {
    /// The commitments to them alone.
    No,
    /// Those that the ledger has, and the proof of erasure of those that were erased.
    Yes,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Exported {
    /// What the answer comes to.
    pub summary: AnswerSummary,
    /// The checkpoint that all of it is proven under, a signed note: to be compared with one that is held.
    pub checkpoint: Vec<u8>,
}

impl Client {
    /// Asks a question and writes the answer with all that its signatures need. `progress` hears of entries as they come.
    /// On return: the file is there and durable; after an error there is none, or the one that was there before.
    ///
    /// # Errors
    /// [`EvidenceExportError`]; a page that is refused names its check.
    pub async fn export_evidence(
        &self,
        policy: Policy,
        order: &EvidenceOrder,
        mut progress: impl FnMut(u64),
    ) -> Result<Exported, EvidenceExportError> {
        if order.existing == Existing::Kept && order.out.exists() {
            return Err(EvidenceExportError::Exists(order.out.clone()));
        }
        let mut answer = self.trace(policy, order.request.clone()).await?;
        let mut file = EvidenceFile::create(&order.out)?;
        let mut needs = Needs::new(order.payloads);
        let mut note = Vec::new();
        while let Some(traced) = answer.next().await? {
            if traced.verified.number == 0 {
                file.add("checkpoint", &traced.page.checkpoint)?;
                note.clone_from(&traced.page.checkpoint);
            }
            traced.verified.found.iter().for_each(|one| needs.add(one));
            traced.verified.beside.iter().for_each(|one| needs.add_collector(one));
            file.add(&format!("pages/{:06}.binpb", traced.verified.number), &traced.page.encode_to_vec())?;
            progress(traced.verified.found.len() as u64);
        }
        self.add_what_is_needed(&mut file, needs, &answer, order).await?;
        let checkpoint = answer.checkpoint().cloned().ok_or(EvidenceExportError::NoPage)?;
        let summary = answer.finish().ok_or(EvidenceExportError::NoPage)?;
        file.finish(&checkpoint, &summary, order)?;
        Ok(Exported { summary, checkpoint: note })
    }

    async fn add_what_is_needed(
        &self,
        file: &mut EvidenceFile,
        needs: Needs,
        answer: &Lineage,
        order: &EvidenceOrder,
    ) -> Result<(), EvidenceExportError> {
        let size = answer.checkpoint().ok_or(EvidenceExportError::NoPage)?.size;
        for index in &needs.facts {
            let call = |link: Link| async move { link.audit().get_facts(v1::GetFactsRequest { index: index.0 }).await };
            // Facts may have been let go, or be for other eyes: the report says which are missing.
            match self.call(call).await {
                Ok(answer) => file.add(&format!("facts/{index}.binpb"), &answer.facts)?,
                Err(error) if error.is_retryable() => return Err(error.into()),
                Err(_) => {}
            }
        }
        let erasures = self.add_payloads(file, &needs, size, &order.request.purpose).await?;
        let starts = order.request.question.iter().flat_map(|it| &it.starts);
        let tenant = starts.map(|it| it.tenant_id.as_str()).find(|it| !it.is_empty()).unwrap_or("*");
        let registrations = self.registrations(&needs, tenant, size, &erasures).await?;
        file.add("registrations.binpb", &registrations.encode_to_vec())?;
        if let Some(older) = order.consistent_with {
            let (first, second) = (older.min(size), older.max(size));
            let path = if first == second { Vec::new() } else { self.consistency(first, second).await?.1 };
            file.add("consistency-proof", ConsistencyProof { older: first, newer: second, path }.encode().as_bytes())?;
        }
        Ok(())
    }

    /// Reads the payloads of an answer; returns the entries of the erasures that took others.
    async fn add_payloads(
        &self,
        file: &mut EvidenceFile,
        needs: &Needs,
        size: TreeSize,
        purpose: &str,
    ) -> Result<BTreeSet<EntryIndex>, EvidenceExportError> {
        let (mut list, mut erasures) = (v1::PayloadList::default(), BTreeSet::new());
        for ((index, digest), commitment) in &needs.payloads {
            let state = match self.payload(*index, commitment, purpose).await? {
                PayloadRead::Given { salt, content } => {
                    file.add(&format!("payloads/{index}-{}", hex::encode(digest)), &content)?;
                    State::Salt(salt)
                }
                // What was erased behind the checkpoint cannot be shown under it.
                PayloadRead::Erased { by } if by.0 < size.0 => {
                    erasures.insert(by);
                    State::ErasedBy(by.0)
                }
                PayloadRead::Erased { .. } | PayloadRead::NotHeld(_) => continue,
            };
            list.payloads.push(v1::DisclosedPayload { index: index.0, digest: digest.clone(), state: Some(state) });
        }
        if !list.payloads.is_empty() {
            file.add("payloads.binpb", &list.encode_to_vec())?;
        }
        Ok(erasures)
    }

    /// Fetches the registrations that vouch for an answer, and the erasures in it, and proves them under its checkpoint.
    async fn registrations(
        &self,
        needs: &Needs,
        tenant: &str,
        size: TreeSize,
        erasures: &BTreeSet<EntryIndex>,
    ) -> Result<v1::Registrations, EvidenceExportError> {
        let genesis = self.tlog_proof(EntryIndex(0)).await?;
        let newest = checkpoint(genesis.checkpoint.as_bytes())?;
        let mut set = LogSet::new(size);
        let mut entries = BTreeMap::from([(0, genesis.entry.unwrap_or_default())]);
        set.add_path(0, newest.size, &genesis.path);
        let mut largest = newest.size;
        for index in erasures {
            let erasure = self.tlog_proof(*index).await?;
            let newer = checkpoint(erasure.checkpoint.as_bytes())?.size;
            largest = largest.max(newer);
            set.add_path(index.0, newer, &erasure.path);
            entries.insert(index.0, erasure.entry.unwrap_or_default());
        }
        let of_collectors =
            needs.collectors.iter().map(|id| v1::GetRegistrationsRequest { collector_id: id.clone(), tenant_id: String::new() });
        // Without an event there is no collector to ask about, and commands have signers, too.
        let of_operators = v1::GetRegistrationsRequest { collector_id: String::new(), tenant_id: tenant.to_owned() };
        let requests: Vec<_> = if needs.collectors.is_empty() { vec![of_operators] } else { of_collectors.collect() };
        for request in requests {
            let call = |link: Link| {
                let request = request.clone();
                async move { link.audit().get_registrations(request).await }
            };
            let answer = self.call(call).await?;
            let newer = checkpoint(&answer.checkpoint)?.size;
            largest = largest.max(newer);
            for one in answer.registrations.into_iter().filter(|one| one.index < size.0) {
                set.add_path(one.index, newer, &parse_path::<LogHash>(&one.log_path)?);
                entries.insert(one.index, one.entry);
            }
        }
        if size < largest && !size.0.is_power_of_two() {
            let (newer, path) = self.consistency(size, TreeSize(0)).await?;
            set.add_consistency(newer, &path);
        }
        let listed: BTreeSet<u64> = entries.keys().copied().collect();
        let proof = set.proof(&listed).ok_or(EvidenceExportError::Registrations)?;
        Ok(v1::Registrations {
            entries: entries.into_iter().map(|(index, entry)| v1::IndexedEntry { index, entry: entry.into() }).collect(),
            log_path: proof.iter().map(|hash| hash.as_bytes().to_vec()).collect(),
        })
    }

    /// Fetches a consistency proof, and the newer size that it leads to.
    async fn consistency(&self, first: TreeSize, second: TreeSize) -> Result<(TreeSize, Vec<LogHash>), EvidenceExportError> {
        let request = v1::GetConsistencyProofRequest { first_size: first.0, second_size: second.0 };
        let answer = self.call(|link: Link| async move { link.audit().get_consistency_proof(request).await }).await?;
        Ok((TreeSize(answer.second_size), parse_path::<LogHash>(&answer.path)?))
    }
}

fn checkpoint(note: &[u8]) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::parse_text(SignedNote::parse(note)?.text())
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> EvidenceExportError + '_ {
    |source| EvidenceExportError::File { path: path.to_owned(), source }
}

/// What the pages of an answer ask for.
#[derive(Debug)]
struct Needs {
    collectors: BTreeSet<String>,
    facts: BTreeSet<EntryIndex>,
    wants_payloads: PayloadsWanted,
    payloads: BTreeMap<(EntryIndex, Vec<u8>), v1::Commitment>,
}

impl Needs {
    fn new(wants_payloads: PayloadsWanted) -> Self {
        Self { collectors: BTreeSet::new(), facts: BTreeSet::new(), wants_payloads, payloads: BTreeMap::new() }
    }

    fn add_collector(&mut self, of: &FoundEntry) {
        if let Body::Event(recorded) = &of.entry.body {
            self.collectors.extend(recorded.at.as_ref().map(|at| at.collector_id.clone()));
        }
    }

    fn add(&mut self, of: &FoundEntry) {
        self.add_collector(of);
        // Facts are kept where a rule found something.
        let is_by_rule = |it: &v1::Finding| it.kind() != v1::FindingKind::BuiltIn;
        let decision = of.entry.decision.as_ref().filter(|it| it.findings.iter().any(is_by_rule) && !it.facts_digest.is_empty());
        self.facts.extend(decision.map(|_| of.entry.index));
        if self.wants_payloads == PayloadsWanted::Yes {
            let commitments = of.entry.event.iter().flat_map(|event| &event.payloads);
            self.payloads.extend(commitments.map(|it| ((of.entry.index, it.digest.clone()), it.clone())));
        }
    }
}

/// A file of evidence under way, and what its manifest will say.
struct EvidenceFile {
    path: PathBuf,
    archive: ArchiveWriter,
    members: Vec<ManifestMember>,
}

impl EvidenceFile {
    fn create(path: &Path) -> Result<Self, EvidenceExportError> {
        let archive = ArchiveWriter::create(path).map_err(file_error(path))?;
        Ok(Self { path: path.to_owned(), archive, members: Vec::new() })
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), EvidenceExportError> {
        self.members.push(ManifestMember::of(name, bytes));
        self.archive.add(name, bytes).map_err(file_error(&self.path))
    }

    fn finish(
        mut self,
        checkpoint: &VerifiedCheckpoint,
        summary: &AnswerSummary,
        order: &EvidenceOrder,
    ) -> Result<(), EvidenceExportError> {
        self.members.sort_by(|one, other| one.name.cmp(&other.name));
        let manifest = Manifest {
            origin: checkpoint.origin.to_string(),
            exported_unix_ns: order.exported_unix_ns,
            asked: order.asked.clone(),
            tree_size: checkpoint.size.0,
            commitment_size: summary.commitment.map_or(0, |(_, size)| size.0),
            pages: summary.pages,
            entries: summary.entries,
            members: self.members,
        };
        self.archive.add("manifest.json", manifest.encode().as_bytes()).map_err(file_error(&self.path))?;
        self.archive.finish(&self.path, order.existing).map_err(file_error(&self.path))
    }
}
