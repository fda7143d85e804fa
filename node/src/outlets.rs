//! Outlets: while this node leads, it sends what apply put into the outbox and has the results recorded.
//!
//! Always true: a message is built from the log alone, so that every leader sends the same one under the same id; it leaves
//! the outbox with an entry that says what became of it. A receiver may get one twice, when a leader ends between the
//! answer and its record. Redirects are not followed, and what a receiver answers is read within bounds.

mod delivery;
mod keys;
mod message;
mod schedule;
mod security_event;
mod settings;
mod transmitter;
mod webhook;
mod worker;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use futures::{StreamExt as _, stream::FuturesUnordered};
use proofline_ledger::{StoreFault, outlets};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::worker::Worker;
pub use self::{
    settings::{OutletSettings, Plaintext},
    transmitter::{key_set, transmitter},
};
use crate::{config::Config, inbox::Inbox, leadership::Leadership, metrics::Metrics, replica::Progress, rpc::Api, store::StateStore};

/// Pause before a state that could not be read is read again.
const AGAIN: Duration = Duration::from_secs(5);

/// What delivering works with; clones are cheap.
#[derive(Clone)]
pub struct Dispatcher {
    /// Name of the log.
    pub origin: Arc<str>,
    /// Raft id of this node.
    pub node_id: u64,
    /// Signs what this node says of deliveries.
    pub node_key: SigningKey,
    /// The replicated state.
    pub state: StateStore,
    /// How far it was applied.
    pub progress: watch::Receiver<Progress>,
    /// Whether this node leads.
    pub leadership: watch::Receiver<Leadership>,
    /// Where results go to be recorded.
    pub inbox: Inbox,
    /// Keys, and how patient to be.
    pub settings: Arc<OutletSettings>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Dispatcher {
    /// Takes what it needs of a node.
    #[must_use]
    pub fn of(config: &Config, api: &Api) -> Self {
        Self {
            origin: Arc::clone(&api.origin),
            node_id: config.node_id,
            node_key: config.node_key.clone(),
            state: api.state.clone(),
            progress: api.progress.clone(),
            leadership: api.leadership.clone(),
            inbox: api.inbox.clone(),
            settings: Arc::clone(&api.outlets),
            metrics: Arc::clone(&api.metrics),
        }
    }

    /// Sends until shutdown, whenever this node leads. What is under way when the lead is lost is dropped: the next leader
    /// sends it again.
    pub async fn run(self, shutdown: CancellationToken) {
        self.tell_what_is_missing();
        let mut leadership = self.leadership.clone();
        loop {
            let leading = async { leadership.wait_for(|seen| *seen == Leadership::Here).await.map(|_| ()) };
            tokio::select! {
                () = shutdown.cancelled() => return,
                led = leading => if led.is_err() { return },
            }
            let deposed = async { leadership.wait_for(|seen| *seen != Leadership::Here).await.map(|_| ()) };
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = deposed => (),
                failed = self.lead() => {
                    tracing::error!(fault = %failed, "outlets cannot be read; nothing is sent");
                    self.metrics.outlet_alarm();
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = tokio::time::sleep(AGAIN) => (),
                    }
                }
            }
        }
    }

    /// Says at the start what would keep this node from sending, before it is the one that has to.
    fn tell_what_is_missing(&self) {
        let known = outlets::all(&*self.state.view()).unwrap_or_default().into_iter().map(|it| it.outlet).collect::<Vec<_>>();
        for (outlet, problem) in self.settings.problems(&known) {
            tracing::error!(outlet, problem, "this node would not be able to send to an outlet, or receivers would not find its keys");
            self.metrics.outlet_alarm();
        }
    }

    /// Keeps one worker for each outlet. They share this task: one that waits for its receiver keeps no other from working.
    async fn lead(&self) -> StoreFault {
        let post = match self.settings.post() {
            Ok(post) => Some(Arc::new(post)),
            Err(reason) => {
                tracing::error!(reason, "outlets have no trusted roots; nothing is sent until this is mended and the node started again");
                None
            }
        };
        let (mut workers, mut served) = (FuturesUnordered::new(), BTreeSet::new());
        let mut progress = self.progress.clone();
        loop {
            let seen = progress.borrow_and_update().outlet_generation;
            let known = match outlets::all(&*self.state.view()) {
                Ok(known) => known,
                Err(fault) => return fault,
            };
            for it in known {
                let id = it.outlet.outlet_id;
                if served.insert(id.clone()) {
                    workers.push(Worker::new(self.clone(), id, post.clone()).run());
                }
            }
            let changed = async { progress.wait_for(|now| now.outlet_generation != seen).await.map(|_| ()) };
            let ended = tokio::select! {
                ended = workers.next(), if !workers.is_empty() => ended,
                changed = changed => {
                    if changed.is_err() {
                        // The node shuts down, and will say so.
                        std::future::pending::<()>().await;
                    }
                    None
                }
            };
            match ended {
                Some(Ok(id)) => drop(served.remove(&id)),
                Some(Err(fault)) => return fault,
                None => (),
            }
        }
    }
}
