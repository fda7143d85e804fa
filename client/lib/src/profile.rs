//! Profiles: where a ledger is, what it is called, whom to trust, and with which certificate to come.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use http::Uri;
use proofline_verifier::{Policy, PolicyError};
use serde::Deserialize;
use thiserror::Error;

/// Why a profile cannot be used.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML of the documented form; unknown keys are errors.
    #[error("{path}: {source}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
    /// The profile names no endpoint.
    #[error("{path} names no endpoint")]
    NoEndpoint {
        /// The file.
        path: PathBuf,
    },
    /// No endpoint is that node's, or more than one.
    #[error("{count} endpoints of {path} are of {node:?}, one is needed: {}", endpoints.join(", "))]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        node: String,
        /// How many fit.
        count: usize,
        /// What the profile has.
        endpoints: Vec<String>,
    },
    /// An endpoint is not `http://HOST:PORT` or `https://HOST:PORT`.
    #[error("endpoint {0:?} is not http://HOST:PORT or https://HOST:PORT")]
    Endpoint(String),
    /// An endpoint without TLS is not on this machine.
    #[error("endpoint {0:?} has no TLS; http:// is for loopback addresses only")]
    PlaintextBeyondLoopback(String),
    /// An endpoint with TLS, and no `[tls]` table.
    #[error("endpoint {0:?} needs a [tls] table with roots, certificate and key")]
    TlsMissing(String),
    /// The policy file is no policy.
    #[error("{path}: {source}")]
    Policy {
        /// The file.
        path: PathBuf,
        /// Which line, and why.
        source: PolicyError,
    },
}

/// PEM files for mutual TLS. They are read anew for every connection, so replacing them needs no restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Roots under which the nodes' certificates are.
    pub roots: PathBuf,
    /// Certificate of this client, and the intermediates up to its root.
    pub certificate: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
}

/// An address of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    uri: Uri,
    channel: ChannelKind,
}

/// How the connection to an endpoint is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelKind {
    Plaintext,
    Tls,
}

impl Endpoint {
    /// Parses `https://HOST:PORT`, or `http://LOOPBACK:PORT`.
    ///
    /// # Errors
    /// [`ProfileError::Endpoint`] and [`ProfileError::PlaintextBeyondLoopback`].
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let malformed = || ProfileError::Endpoint(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && uri.port_u16().is_some();
        let host = uri.host().filter(|_| is_bare).ok_or_else(malformed)?;
        match uri.scheme_str() {
            Some("https") => Ok(Self { channel: ChannelKind::Tls, uri }),
            Some("http") if is_loopback(host) => Ok(Self { channel: ChannelKind::Plaintext, uri }),
            Some("http") => Err(ProfileError::PlaintextBeyondLoopback(text.to_owned())),
            Some(_) | None => Err(malformed()),
        }
    }

