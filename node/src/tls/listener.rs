use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;

use super::{
    Connection, Credentials,
    room::{Place, Room},
};

const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// Pause after the kernel refused to accept, as when file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a listener knows its callers.
#[derive(Clone, Debug)]
pub enum Security {
    /// Not at all; for loopback addresses only.
    Plaintext,
    /// By a certificate under the roots of these credentials.
    Mutual(Arc<Credentials>),
    /// By a certificate under these roots, or not at all: strangers are served too.
    Optional(Arc<Credentials>),
}

/// Why a port is not served.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Plaintext beyond this machine.
    #[error("{address} is not a loopback address: without TLS only 127.0.0.0/8 and ::1 are served")]
    PlaintextBeyondLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// The socket's own address cannot be read.
    #[error("the listening socket failed: {0}")]
    Socket(#[from] io::Error),
}

/// Accepts connections, for `serve_with_incoming`, as many as there is room for. A caller that does not finish its handshake
/// costs nobody else anything: nobody waits for it, and it is the first to go when the room is full. The stream never ends by
/// itself and yields no errors.
///
/// # Errors
/// [`ListenError`] when the listener may not be served this way.
pub fn incoming(
    listener: TcpListener,
    security: Security,
    room: Arc<Room>,
) -> Result<impl Stream<Item = Result<Connection, Infallible>> + Send, ListenError> {
    let address = listener.local_addr()?;
    if matches!(security, Security::Plaintext) && !address.ip().is_loopback() {
        return Err(ListenError::PlaintextBeyondLoopback { address });
    }
    let (handshakes, accepted_into) = (room.places() + 1, room);
    Ok(TcpListenerStream::new(listener)
        // Taken at once: one more than there is room for sends another away, whose handshake ends then.
        .map(move |accepted| admit(accepted, security.clone(), accepted_into.enter()))
        .buffer_unordered(handshakes)
        .filter_map(|connection| async { connection.map(Ok) })
        .boxed())
}

async fn admit(accepted: io::Result<TcpStream>, security: Security, place: Place) -> Option<Connection> {
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            return None;
        }
    };
    let away = place.away();
    let shaken = tokio::select! {
        () = away.cancelled() => return None,
        shaken = timeout(HANDSHAKE_TIME, shake_hands(stream, security, place)) => shaken,
    };
    match shaken {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a caller was turned away");
            None
        }
        Err(_) => {
            tracing::debug!("a caller did not finish its handshake");
            None
        }
    }
}

async fn shake_hands(stream: TcpStream, security: Security, place: Place) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let address = stream.peer_addr()?;
    match security {
        Security::Plaintext => Ok(Connection::plaintext(stream, address, place)),
        Security::Mutual(credentials) => {
            let stream = TlsAcceptor::from(credentials.server()).accept(stream).await?;
            Ok(Connection::tls(stream, address, place))
        }
        Security::Optional(credentials) => {
            let stream = TlsAcceptor::from(credentials.open_server()).accept(stream).await?;
            Ok(Connection::tls(stream, address, place))
        }
    }
}
