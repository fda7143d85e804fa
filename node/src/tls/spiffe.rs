use std::fmt;

use rustls_pki_types::CertificateDer;
use thiserror::Error;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

const SCHEME: &str = "spiffe://";
const BYTES_MAX: usize = 2048;

/// The name in a certificate: `spiffe://<trust domain>/<path>`. A node's path is `/node/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: String,
    trust_domain_end: usize,
}

/// Why a certificate names nobody.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SpiffeError {
    /// The certificate cannot be parsed.
    #[error("the certificate cannot be parsed")]
    Unparsable,
    /// The certificate has no URI, or more than one.
    #[error("the certificate carries {found} URI names, a SPIFFE certificate carries one")]
    NotOne {
        /// How many it has.
        found: usize,
    },
    /// The URI is no SPIFFE id.
    #[error("{0:?} is no SPIFFE id")]
    Malformed(String),
}

impl SpiffeId {
    /// Parses an id.
    ///
    /// # Errors
    /// [`SpiffeError::Malformed`] when it does not have the form that the SPIFFE standard gives it.
    pub fn parse(text: &str) -> Result<Self, SpiffeError> {
        let malformed = || SpiffeError::Malformed(text.to_owned());
        let rest = text.strip_prefix(SCHEME).filter(|_| text.len() <= BYTES_MAX).ok_or_else(malformed)?;
        let (trust_domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        let segments_well_formed = path.is_empty() && !rest.ends_with('/') || path.split('/').all(is_segment);
        if !is_trust_domain(trust_domain) || !segments_well_formed {
            return Err(malformed());
        }
        Ok(Self { text: text.to_owned(), trust_domain_end: SCHEME.len().saturating_add(trust_domain.len()) })
    }

    /// Reads the id of a certificate's holder. The certificate's signature is checked elsewhere.
    ///
    /// # Errors
    /// [`SpiffeError`] when the certificate does not carry exactly one SPIFFE id.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, SpiffeError> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| SpiffeError::Unparsable)?;
        let names = certificate.subject_alternative_name().map_err(|_| SpiffeError::Unparsable)?;
        let uris: Vec<&str> = names.iter().flat_map(|names| &names.value.general_names).filter_map(uri).collect();
        match uris.as_slice() {
            [one] => Self::parse(one),
            others => Err(SpiffeError::NotOne { found: others.len() }),
        }
    }

    /// Names the node `name` of the same trust domain.
    ///
    /// # Errors
    /// [`SpiffeError::Malformed`] when the name cannot be part of an id.
    pub fn node(&self, name: &str) -> Result<Self, SpiffeError> {
        Self::parse(&format!("{SCHEME}{}/node/{name}", self.trust_domain()))
    }

    /// Returns the trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..self.trust_domain_end).unwrap_or_default()
    }

    /// Returns the path, with its leading slash; empty when there is none.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(self.trust_domain_end..).unwrap_or_default()
    }

    /// Returns the node's name, when this names a node.
    #[must_use]
    pub fn node_name(&self) -> Option<&str> {
        self.path().strip_prefix("/node/").filter(|name| !name.contains('/'))
    }

    /// Returns the whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(out)
    }
}

fn uri<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    }
}

fn is_trust_domain(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed)
}

fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_a_trust_domain_and_a_path() {
        let id = SpiffeId::parse("spiffe://example.org/node/alpha").unwrap();
        assert_eq!((id.trust_domain(), id.path(), id.node_name()), ("example.org", "/node/alpha", Some("alpha")));
    }

    #[test]
    fn only_a_node_has_a_node_name() {
        for other in ["spiffe://example.org", "spiffe://example.org/collector/a", "spiffe://example.org/node/a/b"] {
            assert_eq!(SpiffeId::parse(other).unwrap().node_name(), None, "{other}");
        }
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        for wrong in [
            "",
            "spiffe://",
            "spiffe:///node/a",
            "https://example.org/node/a",
            "spiffe://Example.org/node/a",
            "spiffe://example.org/",
            "spiffe://example.org//a",
            "spiffe://example.org/node/",
            "spiffe://example.org/../a",
            "spiffe://example.org:80/a",
            "spiffe://user@example.org/a",
            "spiffe://example.org/a?b",
            "spiffe://example.org/a%20b",
        ] {
            assert!(SpiffeId::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_node_id_stays_in_its_trust_domain() {
        let own = SpiffeId::parse("spiffe://example.org/node/alpha").unwrap();
        assert_eq!(own.node("beta").unwrap().as_str(), "spiffe://example.org/node/beta");
        assert!(own.node("beta/../alpha").is_err());
    }
}
