//! Batches one at a time: sent until the ledger gives a receipt, or a refusal that is final.

use proofline_proto::v1;

use super::{AppendError, Chain, Collector, proves_untakeable};
use crate::{
    call::{CallError, Fault},
    journal::{Standing, Submission},
    lane::Epoch,
    refusal::Reason,
};

impl Collector {
    /// Sends a batch of the open epoch until it is acknowledged.
    pub(super) async fn deliver(&mut self, submission: Submission) -> Result<v1::AppendResponse, AppendError> {
        let Some(batch) = self.signed_batch(submission) else { return Err(self.taken_over()) };
        match self.send(batch.clone()).await {
            Ok(receipt) => self.acknowledge(submission, &batch, receipt),
            Err(CallError::Refused(refusal)) if proves_untakeable(&Fault::Refused(refusal.clone())) => Err(self.taken_over()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends what was signed under earlier epochs, in order. What the ledger proves that it cannot take becomes an orphan.
    pub(super) async fn settle_signed(&mut self) -> Result<Vec<v1::AppendResponse>, AppendError> {
        let mut receipts = Vec::new();
        let signed = |(submission, waiting): (Submission, &crate::journal::Waiting)| {
            (waiting.standing == Standing::Signed).then(|| (submission, waiting.batch.clone()))
        };
        let left: Vec<_> = self.journal.state().waiting().filter_map(signed).collect();
        for (submission, batch) in left {
            match self.send(batch.clone()).await {
                Ok(receipt) => receipts.push(self.acknowledge(submission, &batch, receipt)?),
                Err(CallError::Refused(refusal)) if proves_untakeable(&Fault::Refused(refusal.clone())) => {
                    self.journal.orphaned(submission).await?;
                }
                Err(CallError::Refused(refusal)) if refusal.reason == Reason::KeyNotRegistered && self.has_new_key(&batch) => {
                    self.fence_with_new_key(submission, batch, &mut receipts).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(receipts)
    }

    /// The key was replaced while a batch of the old one waited. Opening the lane with the new key fences the old epoch; if
    /// the ledger still does not know the batch then, it never will.
    async fn fence_with_new_key(
        &mut self,
        submission: Submission,
        batch: v1::Batch,
        receipts: &mut Vec<v1::AppendResponse>,
    ) -> Result<(), AppendError> {
        if self.journal.state().epoch() <= Epoch(batch.epoch) {
            self.open_lane().await?;
            self.chain = Chain::Unopened;
        }
        match self.send(batch.clone()).await {
            Ok(receipt) => receipts.push(self.acknowledge(submission, &batch, receipt)?),
            Err(CallError::Refused(refusal)) if refusal.reason == Reason::KeyNotRegistered => self.journal.orphaned(submission).await?,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn has_new_key(&self, batch: &v1::Batch) -> bool {
        batch.public_key != self.signer.public_key()
    }

    async fn send(&self, batch: v1::Batch) -> Result<v1::AppendResponse, CallError> {
        let request = v1::AppendRequest { batch: Some(batch) };
        let call = |link: crate::Link| {
            let request = request.clone();
            async move { link.ingest().append(request).await }
        };
        self.client.call(call).await
    }

    /// Writes a receipt down, once it is clear that it belongs to the batch.
    pub(super) fn acknowledge(
        &mut self,
        submission: Submission,
        batch: &v1::Batch,
        receipt: v1::AppendResponse,
    ) -> Result<v1::AppendResponse, AppendError> {
        if (receipt.epoch, receipt.sequence, receipt.events.len()) != (batch.epoch, batch.sequence, batch.events.len()) {
            return Err(AppendError::WrongReceipt {
                expected_epoch: batch.epoch,
                expected_sequence: batch.sequence,
                epoch: receipt.epoch,
                sequence: receipt.sequence,
            });
        }
        self.journal.acknowledged(submission, receipt.clone())?;
        self.untold.push((submission, receipt.clone()));
        Ok(receipt)
    }

    pub(super) fn signed_batch(&self, submission: Submission) -> Option<v1::Batch> {
        let of = |(at, waiting): (Submission, &crate::journal::Waiting)| (at == submission).then(|| waiting.batch.clone());
        self.journal.state().waiting().find_map(of)
    }

    pub(super) fn taken_over(&mut self) -> AppendError {
        let ours = self.journal.state().epoch();
        self.pipeline = None;
        self.chain = Chain::TakenOver(ours);
        AppendError::TakenOver { ours }
    }
}
