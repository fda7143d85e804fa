//! One POST over a connection of its own: bounded in time, redirects not followed, the answer read within bounds.

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proofline_ledger::{Endpoint, Scheme};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

/// What is read of an answer that explains itself.
const ANSWER_BYTES_MAX: usize = 8 << 10;
/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// A receiver may ask for patience, not for silence.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);
const USER_AGENT: &str = concat!("proofline/", env!("CARGO_PKG_VERSION"));

/// What is posted.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) endpoint: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

/// Sends messages.
#[derive(Clone)]
pub(crate) struct Post {
    tls: Arc<ClientConfig>,
    timeout: Duration,
}

/// What a receiver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    /// As the sender asked for it; `None` when it is longer than what is read.
    pub(crate) body: Option<Bytes>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum NoAnswer {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("no TLS: {0}")]
    Tls(io::Error),
    #[error("no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the endpoint or a header cannot be written: {0}")]
    Request(#[from] http::Error),
    #[error("the endpoint cannot be read")]
    Endpoint,
}

impl NoAnswer {
    /// The code that is recorded.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Connect(_) => "unreachable",
            Self::Tls(_) => "tls",
            Self::Http(_) => "http",
            Self::Request(_) | Self::Endpoint => "endpoint",
        }
    }
}

impl Post {
    /// Trusts the roots of a file, or the system's.
    pub(crate) fn new(trusted: Option<&Path>, timeout: Duration) -> Result<Self, String> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots(trusted)?)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(config), timeout })
    }

    /// Sends one message, once. Of the answers with which status the body is read, `reads` tells.
    pub(crate) async fn send(&self, message: &Message, reads: fn(u16) -> bool) -> Result<Answer, NoAnswer> {
        let sent = tokio::time::timeout(self.timeout, self.connect_and_send(message, reads)).await;
        sent.unwrap_or(Err(NoAnswer::Timeout(self.timeout)))
    }

    async fn connect_and_send(&self, message: &Message, reads: fn(u16) -> bool) -> Result<Answer, NoAnswer> {
        let to = Endpoint::parse(&message.endpoint).ok_or(NoAnswer::Endpoint)?;
        let addresses = lookup_host((to.host, to.port)).await.map_err(NoAnswer::Connect)?;
        let stream = TcpStream::connect(addresses.collect::<Vec<_>>().as_slice()).await.map_err(NoAnswer::Connect)?;
        match to.scheme {
            Scheme::HttpLoopback => exchange(stream, &to, message, reads).await,
            Scheme::Https => {
                let name = ServerName::try_from(to.host.to_owned()).map_err(|_| NoAnswer::Endpoint)?;
                let connector = TlsConnector::from(Arc::clone(&self.tls));
                exchange(connector.connect(name, stream).await.map_err(NoAnswer::Tls)?, &to, message, reads).await
            }
        }
    }
}

async fn exchange<S>(stream: S, to: &Endpoint<'_>, message: &Message, reads: fn(u16) -> bool) -> Result<Answer, NoAnswer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await?;
    let path = if to.path.starts_with('/') { to.path.to_owned() } else { format!("/{}", to.path) };
    let mut request = Request::builder().method(Method::POST).uri(path);
    request = request.header(header::HOST, to.authority).header(header::USER_AGENT, USER_AGENT);
    for (name, value) in &message.headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(message.body.clone())))?;
    let answered = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
        let body = if reads(status) { read(response.into_body()).await } else { None };
        Ok(Answer { status, retry_after, body })
    };
    // Ends with the answer; a connection that ends by itself has told the request so.
    let driven = async {
        drop(connection.await);
        std::future::pending().await
    };
    tokio::select! {
        answer = answered => answer,
        never = driven => never,
    }
}

async fn read(body: hyper::body::Incoming) -> Option<Bytes> {
    Some(Limited::new(body, ANSWER_BYTES_MAX).collect().await.ok()?.to_bytes())
}

/// Reads seconds or a date.
fn retry_after(value: &str) -> Option<Duration> {
    let asked = match value.trim().parse().map(Duration::from_secs) {
        Ok(asked) => asked,
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(std::time::SystemTime::now()).unwrap_or_default(),
    };
    Some(asked.min(RETRY_AFTER_MAX))
}

fn roots(trusted: Option<&Path>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    match trusted {
        Some(path) => {
            let failed = |error: String| format!("{}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
                store.add(certificate.map_err(|error| failed(error.to_string()))?).map_err(|error| failed(error.to_string()))?;
            }
        }
        None => drop(store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if store.is_empty() { Err("no root certificate was found".to_owned()) } else { Ok(store) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_not_for_ever() {
        assert_eq!(retry_after("120"), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("99999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("Wed, 21 Oct 2499 07:28:00 GMT"), Some(RETRY_AFTER_MAX));
        assert_eq!((retry_after("-1"), retry_after("soon"), retry_after("")), (None, None, None));
    }
}
