//! The connection to a ledger: several nodes, any of which answers everything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proofline_proto::v1::{
    audit_client::AuditClient, control_client::ControlClient, ingest_client::IngestClient, payloads_client::PayloadsClient,
};
use tonic::{Response, Status, transport::Channel};

use crate::{
    call::{Attempts, CallError, Fault, RetryPolicy},
    profile::Profile,
    slow::{Listener, Slow},
    transport::{TlsError, channel},
};

/// Longest message that is taken: a page of a thousand large entries.
const RECEIVED_BYTES_MAX: usize = 80 << 20;
/// Longest message that is sent: a full batch.
const SENT_BYTES_MAX: usize = 8 << 20;

/// A connection to one node, with the three services. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Link {
    endpoint: Arc<str>,
    channel: Channel,
    place: usize,
}

impl Link {
    /// Returns the node's address.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns the service for collectors.
    #[must_use]
    pub fn ingest(&self) -> IngestClient<Channel> {
        IngestClient::new(self.channel.clone()).max_decoding_message_size(RECEIVED_BYTES_MAX).max_encoding_message_size(SENT_BYTES_MAX)
    }

    /// Returns the service for auditors.
    #[must_use]
    pub fn audit(&self) -> AuditClient<Channel> {
        AuditClient::new(self.channel.clone()).max_decoding_message_size(RECEIVED_BYTES_MAX).max_encoding_message_size(SENT_BYTES_MAX)
    }

    /// Returns the service for operators.
    #[must_use]
    pub fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(RECEIVED_BYTES_MAX).max_encoding_message_size(SENT_BYTES_MAX)
    }
}

impl Link {
    /// Returns the service for payloads.
    #[must_use]
    pub fn payloads(&self) -> PayloadsClient<Channel> {
        PayloadsClient::new(self.channel.clone()).max_encoding_message_size(SENT_BYTES_MAX)
    }
}

/// Several nodes of one ledger. Cheap to clone; clones share which node is asked first.
#[derive(Clone, Debug)]
pub struct Client {
    links: Arc<[Link]>,
    current: Arc<AtomicUsize>,
    retry: RetryPolicy,
    listener: Option<Listener>,
}

impl Client {
    /// Prepares connections to every endpoint of a profile; they are made on first use.
    ///
    /// # Errors
    /// [`TlsError`] when the certificate files cannot be used.
    pub fn connect(profile: &Profile, retry: RetryPolicy) -> Result<Self, TlsError> {
        // Each endpoint has its share of the time: one that hangs leaves the others theirs.
        let share = retry.within / u32::try_from(profile.endpoints.len()).unwrap_or(u32::MAX).max(1);
        let link = |(place, endpoint): (usize, &crate::Endpoint)| {
            let channel = channel(endpoint, profile.tls.as_ref(), share)?;
            Ok(Link { endpoint: endpoint.to_string().into(), channel, place })
        };
        let links = profile.endpoints.iter().enumerate().map(link).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { links: links.into(), current: Arc::default(), retry, listener: None })
    }

    /// Returns a client that tells of each call which has no answer after three seconds, once, and goes on: also where the node waits
    /// so long by its own rules. Readers that follow the log are not told of, nor calls to one node alone ([`Self::pinned`]).
    #[must_use]
    pub fn telling_slow(self, told: impl Fn(Slow) + Send + Sync + 'static) -> Self {
        Self { listener: Some(Listener::new(told)), ..self }
    }

    /// Returns a client that talks to one node only, by its place in the profile; `None` when there is no such place.
    #[must_use]
    pub fn pinned(&self, place: usize) -> Option<Self> {
        let link = Link { place: 0, ..self.links.get(place)?.clone() };
        Some(Self { links: vec![link].into(), current: Arc::default(), retry: self.retry, listener: None })
    }

    /// Returns a client that keeps trying for another time.
    #[must_use]
    pub fn with_retry(&self, retry: RetryPolicy) -> Self {
        Self { retry, ..self.clone() }
    }

    /// Returns how long calls keep trying.
    #[must_use]
    pub fn retry(&self) -> RetryPolicy {
        self.retry
    }

    /// Returns every node, in the order of the profile.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// Returns the node that is asked next.
    #[must_use]
    pub fn link(&self) -> &Link {
        let place = self.current.load(Ordering::Relaxed) % self.links.len().max(1);
        #[expect(clippy::indexing_slicing, reason = "a profile has at least one endpoint, and the place is taken modulo their number")]
        &self.links[place]
    }

    /// Returns the service for collectors of the node that is asked next.
    #[must_use]
    pub fn ingest(&self) -> IngestClient<Channel> {
        self.link().ingest()
    }

    /// Returns the service for auditors of the node that is asked next.
    #[must_use]
    pub fn audit(&self) -> AuditClient<Channel> {
        self.link().audit()
    }

    /// Returns the service for operators of the node that is asked next.
    #[must_use]
    pub fn control(&self) -> ControlClient<Channel> {
        self.link().control()
    }

    /// Calls until a node answers: another node after each fault of a node, with pauses, for as long as the policy says.
    ///
    /// Only for requests that are safe to send again; every request of the contract but `ChangeMembership` is.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<T, F, Fut>(&self, mut call: F) -> Result<T, CallError>
    where
        F: FnMut(Link) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut attempts = self.attempts();
        loop {
            let link = self.link().clone();
            let fault = match timed(self.retry.attempt, call(link.clone())).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(fault) => fault,
            };
            self.leave(&link, &fault);
            attempts.pause(&link.endpoint, fault).await?;
        }
    }

    /// Begins the attempts of one call.
    pub(crate) fn attempts(&self) -> Attempts {
        Attempts::begin(self.retry, self.links.len(), self.listener.as_ref())
    }

    /// Begins the attempts of a call that may be silent for long.
    pub(crate) fn patient_attempts(&self) -> Attempts {
        Attempts::begin(self.retry, self.links.len(), None)
    }

    /// Asks the next node from now on, if the fault was one of the node and nobody moved on before.
    pub(crate) fn leave(&self, link: &Link, fault: &Fault) {
        if fault.is_of_the_node() {
            let next = (link.place + 1) % self.links.len().max(1);
            // Somebody else moved on already: fine.
            let _ = self.current.compare_exchange(link.place, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// Waits for an answer, but not for ever.
pub(crate) async fn timed<T>(within: Duration, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Fault> {
    match tokio::time::timeout(within, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(Fault::of(&status)),
        Err(_) => Err(Fault::TimedOut(within)),
    }
}
