//! Reads a checkpoint far enough to tell whether the nodes of this ledger cosigned it: docs/FORMATS.md, section 7.
//!
//! What a checkpoint proves to others is decided by the verifier; this only keeps a note that nobody stands behind from
//! becoming the published one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proofline_proto::v1;
use sha2::{Digest as _, Sha256};

use crate::signed::{self, Signed};

/// Longest note, and most signature lines of it.
const NOTE_BYTES_MAX: usize = 256 * 1024;
const SIGNATURES_MAX: usize = 64;
const SIGNATURE_PREFIX: &str = "\u{2014} ";
const COSIGNATURE_TYPE: u8 = 0x04;

/// A checkpoint with its signature lines.
#[derive(Debug)]
pub(crate) struct Note<'a> {
    /// Name of the log.
    pub(crate) origin: &'a str,
    /// Entries covered.
    pub(crate) size: u64,
    text: &'a str,
    lines: Vec<&'a str>,
}

/// What a cosignature line carries behind the key id.
struct Cosignature {
    unix_s: u64,
    signature: [u8; 64],
}

impl<'a> Note<'a> {
    /// Takes a note apart; `None` when it is no checkpoint. Says nothing about its signatures.
    pub(crate) fn parse(note: &'a [u8]) -> Option<Self> {
        let note = std::str::from_utf8(note).ok().filter(|note| note.len() <= NOTE_BYTES_MAX && !note.contains(is_control))?;
        let (text, signatures) = note.split_at(note.rfind("\n\n")? + 1);
        let lines: Vec<&str> = signatures.strip_prefix('\n')?.strip_suffix('\n')?.split('\n').collect();
        let mut head = text.strip_suffix('\n')?.split('\n');
        let (Some(origin), Some(size), Some(root), None) = (head.next(), head.next(), head.next(), head.next()) else { return None };
        let number: u64 = size.parse().ok().filter(|it: &u64| it.to_string() == size)?;
        let is_form = STANDARD.decode(root).is_ok_and(|root| root.len() == 32)
            && lines.len() <= SIGNATURES_MAX
            && lines.iter().all(|line| line.starts_with(SIGNATURE_PREFIX));
        is_form.then_some(Self { origin, size: number, text, lines })
    }

    /// Tells whether a line of the note is the cosignature of this node.
    pub(crate) fn is_cosigned_by(&self, node: &v1::NodeKey) -> bool {
        let id = key_id(node);
        self.lines.iter().filter_map(|line| cosignature(line, &node.name, id)).any(|cosignature| {
            let message = format!("cosignature/v1\ntime {}\n{}", cosignature.unix_s, self.text);
            signed::check(&node.public_key, message.as_bytes(), &cosignature.signature) == Signed::Authentic
        })
    }
}

fn is_control(of: char) -> bool {
    of < ' ' && of != '\n'
}

fn key_id(node: &v1::NodeKey) -> [u8; 4] {
    let hash = Sha256::new().chain_update(&node.name).chain_update([b'\n', COSIGNATURE_TYPE]).chain_update(&node.public_key).finalize();
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
    [a, b, c, d]
}

/// Reads the line of one key; `None` for the lines of others.
fn cosignature(line: &str, name: &str, id: [u8; 4]) -> Option<Cosignature> {
    let encoded = line.strip_prefix(SIGNATURE_PREFIX)?.strip_prefix(name)?.strip_prefix(' ')?;
    let signed: [u8; 76] = STANDARD.decode(encoded).ok()?.try_into().ok()?;
    let (_, rest) = signed.split_first_chunk::<4>().filter(|(found, _)| **found == id)?;
    let (unix_s, signature) = rest.split_first_chunk::<8>()?;
    Some(Cosignature { unix_s: u64::from_be_bytes(*unix_s), signature: signature.try_into().ok()? })
}
