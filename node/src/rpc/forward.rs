//! A collector's stream on its way to the leader: how much of all streams this node holds meanwhile.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use proofline_proto::peer::{Item, ProposeRequest, item};
use prost::Message as _;
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tonic::Status;

use crate::inbox::NotAdmitted;

/// Bytes of all streams together that wait to be passed on.
const BYTES_MAX: usize = 16 << 20;
/// How long one batch may wait for room, and then to be taken by the connection to the leader.
const PASSED_WITHIN: Duration = Duration::from_secs(30);

/// The room that streams share on their way. Clones share it too.
#[derive(Clone, Debug)]
pub struct Forwarding {
    room: Arc<Semaphore>,
    bytes_max: usize,
    within: Duration,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self::new(BYTES_MAX, PASSED_WITHIN)
    }
}

impl Forwarding {
    fn new(bytes_max: usize, within: Duration) -> Self {
        Self { room: Arc::new(Semaphore::new(bytes_max)), bytes_max, within }
    }

    /// Passes batches to `requests` until they end, nobody takes them, or one is refused; the refusal goes to `refused`.
    ///
    /// A batch holds its share of the room until the connection took it, and never longer than a while: a stream that
    /// stands still ends, so that it does not keep others from going on.
    pub(super) async fn pass_on(
        self,
        batches: impl Stream<Item = Result<item::Item, Status>>,
        requests: mpsc::Sender<ProposeRequest>,
        refused: mpsc::Sender<Result<std::convert::Infallible, Status>>,
    ) {
        let mut batches = std::pin::pin!(batches);
        while let Some(batch) = batches.next().await {
            let passed = match batch {
                Ok(item) => self.pass(ProposeRequest { item: Some(Item { item: Some(item) }) }, &requests).await,
                Err(status) => Err(Some(status)),
            };
            match passed {
                Ok(()) => (),
                Err(None) => return,
                Err(Some(status)) => return drop(refused.send(Err(status)).await),
            }
        }
    }

    /// Passes one on. Without a status there is nobody left to pass it to.
    async fn pass(&self, request: ProposeRequest, requests: &mpsc::Sender<ProposeRequest>) -> Result<(), Option<Status>> {
        let full = |_| Some(NotAdmitted::Full.into());
        let bytes = u32::try_from(request.encoded_len().min(self.bytes_max)).unwrap_or(u32::MAX);
        let held = timeout(self.within, self.room.acquire_many(bytes)).await.map_err(full)?.map_err(|_| None)?;
        timeout(self.within, requests.send(request)).await.map_err(full)?.map_err(|_| None)?;
        // There is a place for one: when it is free again, the connection has this one.
        drop(timeout(self.within, requests.reserve()).await.map_err(full)?.map_err(|_| None)?);
        drop(held);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use proofline_proto::v1;
    use tonic::Code;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn batch(bytes: usize) -> Result<item::Item, Status> {
        Ok(item::Item::Batch(v1::Batch { events: vec![vec![0; bytes].into()], ..Default::default() }))
    }

    #[tokio::test]
    async fn streams_share_one_room_by_bytes() {
        let forwarding = Forwarding::new(1_000, LONG);
        let (first, mut taken) = mpsc::channel(1);
        let (second, mut also_taken) = mpsc::channel(1);
        let (refused, _refusals) = mpsc::channel(1);
        tokio::spawn(forwarding.clone().pass_on(stream::iter([batch(900)]), first, refused.clone()));
        tokio::task::yield_now().await;
        tokio::spawn(forwarding.clone().pass_on(stream::iter([batch(900)]), second, refused));
        tokio::task::yield_now().await;
        assert!(also_taken.try_recv().is_err(), "the second waits for the room that the first holds");
        taken.recv().await.unwrap();
        also_taken.recv().await.unwrap();
    }

    #[tokio::test]
    async fn a_batch_larger_than_the_room_takes_all_of_it() {
        let forwarding = Forwarding::new(100, LONG);
        let (requests, mut taken) = mpsc::channel(1);
        let (refused, _refusals) = mpsc::channel(1);
        tokio::spawn(forwarding.pass_on(stream::iter([batch(900)]), requests, refused));
        taken.recv().await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_that_stands_still_ends_and_gives_its_room_back() {
        let forwarding = Forwarding::new(1_000, Duration::from_millis(20));
        let (requests, _nobody_takes) = mpsc::channel(1);
        let (refused, mut refusals) = mpsc::channel(1);
        forwarding.clone().pass_on(stream::iter([batch(900)]), requests, refused).await;
        let status = refusals.recv().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert_eq!(forwarding.room.available_permits(), 1_000);
    }
}
