//! Calls that take long: who makes them is told once, while they go on.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::task::AbortHandle;

use crate::call::Fault;

/// An election takes less, and so does nearly every call that succeeds.
const SLOW: Duration = Duration::from_secs(3);

/// Nobody is told of a call that ends by itself so soon.
const NEARLY: Duration = Duration::from_millis(500);

/// A call that has no answer yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// How long it has been going on.
    pub waited: Duration,
    /// How long it is tried in all.
    pub within: Duration,
    /// What the last attempt met that failed, and at which node; `None` as long as the first has not ended.
    pub last: Option<(String, Fault)>,
}

/// Whoever is told.
#[derive(Clone)]
pub(crate) struct Listener(Arc<dyn Fn(Slow) + Send + Sync>);

impl Listener {
    pub(crate) fn new(told: impl Fn(Slow) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Listener")
    }
}

/// Watches one call, until it is dropped with it.
#[derive(Debug)]
pub(crate) struct Watch {
    last: Arc<Mutex<Option<(String, Fault)>>>,
    task: AbortHandle,
}

impl Watch {
    /// Begins with a call that is tried for `within`; nothing where that is hardly longer than what is waited for before it is told.
    pub(crate) fn begin(listener: &Listener, within: Duration) -> Option<Self> {
        if within <= SLOW + NEARLY {
            return None;
        }
        let last = Arc::<Mutex<Option<(String, Fault)>>>::default();
        let (told, met) = (listener.clone(), Arc::clone(&last));
        let task = tokio::spawn(async move {
            tokio::time::sleep(SLOW).await;
            let last = met.lock().unwrap_or_else(PoisonError::into_inner).clone();
            (told.0)(Slow { waited: SLOW, within, last });
        });
        Some(Self { last, task: task.abort_handle() })
    }

    /// Notes what an attempt met that failed.
    pub(crate) fn met(&self, endpoint: String, fault: Fault) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((endpoint, fault));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Response, Status};

    use super::*;
    use crate::{CallError, Client, Endpoint, Profile, RetryPolicy};

    /// What is told of a call whose attempts all take so long, and then end with `UNAVAILABLE`, or with an answer.
    async fn told(attempt: Duration, ends: Result<(), ()>) -> (Vec<Slow>, Result<(), CallError>) {
        let endpoints = vec![Endpoint::parse("http://127.0.0.1:1").unwrap()];
        let profile = Profile { path: "unused".into(), origin: "o".to_owned(), endpoints, policy: "unused".into(), tls: None };
        let retry = RetryPolicy { within: Duration::from_secs(12), attempt: Duration::from_secs(10) };
        let heard = Arc::<Mutex<Vec<Slow>>>::default();
        let hears = Arc::clone(&heard);
        let client = Client::connect(&profile, retry).unwrap().telling_slow(move |slow| hears.lock().unwrap().push(slow));
        let called = client.call(|_| async move {
            tokio::time::sleep(attempt).await;
            ends.map(Response::new).map_err(|()| Status::unavailable("no leader"))
        });
        let result = called.await;
        // Far behind the moment at which a call that has ended would still be told of.
        tokio::time::sleep(SLOW * 2).await;
        let heard = heard.lock().unwrap().clone();
        (heard, result)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_long_is_told_of_once_with_what_it_met() {
        let (heard, result) = told(Duration::from_millis(1), Err(())).await;
        assert!(result.is_err());
        let [slow] = &heard[..] else { panic!("told of {} times", heard.len()) };
        assert_eq!((slow.waited, slow.within), (SLOW, Duration::from_secs(12)));
        assert!(slow.last.as_ref().is_some_and(|(endpoint, fault)| endpoint.contains(":1") && fault.to_string().contains("no leader")));

        let (heard, result) = told(SLOW * 3, Ok(())).await;
        assert!(result.is_ok());
        assert_eq!(heard.iter().map(|slow| slow.last.clone()).collect::<Vec<_>>(), [None], "nothing has failed so far");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_has_ended_is_not_told_of() {
        let (heard, result) = told(SLOW - Duration::from_millis(100), Ok(())).await;
        assert!(result.is_ok());
        assert_eq!(heard, []);
    }
}
