use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    server::{VerifierBuilderError, WebPkiClientVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use thiserror::Error;

use super::{SpiffeError, SpiffeId, verifier::NodeVerifier};

const ALPN: &[u8] = b"h2";

/// Where a listener's certificate, key and root lie, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// This node's certificate, and the intermediates up to the root.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The roots under which the other side's certificates must be.
    pub roots: PathBuf,
}

/// Why credentials cannot be used.
#[derive(Debug, Error)]
pub enum CredentialsError {
    /// A file cannot be read, or holds no PEM of the kind.
    #[error("cannot read {path}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls_pki_types::pem::Error,
    },
    /// A file's age cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Certificate and key do not fit, or the TLS library refuses one of them.
    #[error("cannot use {path}: {source}")]
    Refused {
        /// The certificate.
        path: PathBuf,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// The roots cannot be used to check callers.
    #[error("cannot use the roots in {path}: {source}")]
    Roots {
        /// The roots.
        path: PathBuf,
        /// What the TLS library said.
        source: VerifierBuilderError,
    },
    /// Nodes need a certificate that names them.
    #[error("{path} names no node: {source}")]
    Nameless {
        /// The certificate.
        path: PathBuf,
        /// Why.
        source: SpiffeError,
    },
}

/// A certificate, its key and the roots for the other side, read again when their files change. TLS 1.3 only.
#[derive(Debug)]
pub struct Credentials {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    loaded: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    seen: Option<FileState>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<RootCertStore>,
    server: Arc<ServerConfig>,
    open_server: Arc<ServerConfig>,
}

/// Modification time and size of each file: enough to notice a replaced one.
type FileState = [(SystemTime, u64); 3];

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// [`CredentialsError`] when a file is missing or does not fit the others.
    pub fn open(files: TlsFiles) -> Result<Self, CredentialsError> {
        let provider = Arc::new(ring::default_provider());
        let seen = files.state()?;
        let loaded = ArcSwap::from_pointee(Loaded::read(&files, &provider, Some(seen))?);
        Ok(Self { files, provider, loaded })
    }

    /// Returns the SPIFFE id of the own certificate.
    ///
    /// # Errors
    /// [`CredentialsError::Nameless`] when it carries none.
    pub fn identity(&self) -> Result<SpiffeId, CredentialsError> {
        let loaded = self.loaded.load();
        let id = loaded.chain.first().map_or(Err(SpiffeError::Unparsable), SpiffeId::of_certificate);
        id.map_err(|source| CredentialsError::Nameless { path: self.files.certificate.clone(), source })
    }

    /// Returns what a listener needs for its next connection: a certificate is asked for, and must be under the roots.
    pub(super) fn server(&self) -> Arc<ServerConfig> {
        self.refresh();
        Arc::clone(&self.loaded.load().server)
    }

    /// Returns what a listener needs that serves strangers too: a certificate is asked for, and when one comes it must be
    /// under the roots.
    pub(super) fn open_server(&self) -> Arc<ServerConfig> {
        self.refresh();
        Arc::clone(&self.loaded.load().open_server)
    }

    /// Returns what the next connection to the node `expected` needs.
    pub(super) fn client(&self, expected: SpiffeId) -> Result<ClientConfig, rustls::Error> {
        self.refresh();
        let loaded = self.loaded.load();
        let algorithms = self.provider.signature_verification_algorithms;
        let verifier = NodeVerifier::new(Arc::clone(&loaded.roots), expected, algorithms);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(loaded.chain.clone(), loaded.key.clone_key())?;
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    /// Reads the files again if one of them changed. Files that do not fit each other are left alone until they change
    /// again: whoever replaces them does so one by one.
    fn refresh(&self) {
        let loaded = self.loaded.load();
        let seen = self.files.state().ok();
        if seen.is_none() || seen == loaded.seen {
            return;
        }
        match Loaded::read(&self.files, &self.provider, seen) {
            Ok(fresh) => {
                tracing::info!(certificate = %self.files.certificate.display(), "using the replaced certificate files");
                self.loaded.store(Arc::new(fresh));
            }
            Err(error) => {
                tracing::warn!(%error, "keeping the certificates that were read before");
                self.loaded.store(Arc::new(loaded.seen_as(seen)));
            }
        }
    }
}

impl Loaded {
    fn read(files: &TlsFiles, provider: &Arc<CryptoProvider>, seen: Option<FileState>) -> Result<Self, CredentialsError> {
        let chain = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| CredentialsError::Pem { path: files.key.clone(), source })?;
        let roots = Arc::new(roots(&files.roots)?);
        let verifier = || WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider));
        let refused = |source| CredentialsError::Roots { path: files.roots.clone(), source };
        let named = verifier().build().map_err(refused)?;
        let anybody = verifier().allow_unauthenticated().build().map_err(refused)?;
        let server = |callers, protocols: &[&[u8]]| {
            let server = ServerConfig::builder_with_provider(Arc::clone(provider))
                .with_protocol_versions(&[&TLS13])
                .and_then(|builder| builder.with_client_cert_verifier(callers).with_single_cert(chain.clone(), key.clone_key()));
            let mut server = server.map_err(|source| CredentialsError::Refused { path: files.certificate.clone(), source })?;
            // A resumed session would not show its certificate again, and outlive it.
            server.send_tls13_tickets = 0;
            server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Ok::<_, CredentialsError>(Arc::new(server))
        };
        let (named, anybody) = (server(named, &[ALPN])?, server(anybody, &[ALPN, b"http/1.1"])?);
        Ok(Self { seen, chain, key, roots, server: named, open_server: anybody })
    }

    fn seen_as(&self, seen: Option<FileState>) -> Self {
        let Self { chain, key, roots, server, open_server, .. } = self;
        Self {
            seen,
            chain: chain.clone(),
            key: key.clone_key(),
            roots: Arc::clone(roots),
            server: Arc::clone(server),
            open_server: Arc::clone(open_server),
        }
    }
}

impl TlsFiles {
    fn state(&self) -> Result<FileState, CredentialsError> {
        let of = |path: &Path| {
            let metadata = fs::metadata(path)?;
            Ok((metadata.modified()?, metadata.len()))
        };
        let state = |path: &PathBuf| of(path).map_err(|source| CredentialsError::File { path: path.clone(), source });
        Ok([state(&self.certificate)?, state(&self.key)?, state(&self.roots)?])
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| CredentialsError::Pem { path: path.to_owned(), source })
}

fn roots(path: &Path) -> Result<RootCertStore, CredentialsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|source| CredentialsError::Refused { path: path.to_owned(), source })?;
    }
    Ok(store)
}
