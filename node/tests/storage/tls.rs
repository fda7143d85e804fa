//! Who gets in, and as whom.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt as _;
use proofline_node::{
    replica::Member,
    tls::{Caller, Credentials, ListenError, Room, Security, TlsFiles, Transport, incoming},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const VALID: (i32, i32) = (2020, 4000);
const EXPIRED: (i32, i32) = (2020, 2021);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, spiffe: &str, years: (i32, i32)) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf(spiffe, years).signed_by(&key, &self.0).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

struct Issued {
    certificate: String,
    key: String,
}

fn leaf(spiffe: &str, (from, to): (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(spiffe.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    params
}

fn self_signed(spiffe: &str) -> Issued {
    let key = KeyPair::generate().unwrap();
    let certificate = leaf(spiffe, VALID).self_signed(&key).unwrap();
    Issued { certificate: certificate.pem(), key: key.serialize_pem() }
}

/// Certificate files on the disk.
struct Files {
    root: TempDir,
}

impl Files {
    fn new(issued: &Issued, roots: &Authority) -> Self {
        let files = Self { root: tempfile::tempdir().unwrap() };
        files.write(issued);
        fs::write(files.path("roots.pem"), roots.pem()).unwrap();
        files
    }

    fn write(&self, issued: &Issued) {
        fs::write(self.path("certificate.pem"), &issued.certificate).unwrap();
        fs::write(self.path("key.pem"), &issued.key).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn credentials(&self) -> Arc<Credentials> {
        let files = TlsFiles { certificate: self.path("certificate.pem"), key: self.path("key.pem"), roots: self.path("roots.pem") };
        Arc::new(Credentials::open(files).unwrap())
    }
}

/// A listener that serves the health protocol and tells who called.
struct Listener {
    address: String,
    callers: mpsc::UnboundedReceiver<Caller>,
}

impl Listener {
    async fn start(security: Security) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (known, callers) = mpsc::unbounded_channel();
        let accepted = incoming(listener, security, Room::of(64)).unwrap().inspect(move |connection| {
            if let Ok(connection) = connection {
                known.send(connection.caller().clone()).unwrap();
            }
        });
        let (_, health) = tonic_health::server::health_reporter();
        tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(accepted));
        Self { address, callers }
    }

    fn member(&self, name: &str) -> Member {
        Member { name: name.to_owned(), peer_address: self.address.clone(), client_address: String::new() }
    }
}

async fn call(transport: &Transport, member: &Member) -> Result<(), tonic::Status> {
    let channel = transport.channel(member).unwrap();
    let check = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    check.map(drop)
}

fn node(name: &str) -> String {
    format!("spiffe://example.org/node/{name}")
}

struct Cluster {
    peers: Authority,
    beta: Files,
    listener: Listener,
}

impl Cluster {
    /// The node beta listens; what calls it is up to the test.
    async fn new() -> Self {
        let peers = Authority::new("peers");
        let beta = Files::new(&peers.issue(&node("beta"), VALID), &peers);
        let listener = Listener::start(Security::Mutual(beta.credentials())).await;
        Self { peers, beta, listener }
    }

    async fn called_by(&self, issued: &Issued) -> Result<(), tonic::Status> {
        let transport = Transport::mutual(Files::new(issued, &self.peers).credentials()).unwrap();
        call(&transport, &self.listener.member("beta")).await
    }
}

#[tokio::test]
async fn a_node_with_a_good_certificate_gets_in_under_its_name() {
    let mut cluster = Cluster::new().await;
    cluster.called_by(&cluster.peers.issue(&node("alpha"), VALID)).await.unwrap();
    let caller = cluster.listener.callers.recv().await.unwrap();
    assert_eq!(caller.identity.unwrap().node_name(), Some("alpha"));
}

#[tokio::test]
async fn an_expired_certificate_stays_outside() {
    let cluster = Cluster::new().await;
    cluster.called_by(&cluster.peers.issue(&node("alpha"), EXPIRED)).await.unwrap_err();
}

#[tokio::test]
async fn a_certificate_under_another_root_stays_outside() {
    let cluster = Cluster::new().await;
    cluster.called_by(&Authority::new("others").issue(&node("alpha"), VALID)).await.unwrap_err();
}

#[tokio::test]
async fn a_certificate_under_a_root_of_the_same_name_stays_outside() {
    let cluster = Cluster::new().await;
    cluster.called_by(&Authority::new("peers").issue(&node("alpha"), VALID)).await.unwrap_err();
}

#[tokio::test]
async fn a_self_signed_certificate_stays_outside() {
    let cluster = Cluster::new().await;
    cluster.called_by(&self_signed(&node("alpha"))).await.unwrap_err();
}

#[tokio::test]
async fn a_caller_without_a_certificate_stays_outside() {
    let cluster = Cluster::new().await;
    call(&Transport::Plaintext, &cluster.listener.member("beta")).await.unwrap_err();
}

#[tokio::test]
async fn a_client_certificate_opens_nothing_on_the_peer_listener_and_the_reverse() {
    let (peers, clients) = (Authority::new("peers"), Authority::new("clients"));
    let (peer, client) = (peers.issue(&node("alpha"), VALID), clients.issue("spiffe://example.org/collector/a", VALID));
    let server = peers.issue(&node("beta"), VALID);
    for (accepted, sent) in [(&peers, &client), (&clients, &peer)] {
        // The server proves itself with a certificate that the caller accepts; the caller's own is the one in question.
        let listener = Listener::start(Security::Mutual(Files::new(&server, accepted).credentials())).await;
        let transport = Transport::mutual(Files::new(sent, &peers).credentials()).unwrap();
        call(&transport, &listener.member("beta")).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_node_that_answers_under_another_name_is_not_talked_to() {
    let cluster = Cluster::new().await;
    let transport = Transport::mutual(Files::new(&cluster.peers.issue(&node("alpha"), VALID), &cluster.peers).credentials()).unwrap();
    call(&transport, &cluster.listener.member("gamma")).await.unwrap_err();
}

#[tokio::test]
async fn a_server_under_another_root_or_with_an_expired_certificate_is_not_talked_to() {
    let peers = Authority::new("peers");
    for server in [Authority::new("others").issue(&node("beta"), VALID), peers.issue(&node("beta"), EXPIRED), self_signed(&node("beta"))] {
        let listener = Listener::start(Security::Mutual(Files::new(&server, &peers).credentials())).await;
        let transport = Transport::mutual(Files::new(&peers.issue(&node("alpha"), VALID), &peers).credentials()).unwrap();
        call(&transport, &listener.member("beta")).await.unwrap_err();
    }
}

#[tokio::test]
async fn replaced_certificate_files_are_used_for_the_next_connection() {
    let mut cluster = Cluster::new().await;
    let caller = Files::new(&cluster.peers.issue(&node("alpha"), EXPIRED), &cluster.peers);
    let transport = Transport::mutual(caller.credentials()).unwrap();
    call(&transport, &cluster.listener.member("beta")).await.unwrap_err();

    caller.write(&cluster.peers.issue(&node("renamed-alpha"), VALID));
    cluster.beta.write(&cluster.peers.issue(&node("beta"), VALID));
    call(&transport, &cluster.listener.member("beta")).await.unwrap();
    let caller = cluster.listener.callers.recv().await.unwrap();
    assert_eq!(caller.identity.unwrap().node_name(), Some("renamed-alpha"));
}

#[tokio::test]
async fn a_half_replaced_pair_of_files_keeps_the_certificate_in_use() {
    let cluster = Cluster::new().await;
    let fresh = cluster.peers.issue(&node("beta"), VALID);
    fs::write(cluster.beta.path("certificate.pem"), &fresh.certificate).unwrap();
    cluster.called_by(&cluster.peers.issue(&node("alpha"), VALID)).await.unwrap();
    fs::write(cluster.beta.path("key.pem"), &fresh.key).unwrap();
    cluster.called_by(&cluster.peers.issue(&node("alpha"), VALID)).await.unwrap();
}

#[tokio::test]
async fn a_caller_that_never_finishes_its_handshake_keeps_nobody_out() {
    let cluster = Cluster::new().await;
    let _silent = tokio::net::TcpStream::connect(&cluster.listener.address).await.unwrap();
    let alpha = cluster.peers.issue(&node("alpha"), VALID);
    tokio::time::timeout(Duration::from_secs(4), cluster.called_by(&alpha)).await.unwrap().unwrap();
}

#[tokio::test]
async fn plaintext_serves_loopback_addresses_only() {
    let mut listener = Listener::start(Security::Plaintext).await;
    call(&Transport::Plaintext, &listener.member("beta")).await.unwrap();
    assert_eq!(listener.callers.recv().await.unwrap().identity, None);

    let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = incoming(everywhere, Security::Plaintext, Room::of(64)).err().unwrap();
    assert!(matches!(refused, ListenError::PlaintextBeyondLoopback { .. }), "{refused}");
}

#[tokio::test]
async fn a_certificate_that_names_no_node_cannot_call_nodes() {
    let peers = Authority::new("peers");
    let mut params = leaf(&node("alpha"), VALID);
    params.subject_alt_names = vec![SanType::DnsName("alpha.example.org".try_into().unwrap())];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &peers.0).unwrap();
    let nameless = Issued { certificate: certificate.pem(), key: key.serialize_pem() };
    Transport::mutual(Files::new(&nameless, &peers).credentials()).unwrap_err();
}
