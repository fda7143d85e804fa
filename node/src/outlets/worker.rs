//! The worker of one outlet: the oldest message that is due, one at a time, while this node leads.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use proofline_ledger::{Direction, OutletAt, StoreFault, UnixNanos, Waiting, limits::OUTBOX_MAX, outlets};
use proofline_proto::v1::{DeliveryResult, OutletState};

use super::{
    Dispatcher,
    delivery::{Recorded, Said},
    message::NotSendable,
    schedule::{self, Patience, Protocol, Standing, Verdict, judge},
};
use crate::{
    clock::unix_ns,
    post::{Answer, Message, NoAnswer, Post},
};

/// Messages that are looked at from each end, of an outlet that has more.
const WINDOW: usize = 128;
/// How often a worker looks whether what was missing is there.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A message whose result the ledger does not take is left alone for so long.
const HELD: Duration = Duration::from_secs(3_600);

/// What this leader knows of a message: gone with the lead.
#[derive(Clone, Debug)]
struct Tried {
    attempts: u32,
    key_failures: u32,
    first_unix_ns: u64,
    due: Instant,
    /// As the receiver asked.
    not_before: Instant,
    held_until: Option<Instant>,
}

pub(super) struct Worker {
    with: Dispatcher,
    outlet_id: String,
    post: Option<Arc<Post>>,
    tried: HashMap<String, Tried>,
    /// An attempt failed since the last one that did not.
    failing: bool,
    /// What was said last to be missing on this node.
    told: Option<String>,
}

/// What a worker does next.
enum Step {
    Escalate(Vec<Waiting>),
    Send(Box<Waiting>),
    Wait(Duration),
}

impl Worker {
    pub(super) fn new(with: Dispatcher, outlet_id: String, post: Option<Arc<Post>>) -> Self {
        Self { with, outlet_id, post, tried: HashMap::new(), failing: false, told: None }
    }

