//! A GET over HTTP/1.1 to a node's tile listener: enough for readiness, metrics and tiles.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, version::TLS13},
};

use crate::plan::{Plan, PlannedNode, Tls};

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// How long the answer may be kept, as its header says.
    pub cache_control: Option<String>,
    /// The body as it came.
    pub body: Vec<u8>,
}

/// Gets `path` from the tile listener of a node, as a stranger without a certificate.
///
/// # Errors
/// When the node cannot be reached or does not speak HTTP.
pub async fn get(plan: &Plan, node: &PlannedNode, path: &str) -> Result<Response> {
    get_as(plan, node, path, None).await
}

/// Gets `path` with the certificate of a client of the plan, if one is named.
///
/// # Errors
/// As [`get`], and when the client has no certificate.
pub async fn get_as(plan: &Plan, node: &PlannedNode, path: &str, client: Option<&str>) -> Result<Response> {
    let stream = TcpStream::connect(node.tiles).await?;
    match plan.tls {
        Tls::Off => exchange(stream, path).await,
        Tls::Mutual => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(plan.root.join("tls/clients-root.pem"))?)?;
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&[&TLS13])?
                .with_root_certificates(roots);
            let config = match client.map(|client| plan.profile(client)) {
                Some(profile) => {
                    let certificate = CertificateDer::pem_file_iter(profile.with_extension("pem"))?.collect::<Result<Vec<_>, _>>()?;
                    config.with_client_auth_cert(certificate, PrivateKeyDer::from_pem_file(profile.with_extension("key.pem"))?)?
                }
                None => config.with_no_client_auth(),
            };
            let name = ServerName::try_from("localhost")?;
            exchange(TlsConnector::from(Arc::new(config)).connect(name, stream).await?, path).await
        }
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> Result<Response> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut bytes = Vec::new();
    // A peer that closes without a TLS goodbye after its answer has still answered.
    let read = stream.read_to_end(&mut bytes).await;
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let at = split.with_context(|| format!("no HTTP answer ({read:?})"))?;
    let (head, body) = (String::from_utf8_lossy(bytes.get(..at).unwrap_or_default()).into_owned(), bytes.get(at + 4..));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no HTTP status")?;
    let headers = head.lines().filter_map(|line| line.split_once(':'));
    let cache_control =
        headers.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("cache-control")).map(|(_, value)| value.trim().to_owned());
    let body = body.unwrap_or_default().to_vec();
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok(Response { status, cache_control, body: if is_chunked { dechunk(&body) } else { body } })
}

fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let (length, tail) = rest.split_at(end);
        let length = std::str::from_utf8(length).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
        let Some(chunk) = tail.get(2..2 + length).filter(|_| length > 0) else { break };
        whole.extend_from_slice(chunk);
        rest = tail.get(4 + length..).unwrap_or_default();
    }
    whole
}
