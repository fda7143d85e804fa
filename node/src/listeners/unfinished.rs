use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::{body::Body as AxumBody, extract::Request};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::inbox::NotAdmitted;

/// Bytes in front of each message: a flag, and its length.
const PREFIX_BYTES: usize = 5;

/// Longest message that is counted in full: one that is longer is refused by whoever reads it.
const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// The bytes of messages that have not arrived whole, of all calls together: nobody has looked at them yet, so nothing else
/// bounds them. A message counts with its whole length once that is known, because room for all of it is made then, however
/// slowly it comes. Clones share one count.
#[derive(Clone, Debug)]
pub(super) struct Unfinished {
    room: Arc<Semaphore>,
}

impl Unfinished {
    /// Allows so many bytes.
    pub(super) fn of(bytes: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(bytes)) }
    }

    /// Counts what arrives of a call. Beyond the bound its body ends with `RESOURCE_EXHAUSTED`: nothing was appended.
    pub(super) fn count(self, request: Request) -> Request {
        request.map(|inner| AxumBody::new(Counted { inner, room: self.room, held: None, messages: Messages::default() }))
    }
}

/// A body whose unfinished message holds its share of the room.
struct Counted {
    inner: AxumBody,
    room: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    messages: Messages,
}

impl Counted {
    /// Holds as many bytes as the unfinished message has now.
    fn hold(&mut self, bytes: usize) -> Result<(), NotAdmitted> {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if bytes <= held {
            // What is split off is given back when it is dropped.
            drop(self.held.as_mut().and_then(|permit| permit.split(held - bytes)));
            return Ok(());
        }
        let more = u32::try_from(bytes - held).map_err(|_| NotAdmitted::Full)?;
        let more = Arc::clone(&self.room).try_acquire_many_owned(more).map_err(|_| NotAdmitted::Full)?;
        match &mut self.held {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(cx)).transpose()? else { return Poll::Ready(None) };
        if let Some(data) = frame.data_ref() {
            self.messages.arrived(data);
            let claimed = self.messages.claimed();
            self.hold(claimed).map_err(Status::from)?;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Follows the messages through a body, without looking into them.
#[derive(Debug, Default)]
struct Messages {
    /// Bytes of the message that is arriving.
    unfinished: usize,
    /// Its length, as far as the bytes in front of it came.
    length: u64,
}

impl Messages {
    fn arrived(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.unfinished < PREFIX_BYTES {
                // The flag is shifted out: it stands before the four bytes of the length.
                self.length = (self.length << 8 | u64::from(*first)) & u64::from(u32::MAX);
                self.unfinished += 1;
                bytes = rest;
            } else {
                let taken = self.missing().min(bytes.len());
                self.unfinished += taken;
                bytes = bytes.get(taken..).unwrap_or_default();
            }
            if self.unfinished >= PREFIX_BYTES && self.missing() == 0 {
                *self = Self::default();
            }
        }
    }

    /// Returns what the unfinished message takes: all of it, once its length is known.
    fn claimed(&self) -> usize {
        if self.unfinished < PREFIX_BYTES { self.unfinished } else { (self.unfinished + self.missing()).min(MESSAGE_BYTES_MAX) }
    }

    fn missing(&self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX).saturating_add(PREFIX_BYTES).saturating_sub(self.unfinished)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn message(bytes: usize) -> Vec<u8> {
        [&[0][..], &u32::try_from(bytes).unwrap().to_be_bytes(), &vec![7; bytes]].concat()
    }

    #[test]
    fn only_what_is_unfinished_counts_however_it_is_cut() {
        let three = [message(3), message(0), message(10)].concat();
        for cut in 1..three.len() {
            let mut messages = Messages::default();
            three.chunks(cut).for_each(|part| messages.arrived(part));
            assert_eq!(messages.claimed(), 0, "cut every {cut} bytes");
            messages.arrived(&message(10)[..4]);
            assert_eq!(messages.claimed(), 4, "the length is not known yet");
            messages.arrived(&message(10)[4..9]);
            assert_eq!(messages.claimed(), 15, "all of the message");
        }
    }

    fn counted(of: &Unfinished, parts: Vec<Vec<u8>>) -> AxumBody {
        let frames = parts.into_iter().map(|part| Ok::<_, axum::Error>(Frame::data(Bytes::from(part))));
        let body = AxumBody::new(StreamBody::new(futures::stream::iter(frames)));
        of.clone().count(Request::new(body)).into_body()
    }

    #[tokio::test]
    async fn messages_that_are_whole_give_their_room_back() {
        let unfinished = Unfinished::of(1_000);
        let halves = |_| [message(900)[..300].to_vec(), message(900)[300..].to_vec()];
        let body = counted(&unfinished, (0..10).flat_map(halves).collect());
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 9_050);
        assert_eq!(unfinished.room.available_permits(), 1_000);
    }

    #[tokio::test]
    async fn beyond_the_bound_a_call_ends_and_what_it_held_is_free_again() {
        let unfinished = Unfinished::of(3_000);
        let mut first = counted(&unfinished, vec![message(2_000)[..5].to_vec()]);
        first.frame().await.unwrap().unwrap();
        let error = counted(&unfinished, vec![message(2_000)[..5].to_vec()]).collect().await.unwrap_err();
        let status = Status::from_error(Box::new(error));
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
        drop(first);
        assert_eq!(unfinished.room.available_permits(), 3_000);
    }
}
