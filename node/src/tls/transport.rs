use std::{io, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::{Credentials, CredentialsError, SpiffeError, SpiffeId};
use crate::replica::Member;

const CONNECT_TIME: Duration = Duration::from_secs(1);
/// A connection whose other end is gone without a word is given up after these two.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(3);
/// Enough for an append of the usual size without waiting for the receiver.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// How connections to other nodes are made.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Without TLS, to loopback addresses only.
    Plaintext,
    /// With this node's certificate, and to nodes of its own trust domain under the peers' root.
    Mutual {
        /// The peers' credentials.
        credentials: Arc<Credentials>,
        /// This node's own id.
        identity: SpiffeId,
    },
}

/// Why a member cannot be addressed.
#[derive(Clone, Debug, Error)]
pub enum AddressError {
    /// Its address is no `host:port`.
    #[error("{address:?} of node {name} is not host:port")]
    Malformed {
        /// Name of the node.
        name: String,
        /// Its address.
        address: String,
    },
    /// Its name cannot stand in a certificate.
    #[error("node {name} cannot be named in a certificate: {source}")]
    Name {
        /// Name of the node.
        name: String,
        /// Why.
        source: SpiffeError,
    },
}

/// Why a connection was not made.
#[derive(Debug, Error)]
enum ConnectError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error("{0} is not a loopback address, and TLS is off")]
    PlaintextBeyondLoopback(String),
    #[error("{0:?} is no host name")]
    Host(String),
}

impl Transport {
    /// Connects with the certificate in `credentials`, which must name this node.
    ///
    /// # Errors
    /// [`CredentialsError::Nameless`] when it does not.
    pub fn mutual(credentials: Arc<Credentials>) -> Result<Self, CredentialsError> {
        let identity = credentials.identity()?;
        Ok(Self::Mutual { credentials, identity })
    }

    /// Returns a channel to the peer listener of `member`. It connects on first use, and again whenever it broke, each time
    /// with the certificates as they are then.
    ///
    /// # Errors
    /// [`AddressError`] when the member cannot be addressed at all.
    pub fn channel(&self, member: &Member) -> Result<Channel, AddressError> {
        let (name, address) = (member.name.clone(), member.peer_address.clone());
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .ok()
            .filter(|endpoint| endpoint.uri().port_u16().is_some())
            .ok_or_else(|| AddressError::Malformed { name: name.clone(), address: address.clone() })?
            .connect_timeout(CONNECT_TIME)
            .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_TIME)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        Ok(match self {
            Self::Plaintext => endpoint.connect_with_connector_lazy(service_fn(connect_plaintext)),
            Self::Mutual { credentials, identity } => {
                let expected = identity.node(&member.name).map_err(|source| AddressError::Name { name, source })?;
                let credentials = Arc::clone(credentials);
                let connect = move |uri| connect_tls(uri, Arc::clone(&credentials), expected.clone());
                endpoint.connect_with_connector_lazy(service_fn(connect))
            }
        })
    }
}

async fn connect_plaintext(uri: Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
    let stream = connect_tcp(&uri).await?;
    if !stream.peer_addr()?.ip().is_loopback() {
        return Err(ConnectError::PlaintextBeyondLoopback(uri.to_string()));
    }
    Ok(TokioIo::new(stream))
}

async fn connect_tls(uri: Uri, credentials: Arc<Credentials>, expected: SpiffeId) -> Result<TokioIo<TlsStream<TcpStream>>, ConnectError> {
    // The verifier compares SPIFFE ids; the host only goes into the handshake.
    let host = host_of(&uri)?;
    let server = ServerName::try_from(host.clone()).map_err(|_| ConnectError::Host(host))?;
    let connector = TlsConnector::from(Arc::new(credentials.client(expected)?));
    Ok(TokioIo::new(connector.connect(server, connect_tcp(&uri).await?).await?))
}

async fn connect_tcp(uri: &Uri) -> Result<TcpStream, ConnectError> {
    let addresses = lookup_host((host_of(uri)?, uri.port_u16().unwrap_or_default())).await?;
    let stream = TcpStream::connect(addresses.collect::<Vec<_>>().as_slice()).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn host_of(uri: &Uri) -> Result<String, ConnectError> {
    let host = uri.host().ok_or_else(|| ConnectError::Host(uri.to_string()))?;
    Ok(host.trim_start_matches('[').trim_end_matches(']').to_owned())
}
