//! Key files: one key as PKCS#8 PEM, readable by its owner alone. Ed25519, but for outlets whose receivers ask for RSA.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use ed25519_dalek::{
    SigningKey,
    pkcs8::{self, DecodePrivateKey as _, EncodePrivateKey as _},
};
use thiserror::Error;
use zeroize::Zeroizing;

const OWNER_ONLY: u32 = 0o600;
/// What the interoperability profile of CAEP asks for.
const RSA_BITS: usize = 2_048;
/// A key that every account of the machine can read is no secret.
const READABLE_BY_OTHERS: u32 = 0o007;

/// Why a key cannot be had.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Every account of this machine may read the file.
    #[error("{path} has mode {mode:o}: others can read the key; make it 600")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds no Ed25519 key as PKCS#8 PEM.
    #[error("{path} holds no Ed25519 key as PKCS#8 PEM: {source}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pkcs8::Error,
    },
    /// An RSA key cannot be made.
    #[error("no RSA key can be made: {0}")]
    Rsa(String),
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    NoRandomness(getrandom::Error),
}

/// Makes a new key.
///
/// # Errors
/// [`KeyFileError::NoRandomness`].
pub fn generate_key() -> Result<SigningKey, KeyFileError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(KeyFileError::NoRandomness)?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Writes a key into a new file. On return: it is on disk, with mode 600.
///
/// # Errors
/// [`KeyFileError`]; a file that exists is never overwritten.
pub fn write_key(path: &Path, key: &SigningKey) -> Result<(), KeyFileError> {
    let form = |source| KeyFileError::Form { path: path.to_owned(), source };
    write_pem(path, &key.to_pkcs8_pem(Default::default()).map_err(form)?)
}

/// Makes a new RSA key of 2048 bits, for outlets whose receivers take nothing else, and returns it as PKCS#8 PEM.
///
/// # Errors
/// [`KeyFileError::Rsa`].
pub fn generate_rsa_key() -> Result<Zeroizing<String>, KeyFileError> {
    use rsa::{RsaPrivateKey, pkcs8::EncodePrivateKey as _, rand_core::OsRng};
    let failed = |error: &dyn std::error::Error| KeyFileError::Rsa(error.to_string());
    let key = RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(|error| failed(&error))?;
    key.to_pkcs8_pem(rsa::pkcs8::LineEnding::LF).map_err(|error| failed(&error))
}

/// Writes a key that is PKCS#8 PEM already into a new file. On return: it is on disk, with mode 600.
///
/// # Errors
/// [`KeyFileError::File`]; a file that exists is never overwritten.
pub fn write_pem(path: &Path, pem: &str) -> Result<(), KeyFileError> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
        file.write_all(pem.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| KeyFileError::File { path: path.to_owned(), source })
}

/// Reads a key.
///
/// # Errors
/// [`KeyFileError`], also when others may read the file.
pub fn read_key(path: &Path) -> Result<SigningKey, KeyFileError> {
    let unreadable = |source| KeyFileError::File { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & READABLE_BY_OTHERS != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let pem = Zeroizing::new(fs::read_to_string(path).map_err(unreadable)?);
    SigningKey::from_pkcs8_pem(&pem).map_err(|source| KeyFileError::Form { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let (path, key) = (directory.path().join("key.pem"), generate_key().unwrap());
        write_key(&path, &key).unwrap();
        assert_eq!(read_key(&path).unwrap().to_bytes(), key.to_bytes());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        write_key(&path, &generate_key().unwrap()).unwrap();
        assert!(matches!(write_key(&path, &generate_key().unwrap()), Err(KeyFileError::File { .. })));
    }

    #[test]
    fn a_key_that_everybody_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        write_key(&path, &generate_key().unwrap()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_key(&path), Err(KeyFileError::Exposed { mode: 0o644, .. })));
    }
}
