//! Answers to questions, verified as they come: a node that leaves something out, or adds something, is refused by name.

use proofline_proto::v1;
use proofline_verifier::{AnswerError, AnswerSummary, AnswerVerifier, Policy, TrustError, VerifiedCheckpoint, VerifiedPage};
use thiserror::Error;
use tonic::Streaming;

use crate::{
    call::{CallError, Fault},
    client::{Client, Link, timed},
};

/// Why an answer is not believed, or does not come.
#[derive(Debug, Error)]
pub enum LineageError {
    /// The ledger refused, or could not be reached in time.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer broke off.
    #[error("the answer broke off behind {pages} pages: {fault}")]
    Broken {
        /// Pages that came.
        pages: u64,
        /// What happened.
        fault: Fault,
    },
    /// The checkpoint of the answer is not trusted under the policy.
    #[error("the answer's checkpoint is not trusted: {0}")]
    Untrusted(#[from] TrustError),
    /// A page is proven wrong, or cannot be read.
    #[error("the answer is refused by the check {check}: {0}", check = .0.check().as_str())]
    Refused(#[from] AnswerError),
}

/// One page of an answer, and what it adds.
#[derive(Clone, Debug, PartialEq)]
pub struct TracedPage {
    /// The page, as the node sent it.
    pub page: v1::LineagePage,
    /// What it says.
    pub verified: VerifiedPage,
}

/// An answer that is coming in.
#[derive(Debug)]
pub struct Lineage {
    client: Client,
    policy: Policy,
    question: v1::LineageQuestion,
    stream: Streaming<v1::LineagePage>,
    verifier: Option<AnswerVerifier>,
    pages: u64,
}

impl Client {
    /// Asks a question. The node records who asked before it answers; another is asked only as long as none answered.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn trace(&self, policy: Policy, request: v1::TraceLineageRequest) -> Result<Lineage, CallError> {
        let question = request.question.clone().unwrap_or_default();
        let call = |link: Link| {
            let request = request.clone();
            async move { link.audit().trace_lineage(request).await }
        };
        let stream = self.call(call).await?;
        Ok(Lineage { client: self.clone(), policy, question, stream, verifier: None, pages: 0 })
    }
}

impl Lineage {
    /// Returns the next page once it is verified; `None` behind the last one that came.
    ///
    /// # Errors
    /// [`LineageError`]. Nothing behind an error may be believed.
    pub async fn next(&mut self) -> Result<Option<TracedPage>, LineageError> {
        let within = self.client.retry().within;
        let broken = |fault| LineageError::Broken { pages: self.pages, fault };
        let Some(page) = timed(within, self.stream.message()).await.map_err(broken)? else { return Ok(None) };
        let verifier = match &mut self.verifier {
            Some(verifier) => verifier,
            none => {
                let checkpoint = self.policy.verify_checkpoint(&page.checkpoint)?;
                none.insert(AnswerVerifier::new(checkpoint, &page.checkpoint).asking(self.question.clone()))
            }
        };
        let verified = verifier.push(&page)?;
        self.pages += 1;
        Ok(Some(TracedPage { page, verified }))
    }

    /// Returns the checkpoint of the answer, once a page came.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&VerifiedCheckpoint> {
        self.verifier.as_ref().map(AnswerVerifier::checkpoint)
    }

    /// Ends the answer and tells how far it reaches; nothing without a page.
    #[must_use]
    pub fn finish(self) -> Option<AnswerSummary> {
        self.verifier.and_then(AnswerVerifier::finish)
    }
}
