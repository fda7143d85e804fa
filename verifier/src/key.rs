//! Names and keys of those who sign checkpoints, and their C2SP text form, the vkey.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::report::{Outcome, Refusal};

const NAME_BYTES_MAX: usize = 255;

/// Why a text is not a key or a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Empty, too long, or with a space, a plus sign or a control character.
    #[error("{0:?} cannot name a key")]
    Name(String),
    /// Not of the form `name+id+base64`.
    #[error("a verifier key is written name+id+base64")]
    Form,
    /// Not the padded, canonical form of standard base64.
    #[error("the key is not canonical base64")]
    Base64,
    /// The key id in the text is another than the one that follows from name, type and key.
    #[error("the key id is written {written}, name and key give {computed}")]
    Id {
        /// In the text.
        written: String,
        /// From name, type and key.
        computed: KeyId,
    },
    /// A signature type that this version does not know.
    #[error("signature type 0x{0:02x} is not supported")]
    UnsupportedType(u8),
    /// Not 32 bytes, not a canonical curve point, or of small order.
    #[error("the Ed25519 key is malformed or weak")]
    Weak,
}

impl Refusal for KeyError {
    fn outcome(&self) -> Outcome {
        Outcome::NotChecked
    }
}

/// The name of a key; a log's is its origin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// Parses a name: 1 to 255 bytes without white space, control characters and plus signs.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let is_forbidden = |it: char| it.is_whitespace() || it.is_control() || it == '+';
        if text.is_empty() || text.len() > NAME_BYTES_MAX || text.contains(is_forbidden) {
            return Err(KeyError::Name(text.chars().take(NAME_BYTES_MAX).collect()));
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The 4-byte id that, with the name, says which key made a signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// The signature types of this version, by their C2SP identifier bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureType {
    /// 0x01: Ed25519 over the note text. Logs.
    Ed25519,
    /// 0x04: timestamped Ed25519 cosignature. Nodes and witnesses.
    CosignatureV1,
}

impl SignatureType {
    fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureV1 => 0x04,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, KeyError> {
        match byte {
            0x01 => Ok(Self::Ed25519),
            0x04 => Ok(Self::CosignatureV1),
            other => Err(KeyError::UnsupportedType(other)),
        }
    }
}

/// A key that verifies note signatures. Its text form is the C2SP vkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: KeyName,
    id: KeyId,
    signature_type: SignatureType,
    key: VerifyingKey,
}

impl VerifierKey {
    /// Takes the Ed25519 public key of a log or a cosigner.
    ///
    /// # Errors
    /// [`KeyError::Weak`].
    pub fn new(name: KeyName, signature_type: SignatureType, public_key: &[u8]) -> Result<Self, KeyError> {
        let key = parse_public_key(public_key).ok_or(KeyError::Weak)?;
        let hash =
            Sha256::new().chain_update(name.as_str()).chain_update([b'\n', signature_type.byte()]).chain_update(public_key).finalize();
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
        Ok(Self { name, id: KeyId([a, b, c, d]), signature_type, key })
    }

    /// Parses a vkey: `name+id+base64(type || key)`.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(vkey: &str) -> Result<Self, KeyError> {
        let (name, rest) = vkey.split_once('+').ok_or(KeyError::Form)?;
        let (id, encoded) = rest.split_once('+').ok_or(KeyError::Form)?;
        let decoded = STANDARD.decode(encoded).map_err(|_| KeyError::Base64)?;
        let (&type_byte, public_key) = decoded.split_first().ok_or(KeyError::Form)?;
        let key = Self::new(KeyName::parse(name)?, SignatureType::from_byte(type_byte)?, public_key)?;
        if key.id.to_string() == id { Ok(key) } else { Err(KeyError::Id { written: id.to_owned(), computed: key.id }) }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Returns the key id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Returns what the key's signatures cover.
    #[must_use]
    pub fn signature_type(&self) -> SignatureType {
        self.signature_type
    }

    /// Returns the 32 bytes of the Ed25519 key.
    #[must_use]
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    pub(crate) fn ed25519(&self) -> &VerifyingKey {
        &self.key
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = STANDARD.encode([&[self.signature_type.byte()][..], self.public_key()].concat());
        write!(out, "{}+{}+{encoded}", self.name, self.id)
    }
}

/// Parses an Ed25519 public key; `None` when it is no canonical point or of small order.
pub(crate) fn parse_public_key(bytes: &[u8]) -> Option<VerifyingKey> {
    let key = VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()?;
    (!key.is_weak() && key.to_edwards().compress().as_bytes() == bytes).then_some(key)
}
