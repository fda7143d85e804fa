//! Connections to nodes: TLS 1.3 with a client certificate, or plaintext within this machine.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::ring, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Channel;
use tower::service_fn;

use crate::{
    gathering::Gathering,
    profile::{ChannelKind, Endpoint, TlsFiles},
};

const ALPN: &[u8] = b"h2";
/// How long a connection may take at first, if not less is left for each endpoint, but no less than the least; and at the most.
const CONNECT_FIRST: Duration = Duration::from_millis(900);
const CONNECT_LEAST: Duration = Duration::from_millis(500);
const CONNECT_LONGEST: Duration = Duration::from_secs(3);
/// A connection whose other end is gone without a word is given up after these two.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(5);
/// Enough for a window of full batches without waiting for the receiver.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Why the files for TLS cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the kind.
    #[error("cannot read {path}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// The TLS library refuses what a file holds.
    #[error("cannot use {path}: {source}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: rustls::Error,
    },
    /// `https://` and no files.
    #[error("endpoint {0} needs certificate files")]
    Missing(String),
}

/// Why a connection was not made.
#[derive(Debug, Error)]
enum ConnectError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{0} is not a loopback address, and the endpoint has no TLS")]
    PlaintextBeyondLoopback(String),
    #[error("{0:?} is no host name")]
    Host(String),
    #[error("not connected within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// How long a node is waited for while a connection is made: little at first, so that one that hangs costs little where
/// others answer, and twice as long after each time that was too short, so that one far away or under load is reached, too.
#[derive(Debug)]
struct Patience {
    first: Duration,
    /// Times in a row that it was too short.
    lost: AtomicU32,
}

impl Patience {
    /// `share` is what there is for each endpoint.
    fn new(share: Duration) -> Self {
        Self { first: share.clamp(CONNECT_LEAST, CONNECT_FIRST), lost: AtomicU32::new(0) }
    }

    fn now(&self) -> Duration {
        let doubled = 1_u32.checked_shl(self.lost.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        self.first.saturating_mul(doubled).min(CONNECT_LONGEST)
    }

    async fn wait<T>(&self, connecting: impl Future<Output = Result<T, ConnectError>>) -> Result<T, ConnectError> {
        let within = self.now();
        match tokio::time::timeout(within, connecting).await {
            Ok(connected) => {
                if connected.is_ok() {
                    self.lost.store(0, Ordering::Relaxed);
                }
                connected
            }
            Err(_) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                Err(ConnectError::TimedOut(within))
            }
        }
    }
}

/// Returns a channel to a node. It connects on first use, and again whenever it broke. `share` is the part of a call's time
/// that this endpoint has when all hang.
///
/// # Errors
/// [`TlsError`] when the files cannot be used as they are now.
pub(crate) fn channel(endpoint: &Endpoint, tls: Option<&TlsFiles>, share: Duration) -> Result<Channel, TlsError> {
    // The scheme is `http` for tonic in either case: the connector below does TLS itself.
    let authority = endpoint.uri().authority().map(ToString::to_string).unwrap_or_default();
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query("/").build().unwrap_or_default();
    let settings = tonic::transport::Endpoint::from(uri)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_TIME)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let patience = Arc::new(Patience::new(share));
    match (endpoint.channel(), tls) {
        (ChannelKind::Plaintext, _) => Ok(settings.connect_with_connector_lazy(service_fn(move |uri| {
            let patience = Arc::clone(&patience);
            async move { patience.wait(connect_plaintext(uri)).await }
        }))),
        (ChannelKind::Tls, None) => Err(TlsError::Missing(endpoint.to_string())),
        (ChannelKind::Tls, Some(files)) => {
            client_config(files)?;
            let files = files.clone();
            Ok(settings.connect_with_connector_lazy(service_fn(move |uri| {
                let (patience, files) = (Arc::clone(&patience), files.clone());
                async move { patience.wait(connect_tls(uri, files)).await }
            })))
        }
    }
}

async fn connect_plaintext(uri: Uri) -> Result<TokioIo<Gathering<TcpStream>>, ConnectError> {
    let stream = connect_tcp(&uri).await?;
    if !stream.peer_addr()?.ip().is_loopback() {
        return Err(ConnectError::PlaintextBeyondLoopback(uri.to_string()));
    }
    Ok(TokioIo::new(Gathering(stream)))
}

async fn connect_tls(uri: Uri, files: TlsFiles) -> Result<TokioIo<Gathering<TlsStream<TcpStream>>>, ConnectError> {
    let host = host_of(&uri)?;
    let server = ServerName::try_from(host.clone()).map_err(|_| ConnectError::Host(host))?;
    let connector = TlsConnector::from(Arc::new(client_config(&files)?));
    Ok(TokioIo::new(Gathering(connector.connect(server, connect_tcp(&uri).await?).await?)))
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

fn client_config(files: &TlsFiles) -> Result<ClientConfig, TlsError> {
    let refused = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Refused { path, source }
    };
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| TlsError::Pem { path: files.key.clone(), source })?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(refused(&files.certificate))?
        .with_root_certificates(roots(&files.roots)?)
        .with_client_auth_cert(certificates(&files.certificate)?, key)
        .map_err(refused(&files.certificate))?;
    // A resumed session would outlive a certificate that was replaced.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|source| TlsError::Pem { path: path.to_owned(), source })
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|source| TlsError::Refused { path: path.to_owned(), source })?;
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn within(patience: &Patience, ms: u64) -> bool {
        let connecting = async {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(())
        };
        patience.wait(connecting).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_waited_for_longer_each_time_it_did_not_connect() {
        let patience = Patience::new(Duration::from_secs(10));
        assert!(!within(&patience, 2_500).await, "0.9 s are too short");
        assert!(!within(&patience, 2_500).await, "so are 1.8 s");
        assert!(within(&patience, 2_500).await, "3 s are not");
        assert_eq!(patience.now(), CONNECT_FIRST, "and then it is as at first");
        for _ in 0..40 {
            assert!(!within(&patience, 60_000).await);
        }
        assert_eq!(patience.now(), CONNECT_LONGEST);
        let refused = patience.wait(async { Err::<(), _>(ConnectError::Host(String::new())) }).await;
        let shares = [Duration::ZERO, Duration::from_millis(700), Duration::MAX];
        assert_eq!(shares.map(|share| Patience::new(share).now()), [CONNECT_LEAST, shares[1], CONNECT_FIRST]);
        assert!(refused.is_err() && patience.now() == CONNECT_LONGEST, "a refusal says nothing about how long it takes");
    }
}
