//! The file of a journal: records with checksums, and the difference between a torn end and damage.
//!
//! A record is `u32 length || head checksum[4] || body checksum[16] || body || end mark`, integers big-endian. Each write is
//! one record. A crash leaves the file shorter than what was written, or, where the file system had made room first, with
//! zeros at its end. Both are cut off. Everything else that does not fit is damage, and the journal refuses to go on: what
//! was forgotten cannot be told from what never was.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use prost::Message as _;

use super::{JournalError, at, steps::Record};

const LENGTH_BYTES: usize = 4;
const HEAD_CHECK_BYTES: usize = 4;
const BODY_CHECK_BYTES: usize = 16;
const HEAD_BYTES: usize = LENGTH_BYTES + HEAD_CHECK_BYTES + BODY_CHECK_BYTES;
/// Last byte of every record: not zero, so that a hole in the file is no end of a record.
const END_MARK: u8 = 0xC5;
const HEAD_CONTEXT: &str = "proofline/v1 collector journal head";
const BODY_CONTEXT: &str = "proofline/v1 collector journal body";

/// Opens the file, or makes it, and returns its records. What a crash left of the last record is cut off.
pub(super) fn open(path: &Path) -> Result<(File, Vec<Record>), JournalError> {
    let mut file = File::options().read(true).append(true).create(true).open(path).map_err(at(path))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(at(path))?;
    let mut records = Vec::new();
    let mut rest = bytes.as_slice();
    let offset = |rest: &[u8]| bytes.len().saturating_sub(rest.len()) as u64;
    loop {
        match read(rest) {
            Next::Record(record, behind) => {
                records.push(*record);
                rest = behind;
            }
            Next::End => break,
            Next::Torn => {
                tracing::info!(path = %path.display(), bytes = rest.len(), "cutting off what a crash left of the last record");
                file.set_len(offset(rest)).and_then(|()| file.sync_all()).map_err(at(path))?;
                break;
            }
            Next::Damaged => return Err(JournalError::Damaged { path: path.to_owned(), offset: offset(rest) }),
        }
    }
    Ok((file, records))
}

/// Returns the bytes of a record, to be written with one write.
pub(super) fn frame(record: &Record) -> io::Result<Vec<u8>> {
    let body = record.encode_to_vec();
    let length = u32::try_from(body.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?.to_be_bytes();
    let mut framed = Vec::with_capacity(HEAD_BYTES + body.len() + 1);
    let check = check::<BODY_CHECK_BYTES>(BODY_CONTEXT, &[&body]);
    framed.extend_from_slice(&length);
    framed.extend_from_slice(&self::check::<HEAD_CHECK_BYTES>(HEAD_CONTEXT, &[&length, &check]));
    framed.extend_from_slice(&check);
    framed.extend_from_slice(&body);
    framed.push(END_MARK);
    Ok(framed)
}

enum Next<'a> {
    Record(Box<Record>, &'a [u8]),
    End,
    Torn,
    Damaged,
}

fn read(bytes: &[u8]) -> Next<'_> {
    if bytes.is_empty() {
        return Next::End;
    }
    // Every complete record ends with its mark, so nothing but zeros behind a head means that they stand for what is missing.
    let is_hole = bytes.iter().skip(HEAD_BYTES).all(|byte| *byte == 0);
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Next::Torn };
    let Some((head_check, rest)) = rest.split_first_chunk::<HEAD_CHECK_BYTES>() else { return Next::Torn };
    let Some((body_check, rest)) = rest.split_first_chunk::<BODY_CHECK_BYTES>() else { return Next::Torn };
    if *head_check != check(HEAD_CONTEXT, &[length, body_check]) {
        return if is_hole { Next::Torn } else { Next::Damaged };
    }
    let Some((body, end)) = usize::try_from(u32::from_be_bytes(*length)).ok().and_then(|length| rest.split_at_checked(length)) else {
        return Next::Torn;
    };
    let Some((mark, behind)) = end.split_first() else { return Next::Torn };
    if *mark == 0 && behind.iter().all(|byte| *byte == 0) {
        return Next::Torn;
    }
    if *mark != END_MARK || *body_check != check(BODY_CONTEXT, &[body]) {
        return Next::Damaged;
    }
    Record::decode(body).map_or(Next::Damaged, |record| Next::Record(Box::new(record), behind))
}

fn check<const N: usize>(context: &str, parts: &[&[u8]]) -> [u8; N] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    let mut check = [0; N];
    hasher.finalize_xof().fill(&mut check);
    check
}
