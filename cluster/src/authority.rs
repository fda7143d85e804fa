//! A certificate authority for development: one root for the nodes among themselves, one for clients.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use time::{Duration, OffsetDateTime};

/// How long a certificate of this authority lasts: long enough for a machine that is set aside, too short for production.
const DAYS: i64 = 825;

/// A root that signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    key: String,
}

/// A certificate and its key, as PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// First instant.
    pub from: OffsetDateTime,
    /// Last instant.
    pub to: OffsetDateTime,
}

impl Validity {
    /// Holds now, and for the usual time.
    #[must_use]
    pub fn usual() -> Self {
        let now = OffsetDateTime::now_utc();
        Self { from: now - Duration::days(1), to: now + Duration::days(DAYS) }
    }

    /// Ended long ago.
    #[must_use]
    pub fn expired() -> Self {
        Self { from: date_time_ymd(2020, 1, 1), to: date_time_ymd(2020, 1, 2) }
    }
}

impl Authority {
    /// Makes a new root.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let validity = Validity::usual();
        (params.not_before, params.not_after) = (validity.from, validity.to);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { key: key.serialize_pem(), issuer: Issuer::new(params, key), pem })
    }

    /// Reads a root that [`Self::write`] wrote.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn load(directory: &Path, name: &str) -> Result<Self> {
        let read = |path: std::path::PathBuf| fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()));
        let (pem, key) = (read(directory.join(format!("{name}.pem")))?, read(directory.join(format!("{name}.key.pem")))?);
        Ok(Self { issuer: Issuer::from_ca_cert_pem(&pem, KeyPair::from_pem(&key)?)?, pem, key })
    }

    /// Writes `NAME.pem` and `NAME.key.pem` into a directory.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> Result<()> {
        write(&directory.join(format!("{name}.pem")), &self.pem)?;
        write(&directory.join(format!("{name}.key.pem")), &self.key)
    }

    /// Returns the root certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate for `spiffe_id`, good on loopback addresses.
    ///
    /// # Errors
    /// When the id is no URI, or the system gives no randomness.
    pub fn issue(&self, spiffe_id: &str, validity: Validity) -> Result<Issued> {
        self.issue_at(spiffe_id, validity, IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Issues a certificate for `spiffe_id`, good on loopback addresses and on `address`.
    ///
    /// # Errors
    /// When the id is no URI, or the system gives no randomness.
    pub fn issue_at(&self, spiffe_id: &str, validity: Validity, address: IpAddr) -> Result<Issued> {
        let key = KeyPair::generate()?;
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !address.is_loopback() {
            names.push(address.to_string());
        }
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "proofline");
        params.subject_alt_names.push(SanType::URI(spiffe_id.try_into()?));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = (validity.from, validity.to);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Issued {
    /// Writes `NAME.pem` and `NAME.key.pem` into a directory.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> Result<()> {
        let certificate = directory.join(format!("{name}.pem"));
        fs::create_dir_all(certificate.parent().unwrap_or(directory))?;
        write(&certificate, &self.certificate)?;
        write(&directory.join(format!("{name}.key.pem")), &self.key)
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.as_mut()
        .map_err(|error| anyhow::anyhow!("{error}"))
        .and_then(|file| Ok(file.write_all(content.as_ref())?))
        .with_context(|| format!("cannot write {}", path.display()))
}