    /// Tells whether this is the endpoint of a node: its whole text, `HOST:PORT` or `HOST`.
    fn is_of(&self, node: &str) -> bool {
        let authority = self.uri.authority().map(http::uri::Authority::as_str);
        self.to_string() == node || authority == Some(node) || self.uri.host() == Some(node)
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) fn channel(&self) -> ChannelKind {
        self.channel
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let authority = self.uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        write!(out, "{scheme}://{authority}")
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What a client needs to know of one ledger. Paths are absolute or relative to the profile's own directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The file that it was read from.
    pub path: PathBuf,
    /// Name of the log, as in its checkpoints.
    pub origin: String,
    /// Nodes, in the order in which they are tried.
    pub endpoints: Vec<Endpoint>,
    /// Trust policy file.
    pub policy: PathBuf,
    /// Files for mutual TLS; needed for `https://`.
    pub tls: Option<TlsFiles>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    origin: String,
    endpoints: Vec<String>,
    policy: PathBuf,
    tls: Option<WrittenTls>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTls {
    roots: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`ProfileError`] when it cannot be read or says something that cannot be meant.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let text = fs::read_to_string(path).map_err(|source| ProfileError::Unreadable { path: path.to_owned(), source })?;
        let written: Written = toml::from_str(&text).map_err(|source| ProfileError::Form { path: path.to_owned(), source })?;
        let beside = |file: PathBuf| path.parent().unwrap_or(Path::new("")).join(file);
        let endpoints = written.endpoints.iter().map(|text| Endpoint::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let tls = written.tls.map(|tls| TlsFiles { roots: beside(tls.roots), certificate: beside(tls.certificate), key: beside(tls.key) });
        if endpoints.is_empty() {
            return Err(ProfileError::NoEndpoint { path: path.to_owned() });
        }
        if let (None, Some(endpoint)) = (&tls, endpoints.iter().find(|it| it.channel == ChannelKind::Tls)) {
            return Err(ProfileError::TlsMissing(endpoint.to_string()));
        }
        Ok(Self { path: path.to_owned(), origin: written.origin, endpoints, policy: beside(written.policy), tls })
    }

    /// Returns the profile with the endpoint of one node alone: `HOST:PORT` or `HOST` of it, or its whole text.
    ///
    /// # Errors
    /// [`ProfileError::OtherNode`].
    pub fn only(&self, node: &str) -> Result<Self, ProfileError> {
        let endpoints: Vec<Endpoint> = self.endpoints.iter().filter(|endpoint| endpoint.is_of(node)).cloned().collect();
        if endpoints.len() == 1 {
            return Ok(Self { endpoints, ..self.clone() });
        }
        Err(ProfileError::OtherNode {
            path: self.path.clone(),
            node: node.to_owned(),
            count: endpoints.len(),
            endpoints: self.endpoints.iter().map(ToString::to_string).collect(),
        })
    }

    /// Reads the trust policy that the profile names.
    ///
    /// # Errors
    /// [`ProfileError::Unreadable`] and [`ProfileError::Policy`].
    pub fn load_policy(&self) -> Result<Policy, ProfileError> {
        let bytes = fs::read(&self.policy).map_err(|source| ProfileError::Unreadable { path: self.policy.clone(), source })?;
        Policy::parse(&bytes).map_err(|source| ProfileError::Policy { path: self.policy.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Profile, ProfileError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("profile.toml");
        fs::write(&path, text).unwrap();
        Profile::load(&path)
    }

    #[test]
    fn files_are_found_beside_the_profile() {
        let profile = load(
            "origin = \"ledger.example/agents\"\nendpoints = [\"https://node.example:7443\"]\npolicy = \"policy.txt\"\n\
             [tls]\nroots = \"/etc/roots.pem\"\ncertificate = \"me.pem\"\nkey = \"me.key.pem\"\n",
        )
        .unwrap();
        let directory = profile.path.parent().unwrap();
        assert_eq!(profile.policy, directory.join("policy.txt"));
        let tls = profile.tls.unwrap();
        assert_eq!((tls.roots, tls.certificate), (PathBuf::from("/etc/roots.pem"), directory.join("me.pem")));
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let found = load("origin = \"a\"\nendpoints = [\"http://127.0.0.1:1\"]\npolicy = \"p\"\npolcy = \"q\"\n");
        assert!(matches!(found, Err(ProfileError::Form { .. })));
    }

    #[test]
    fn plaintext_is_for_loopback_only() {
        for allowed in ["http://127.0.0.1:80", "http://[::1]:80", "http://localhost:80"] {
            assert!(Endpoint::parse(allowed).is_ok(), "{allowed}");
        }
        assert!(matches!(Endpoint::parse("http://10.0.0.1:80"), Err(ProfileError::PlaintextBeyondLoopback(_))));
        assert!(matches!(Endpoint::parse("http://localhost.example:80"), Err(ProfileError::PlaintextBeyondLoopback(_))));
    }

    #[test]
    fn an_endpoint_has_a_port_and_nothing_behind_it() {
        for text in ["https://node.example", "https://node.example:1/path", "ftp://node.example:1", "node.example:1", ""] {
            assert!(matches!(Endpoint::parse(text), Err(ProfileError::Endpoint(_))), "{text}");
        }
    }

    #[test]
    fn one_node_is_picked_by_its_address_or_its_host() {
        let profile =
            load("origin = \"a\"\nendpoints = [\"http://localhost:1\", \"http://127.0.0.1:2\", \"http://127.0.0.1:3\"]\npolicy = \"p\"\n")
                .unwrap();
        for (node, picked) in [("localhost", 0), ("127.0.0.1:2", 1), ("http://127.0.0.1:3", 2)] {
            assert_eq!(profile.only(node).unwrap().endpoints, [profile.endpoints[picked].clone()], "{node}");
        }
        for (node, fit) in [("127.0.0.1", 2), ("node-4", 0)] {
            assert!(matches!(profile.only(node), Err(ProfileError::OtherNode { count, .. }) if count == fit), "{node}");
        }
    }

    #[test]
    fn https_needs_a_certificate() {
        let found = load("origin = \"a\"\nendpoints = [\"https://node.example:1\"]\npolicy = \"p\"\n");
        assert!(matches!(found, Err(ProfileError::TlsMissing(_))));
    }
}
