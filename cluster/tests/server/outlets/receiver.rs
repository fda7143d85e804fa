//! A receiver over TLS that answers as it is told, and remembers everything that came.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use proofline_cluster::{Plan, authority::Validity, spiffe};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring},
};

const WITHIN: Duration = Duration::from_secs(60);

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) path: String,
    /// By lower-case names.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// What is done about a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Status, further header lines, body.
    Answer(u16, &'static str, String),
    /// Nothing until the sender is told so, then a hang-up.
    Hold(watch::Receiver<bool>),
    /// A hang-up at once.
    HangUp,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, "", String::new())
    }
}

/// Says what is done about a request: `earlier` is how many came to the same path before.
type Script = Arc<dyn Fn(&Got, usize) -> Reply + Send + Sync>;

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    got: watch::Receiver<Vec<Got>>,
}

impl Receiver {
    pub(crate) async fn start(plan: &Plan, script: impl Fn(&Got, usize) -> Reply + Send + Sync + 'static) -> Self {
        let issued = plan.client_authority().unwrap().issue(&spiffe("receiver"), Validity::usual()).unwrap();
        let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (came, got) = watch::channel(Vec::new());
        let (script, acceptor, came): (Script, _, _) = (Arc::new(script), TlsAcceptor::from(Arc::new(config)), Arc::new(came));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&script), Arc::clone(&came)));
            }
        });
        Self { address, got }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.address.port())
    }

    /// Waits until `count` requests came to a path, and returns all that did.
    pub(crate) async fn received(&self, path: &str, count: usize) -> Vec<Got> {
        let mut got = self.got.clone();
        let of_path = |got: &[Got]| got.iter().filter(|it| it.path == path).cloned().collect::<Vec<_>>();
        let enough = tokio::time::timeout(WITHIN, got.wait_for(|got| of_path(got).len() >= count)).await;
        of_path(&enough.unwrap_or_else(|_| panic!("{count} requests to {path} in time, not {:?}", self.got.borrow().len())).unwrap())
    }

    /// Returns what came to a path so far.
    pub(crate) fn so_far(&self, path: &str) -> usize {
        self.got.borrow().iter().filter(|it| it.path == path).count()
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, script: Script, came: Arc<watch::Sender<Vec<Got>>>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let mut stream = BufReader::new(stream);
    let Some(got) = read(&mut stream).await else { return };
    let mut earlier = 0;
    came.send_modify(|all| {
        earlier = all.iter().filter(|it| it.path == got.path).count();
        all.push(got.clone());
    });
    match script(&got, earlier) {
        Reply::HangUp => (),
        Reply::Hold(mut until) => drop(until.wait_for(|over| *over).await),
        Reply::Answer(status, headers, body) => {
            let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n", body.len());
            // A sender that has read enough hangs up before the end.
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    }
}

async fn read(stream: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<Got> {
    let (mut first, mut headers) = (String::new(), BTreeMap::new());
    stream.read_line(&mut first).await.ok()?;
    let mut words = first.split_whitespace();
    assert_eq!(words.next()?, "POST");
    let path = words.next()?.trim_start_matches('/').to_owned();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some(Got { path, headers, body: String::from_utf8(body).ok()? })
}
