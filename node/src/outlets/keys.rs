//! Keys and tokens of outlets: files on this node, read when they are used, so that a replaced file is in force at once.
//!
//! `<key id>.key.pem` is a private key (PKCS#8 PEM: RSA of 2048 to 4096 bits, or Ed25519), `<outlet id>.token` a bearer token.
//! Ids were checked where they entered the log: none of them leads out of the directory.

use std::{fs, path::Path};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey, pkcs8::DecodePrivateKey as _};
use proofline_proto::v1::{Outlet, ReceiverAuthorization, SigningAlgorithm, outlet::Kind};
use ring::{
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::Serialize;
use zeroize::Zeroizing;

const KEY_SUFFIX: &str = ".key.pem";
/// Longest token or key file.
const FILE_BYTES_MAX: u64 = 16 << 10;
/// Keys that are published at most.
const KEYS_MAX: usize = 256;
/// 2048 bits.
const RSA_BYTES_MIN: usize = 256;

/// A key that signs for an outlet.
#[derive(Debug)]
pub(super) enum OutletKey {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<SigningKey>),
}

impl OutletKey {
    /// Signs for `RS256` or `EdDSA`: the same bytes get the same signature.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Ed25519(key) => Ok(key.sign(message).to_bytes().to_vec()),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let signed = key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature);
                signed.map(|()| signature).map_err(|_| "the RSA key does not sign".to_owned())
            }
        }
    }
}

/// The directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyDirectory<'a>(pub(super) &'a Path);

impl KeyDirectory<'_> {
    /// Returns the key of a stream, if it is of the kind that the algorithm takes.
    pub(super) fn signing(&self, id: &str, algorithm: SigningAlgorithm) -> Result<OutletKey, String> {
        match (self.key(id)?, algorithm) {
            (key @ OutletKey::Rsa(_), SigningAlgorithm::Rs256) | (key @ OutletKey::Ed25519(_), SigningAlgorithm::Eddsa) => Ok(key),
            (_, SigningAlgorithm::Rs256 | SigningAlgorithm::Eddsa | SigningAlgorithm::Unspecified) => {
                Err(format!("key {id:?} is not of the kind that {} takes", algorithm.as_str_name()))
            }
        }
    }

    pub(super) fn ed25519(&self, id: &str) -> Result<SigningKey, String> {
        match self.key(id)? {
            OutletKey::Ed25519(key) => Ok(*key),
            OutletKey::Rsa(_) => Err(format!("key {id:?} is no Ed25519 key")),
        }
    }

    /// Returns the bearer token of a stream that asks for one.
    pub(super) fn token(&self, outlet: &Outlet) -> Result<Option<Zeroizing<String>>, String> {
        match &outlet.kind {
            Some(Kind::SharedSignals(stream)) if stream.authorization() == ReceiverAuthorization::BearerToken => (),
            Some(Kind::SharedSignals(_) | Kind::Webhook(_)) | None => return Ok(None),
        }
        let name = format!("{}.token", outlet.outlet_id);
        let text = self.read(&name)?;
        let token = Zeroizing::new(text.trim().to_owned());
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_token { Ok(Some(token)) } else { Err(format!("{name} holds no bearer token")) }
    }

    fn key(&self, id: &str) -> Result<OutletKey, String> {
        let name = format!("{id}{KEY_SUFFIX}");
        let pem = self.read(&name)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| format!("{name} holds no private key (PKCS#8 PEM)"))?;
        if let Ok(key) = SigningKey::from_pkcs8_der(der.secret_pkcs8_der()) {
            return Ok(OutletKey::Ed25519(Box::new(key)));
        }
        let rsa = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der());
        let rsa = rsa.map_err(|error| format!("{name} holds neither an Ed25519 key nor an RSA key of 2048 to 4096 bits: {error}"))?;
        if rsa.public().modulus_len() < RSA_BYTES_MIN {
            return Err(format!("{name} holds an RSA key of fewer than 2048 bits"));
        }
        Ok(OutletKey::Rsa(Box::new(rsa)))
    }

    fn read(&self, name: &str) -> Result<Zeroizing<String>, String> {
        let path = self.0.join(name);
        let failed = |error: std::io::Error| format!("{name} cannot be read: {error}");
        if fs::metadata(&path).map_err(failed)?.len() > FILE_BYTES_MAX {
            return Err(format!("{name} is too long"));
        }
        fs::read_to_string(&path).map(Zeroizing::new).map_err(failed)
    }

    /// Returns the public halves of every key in the directory, by their ids. A file that holds none is passed over.
    pub(super) fn public(&self) -> Vec<Jwk> {
        let Ok(directory) = fs::read_dir(self.0) else { return Vec::new() };
        let names = directory.filter_map(Result::ok).filter_map(|file| file.file_name().into_string().ok());
        let mut ids: Vec<String> = names.filter_map(|name| name.strip_suffix(KEY_SUFFIX).map(str::to_owned)).collect();
        ids.sort_unstable();
        ids.truncate(KEYS_MAX);
        ids.into_iter().filter_map(|id| self.key(&id).ok().map(|key| Jwk::new(id, &key))).collect()
    }
}

/// A public key, RFC 7517.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Jwk {
    kty: &'static str,
    #[serde(rename = "use")]
    purpose: &'static str,
    alg: &'static str,
    kid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
}

impl Jwk {
    fn new(kid: String, key: &OutletKey) -> Self {
        let bare = Self { kty: "", purpose: "sig", alg: "", kid, crv: None, x: None, n: None, e: None };
        match key {
            OutletKey::Ed25519(key) => {
                let x = Some(BASE64_URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes()));
                Self { kty: "OKP", alg: "EdDSA", crv: Some("Ed25519"), x, ..bare }
            }
            OutletKey::Rsa(key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
                let (n, e) = (BASE64_URL_SAFE_NO_PAD.encode(&public.n), BASE64_URL_SAFE_NO_PAD.encode(&public.e));
                Self { kty: "RSA", alg: "RS256", n: Some(n), e: Some(e), ..bare }
            }
        }
    }
}
