//! Reading the log in order, across nodes that come and go.

use bytes::Bytes;
use proofline_proto::v1;
use proofline_verifier::EntryIndex;
use tonic::Streaming;

use crate::{
    call::{CallError, Fault},
    client::{Client, Link, timed},
};

/// How far a reader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Up to what the node has published.
    Published,
    /// Up to this entry, itself excluded. A node that has published less is left for another.
    Until(EntryIndex),
    /// On and on, as entries are published.
    Follow,
}

/// Entries that stand one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRun {
    /// Index of the first.
    pub first: EntryIndex,
    /// Exact bytes of each.
    pub entries: Vec<Bytes>,
}

/// Reads entries from an index on.
#[derive(Debug)]
pub struct EntryReader {
    client: Client,
    next: EntryIndex,
    reading: Reading,
    stream: Option<(Link, Streaming<v1::ReadEntriesResponse>)>,
}

impl EntryReader {
    /// Begins at `from`; nothing is asked for yet.
    #[must_use]
    pub fn new(client: Client, from: EntryIndex, reading: Reading) -> Self {
        Self { client, next: from, reading, stream: None }
    }

    /// Returns the next entries, or `None` at the end.
    ///
    /// # Errors
    /// [`CallError`] when no node goes on with it in time.
    pub async fn next(&mut self) -> Result<Option<EntryRun>, CallError> {
        let mut attempts = match self.reading {
            Reading::Follow => self.client.patient_attempts(),
            Reading::Published | Reading::Until(_) => self.client.attempts(),
        };
        loop {
            if matches!(self.reading, Reading::Until(end) if self.next >= end) {
                return Ok(None);
            }
            let fault = match self.next_run().await {
                Ok(run) => return Ok(run),
                Err(fault) => fault,
            };
            let link = self.stream.take().map_or_else(|| self.client.link().clone(), |(link, _)| link);
            self.client.leave(&link, &fault);
            attempts.pause(&link.endpoint(), fault).await?;
        }
    }

    async fn next_run(&mut self) -> Result<Option<EntryRun>, Fault> {
        let within = self.client.retry().attempt;
        let stream = match &mut self.stream {
            Some((_, stream)) => stream,
            none => {
                let link = self.client.link().clone();
                let stream = timed(within, link.audit().read_entries(self.reading.request(self.next))).await?.into_inner();
                &mut none.insert((link, stream)).1
            }
        };
        let answer = match self.reading {
            // Silence is normal: nothing was published.
            Reading::Follow => stream.message().await.map_err(|status| Fault::of(&status))?,
            Reading::Published | Reading::Until(_) => timed(within, stream.message()).await?,
        };
        match (answer, self.reading) {
            (Some(run), _) => self.take(run).map(Some),
            (None, Reading::Published) => Ok(None),
            (None, Reading::Until(_) | Reading::Follow) => {
                Err(Fault::Connection(format!("the node's entries end before entry {}", self.next)))
            }
        }
    }

    fn take(&mut self, run: v1::ReadEntriesResponse) -> Result<EntryRun, Fault> {
        if run.first_index != self.next.0 || run.entries.is_empty() {
            return Err(Fault::Connection(format!("the node sent entry {} where {} was due", run.first_index, self.next)));
        }
        let first = self.next;
        self.next = EntryIndex(first.0.saturating_add(run.entries.len() as u64));
        Ok(EntryRun { first, entries: run.entries })
    }
}

impl Reading {
    fn request(self, from: EntryIndex) -> v1::ReadEntriesRequest {
        let (limit, follow) = match self {
            Self::Published => (0, false),
            Self::Until(end) => (end.0.saturating_sub(from.0), false),
            Self::Follow => (0, true),
        };
        v1::ReadEntriesRequest { from_index: from.0, limit, follow }
    }
}
