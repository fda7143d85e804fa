use std::{
    future::Future as _,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::{SpiffeId, room::Place};

/// Who is at the other end. Every request that comes over the connection carries it among its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// From where.
    pub address: SocketAddr,
    /// Over what.
    pub channel: Channel,
    /// The name in the verified certificate; `None` on a plaintext connection, or when the certificate carries none.
    pub identity: Option<SpiffeId>,
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Not at all.
    Plaintext,
    /// By TLS.
    Tls,
}

/// An accepted connection. It breaks off when its place is given to another one.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    caller: Caller,
    place: Place,
    away: Pin<Box<WaitForCancellationFutureOwned>>,
}

#[derive(Debug)]
enum Stream {
    Plaintext(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(super) fn plaintext(stream: TcpStream, address: SocketAddr, place: Place) -> Self {
        Self::new(Stream::Plaintext(stream), Caller { address, channel: Channel::Plaintext, identity: None }, place)
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>, address: SocketAddr, place: Place) -> Self {
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let identity = certificate.and_then(|certificate| SpiffeId::of_certificate(certificate).ok());
        Self::new(Stream::Tls(Box::new(stream)), Caller { address, channel: Channel::Tls, identity }, place)
    }

    fn new(stream: Stream, caller: Caller, place: Place) -> Self {
        place.admit(caller.identity.as_ref().map(SpiffeId::as_str));
        let away = Box::pin(place.away().cancelled_owned());
        Self { stream, caller, place, away }
    }

    /// Returns who is at the other end.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.away.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let before = buf.filled().len();
        let answer = match &mut self.stream {
            Stream::Plaintext(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if buf.filled().len() > before {
            self.place.heard();
        }
        answer
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plaintext(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plaintext(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plaintext(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
