//! Many batches under way at once, over one stream that is made anew whenever it breaks.

use proofline_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{AppendError, Collector, WINDOW, proves_untakeable};
use crate::{
    call::{Attempts, Fault},
    client::{Link, timed},
    journal::Submission,
};

/// One stream to one node.
#[derive(Debug)]
pub(super) struct Pipeline {
    link: Link,
    requests: mpsc::Sender<v1::AppendRequest>,
    receipts: Streaming<v1::AppendResponse>,
    /// The newest batch that went into this stream.
    sent: Option<Submission>,
}

impl Collector {
    /// Sends everything that was signed, and takes receipts until at most `most` batches wait. Batches of a broken stream go
    /// into the next one, in order, byte for byte.
    pub(super) async fn pump(&mut self, most: usize) -> Result<Vec<v1::AppendResponse>, AppendError> {
        let mut receipts = Vec::new();
        let mut attempts = self.client.attempts();
        loop {
            let fault = match self.pump_once(most, &mut receipts, &mut attempts).await? {
                Ok(()) => return Ok(receipts),
                Err(fault) => fault,
            };
            let link = self.pipeline.take().map_or_else(|| self.client.link().clone(), |pipeline| pipeline.link);
            if proves_untakeable(&fault) {
                return Err(self.taken_over());
            }
            self.client.leave(&link, &fault);
            attempts.pause(&link.endpoint(), fault).await?;
        }
    }

    /// Goes on with the stream until it breaks or enough receipts came. A receipt begins the time for retries anew.
    async fn pump_once(
        &mut self,
        most: usize,
        receipts: &mut Vec<v1::AppendResponse>,
        attempts: &mut Attempts,
    ) -> Result<Result<(), Fault>, AppendError> {
        if let Err(fault) = self.connect_stream().await {
            return Ok(Err(fault));
        }
        if let Err(fault) = self.send_unsent().await {
            return Ok(Err(fault));
        }
        while self.waiting() > most {
            match self.next_receipt().await {
                Ok(receipt) => receipts.push(self.take_receipt(receipt)?),
                Err(fault) => return Ok(Err(fault)),
            }
            *attempts = self.client.attempts();
        }
        Ok(Ok(()))
    }

    async fn connect_stream(&mut self) -> Result<(), Fault> {
        if self.pipeline.is_some() {
            return Ok(());
        }
        let link = self.client.link().clone();
        let (requests, batches) = mpsc::channel(WINDOW);
        let mut ingest = link.ingest();
        let answer = timed(self.client.retry().attempt, ingest.append_stream(ReceiverStream::new(batches))).await;
        self.pipeline = Some(Pipeline { link, requests, receipts: answer?.into_inner(), sent: None });
        Ok(())
    }

    async fn send_unsent(&mut self) -> Result<(), Fault> {
        let Some(pipeline) = &mut self.pipeline else { return Err(broken()) };
        for (submission, waiting) in self.journal.state().waiting() {
            if Some(submission) <= pipeline.sent {
                continue;
            }
            let request = v1::AppendRequest { batch: Some(waiting.batch.clone()) };
            let sent = tokio::time::timeout(self.client.retry().attempt, pipeline.requests.send(request)).await;
            match sent {
                Ok(Ok(())) => pipeline.sent = Some(submission),
                // The other end is gone; its answer says why.
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(Fault::TimedOut(self.client.retry().attempt)),
            }
        }
        Ok(())
    }

    async fn next_receipt(&mut self) -> Result<v1::AppendResponse, Fault> {
        let Some(pipeline) = &mut self.pipeline else { return Err(broken()) };
        timed(self.client.retry().attempt, pipeline.receipts.message()).await?.ok_or_else(broken)
    }

    fn take_receipt(&mut self, receipt: v1::AppendResponse) -> Result<v1::AppendResponse, AppendError> {
        let Some((submission, batch)) = self.journal.state().first_waiting().map(|(at, waiting)| (at, waiting.batch.clone())) else {
            return Ok(receipt);
        };
        self.acknowledge(submission, &batch, receipt)
    }
}

fn broken() -> Fault {
    Fault::Connection("the stream ended before every batch had its receipt".to_owned())
}