    /// Works until the outlet is removed, and returns its id.
    pub(super) async fn run(mut self) -> Result<String, StoreFault> {
        let mut progress = self.with.progress.clone();
        loop {
            let seen = progress.borrow_and_update().outlet_generation;
            let known = outlets::all(&*self.with.state.view())?.into_iter().find(|it| it.outlet.outlet_id == self.outlet_id);
            let Some(at) = known else { return Ok(self.outlet_id) };
            let waiting = self.window(&at)?;
            match self.next(&at, waiting) {
                Step::Escalate(late) => {
                    for message in late {
                        self.escalate(&at, &message).await;
                    }
                }
                Step::Send(message) => self.send(&at, &message).await?,
                Step::Wait(pause) => {
                    let changed = async { progress.wait_for(|now| now.outlet_generation != seen).await.map(|_| ()) };
                    if let Ok(Err(_)) = tokio::time::timeout(pause, changed).await {
                        // The node shuts down, and drops this.
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    fn window(&self, at: &OutletAt) -> Result<Vec<Waiting>, StoreFault> {
        let state = self.with.state.view();
        let from = |end, limit| outlets::waiting(&*state, &self.with.origin, &at.outlet, end, limit);
        if !at.outlet.escalate_to.is_empty() {
            // Any of them may have to go on to another outlet by now.
            return from(Direction::Ascending, usize::try_from(OUTBOX_MAX).unwrap_or(usize::MAX));
        }
        let mut found = from(Direction::Ascending, WINDOW)?;
        if found.len() == WINDOW {
            let oldest: BTreeSet<String> = found.iter().map(|it| it.jti.clone()).collect();
            found.extend(from(Direction::Descending, WINDOW)?.into_iter().filter(|it| !oldest.contains(&it.jti)));
        }
        Ok(found)
    }

    fn next(&self, at: &OutletAt, waiting: Vec<Waiting>) -> Step {
        let (now, unix_now) = (Instant::now(), UnixNanos(unix_ns()));
        let (late, waiting): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .filter(|it| self.tried.get(&it.jti).and_then(|tried| tried.held_until).is_none_or(|until| until <= now))
            .partition(|it| it.escalates_at.is_some_and(|at| at <= unix_now));
        if !late.is_empty() {
            return Step::Escalate(late);
        }
        let escalation = waiting.iter().filter_map(|it| it.escalates_at).min();
        let pause = escalation.map_or(LOOK_AGAIN, |at| Duration::from_nanos(at.0 - unix_now.0).min(LOOK_AGAIN));
        if at.state != OutletState::Active {
            return Step::Wait(pause);
        }
        // What was never tried comes first: the receiver may be there for it, whatever it did to the others.
        let due = |of: &Waiting| self.tried.get(&of.jti).map(|tried| tried.due);
        match waiting.into_iter().min_by_key(due) {
            None => Step::Wait(pause),
            Some(message) => match due(&message).map(|due| due.saturating_duration_since(now)).filter(|until| !until.is_zero()) {
                Some(until) => Step::Wait(pause.min(until)),
                None => Step::Send(Box::new(message)),
            },
        }
    }

    async fn escalate(&mut self, at: &OutletAt, message: &Waiting) {
        tracing::error!(
            outlet = self.outlet_id,
            jti = message.jti,
            to = at.outlet.escalate_to,
            "a message was not acknowledged in time: it is escalated"
        );
        let tried = self.tried.get(&message.jti);
        let said = Said {
            result: DeliveryResult::Escalated,
            http_status: 0,
            error: String::new(),
            attempts: tried.map_or(0, |it| it.attempts),
            first_attempt_unix_ns: tried.map_or(0, |it| it.first_unix_ns),
            answered_unix_ns: unix_ns(),
        };
        self.record(at, message, said).await;
    }

    async fn send(&mut self, at: &OutletAt, message: &Waiting) -> Result<(), StoreFault> {
        let Some(post) = self.post.clone() else {
            self.wait(message, LOOK_AGAIN, |_| ());
            return Ok(());
        };
        let (store, began) = (self.with.state.view(), unix_ns());
        let composed = Message::compose(&*store, &self.with.origin, &self.with.settings, &at.outlet, message, began / 1_000_000_000);
        drop(store);
        let composed = match composed {
            Ok(composed) => composed,
            Err(NotSendable::Store(fault)) => return Err(fault),
            Err(NotSendable::Unable(reason)) => {
                self.tell(reason);
                self.wait(message, LOOK_AGAIN, |_| ());
                return Ok(());
            }
        };
        self.told = None;
        let sent = post.send(&composed, |status| status == 400).await;
        self.wait(message, Duration::ZERO, |tried| {
            tried.attempts += 1;
            tried.first_unix_ns = if tried.attempts == 1 { began } else { tried.first_unix_ns };
        });
        self.conclude(at, message, &sent).await;
        Ok(())
    }

    /// Says once, and again when it changes, why this node cannot send.
    fn tell(&mut self, reason: String) {
        if self.told.as_ref() != Some(&reason) {
            tracing::error!(outlet = self.outlet_id, reason, "this node leads and cannot send to an outlet");
            self.with.metrics.outlet_alarm();
            self.told = Some(reason);
        }
    }

    /// Takes note of an attempt, and of when the next one is due.
    fn wait(&mut self, message: &Waiting, pause: Duration, note: impl FnOnce(&mut Tried)) {
        let now = Instant::now();
        let new = || Tried { attempts: 0, key_failures: 0, first_unix_ns: 0, due: now, not_before: now, held_until: None };
        let tried = self.tried.entry(message.jti.clone()).or_insert_with(new);
        note(tried);
        tried.due = now + pause;
    }

    async fn conclude(&mut self, at: &OutletAt, message: &Waiting, sent: &Result<Answer, NoAnswer>) {
        let protocol = Protocol::of(&at.outlet);
        let Some(tried) = self.tried.get(&message.jti).cloned() else { return };
        let verdict = judge(protocol, sent, tried.key_failures);
        let (result, error) = match verdict {
            Verdict::Delivered => {
                self.recover();
                (DeliveryResult::Delivered, String::new())
            }
            Verdict::DeadLetter { error } => (DeliveryResult::DeadLetter, error),
            Verdict::Pause { error } => (DeliveryResult::Paused, error),
            Verdict::Disable { error } => (DeliveryResult::Disabled, error),
            Verdict::Again { error, not_before } => {
                let since = message.committed.max(at.active_since).0;
                let age = Duration::from_nanos(unix_ns().saturating_sub(since));
                let standing = Standing { jti: &message.jti, attempts: tried.attempts, age };
                let settings = &self.with.settings;
                let patience = Patience { first: settings.retry_first, give_up_after: settings.give_up_after };
                match schedule::pause(protocol, standing, patience, not_before) {
                    Some(pause) => {
                        let reason = sent.as_ref().map_or_else(ToString::to_string, |_| String::new());
                        tracing::warn!(
                            outlet = self.outlet_id,
                            jti = message.jti,
                            error,
                            reason,
                            ?pause,
                            "a message was not taken; it is sent again"
                        );
                        self.with.metrics.outlet_attempt_failed();
                        self.failing = true;
                        let asked = Instant::now() + not_before.unwrap_or_default();
                        return self.wait(message, pause, |tried| {
                            tried.key_failures += u32::from(error == "invalid_key");
                            tried.not_before = asked;
                        });
                    }
                    None => (DeliveryResult::DeadLetter, error),
                }
            }
        };
        let said = Said {
            result,
            http_status: sent.as_ref().map_or(0, |answer| answer.status.into()),
            error,
            attempts: tried.attempts,
            first_attempt_unix_ns: tried.first_unix_ns,
            answered_unix_ns: unix_ns(),
        };
        if result != DeliveryResult::Delivered {
            tracing::error!(
                outlet = self.outlet_id,
                jti = message.jti,
                result = result.as_str_name(),
                error = said.error,
                status = said.http_status,
                "a message was not delivered"
            );
        }
        self.record(at, message, said).await;
    }

    /// A receiver that answers again gets what failed meanwhile now, and not when each pause is over.
    fn recover(&mut self) {
        if std::mem::take(&mut self.failing) {
            let now = Instant::now();
            self.tried.values_mut().for_each(|tried| tried.due = tried.due.min(now.max(tried.not_before)));
        }
    }

    async fn record(&mut self, at: &OutletAt, message: &Waiting, said: Said) {
        let result = said.result;
        match self.with.record(&at.outlet, message, said).await {
            Recorded::Settled => {
                self.with.metrics.outlet_delivery(result);
                if matches!(result, DeliveryResult::Delivered | DeliveryResult::DeadLetter) {
                    self.tried.remove(&message.jti);
                }
            }
            // The worker is dropped with the lead.
            Recorded::Lost => self.wait(message, LOOK_AGAIN, |_| ()),
            Recorded::Refused(refusal) => {
                tracing::error!(outlet = self.outlet_id, jti = message.jti, %refusal, "what became of a message cannot be recorded");
                self.with.metrics.outlet_alarm();
                self.wait(message, LOOK_AGAIN, |tried| tried.held_until = Some(Instant::now() + HELD));
            }
        }
    }
}
