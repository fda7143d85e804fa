//! Zip files, as far as files of evidence use them: one central directory, members one behind the other, nothing between.
//!
//! Always true: local and central headers say the same, no byte belongs to nothing, no member stands twice, and nothing is
//! unpacked beyond what its header and the limits of the format allow. Times, attributes and extra fields mean nothing here.

use std::collections::BTreeMap;

use flate2::{Crc, Decompress, FlushDecompress, Status};
use thiserror::Error;

/// Most bytes of all members together, unpacked.
const UNPACKED_BYTES_MAX: u64 = 1 << 32;
/// Most bytes of one member, unpacked.
const MEMBER_BYTES_MAX: u32 = 1 << 23;
/// No stream of deflate unpacks to more bytes for each of its own.
const DEFLATE_RATIO_MAX: u64 = 1_032;

const END_BYTES: usize = 22;
const CENTRAL_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Names are UTF-8, and how hard deflate tried.
const FLAGS_ALLOWED: u16 = 0x0806;

/// Why a file is no zip file of this form, or a member cannot be unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ArchiveError {
    /// Not the layout of a zip file.
    #[error("the zip file is damaged, or of a form that files of evidence do not have: {0}")]
    Layout(&'static str),
    /// A member that has no place in a file of evidence.
    #[error("the zip file has a member {0:?}, which no file of evidence has")]
    Name(String),
    /// A member twice.
    #[error("the zip file has two members {0:?}")]
    Twice(String),
    /// More than a file of evidence may hold.
    #[error("the zip file unpacks to more than is allowed, or than it can: {0:?}")]
    TooLarge(String),
    /// A member that does not unpack to what its header says.
    #[error("{0:?} does not unpack to what its header says")]
    Unpack(String),
}

/// The members of a zip file, by name, still packed.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    members: BTreeMap<String, Packed<'a>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Header {
    flags: u16,
    method: u16,
    crc: u32,
    packed_bytes: u32,
    bytes: u32,
    name: Vec<u8>,
}

#[derive(Debug)]
struct Packed<'a> {
    header: Header,
    data: &'a [u8],
}

impl<'a> Archive<'a> {
    /// Reads the directory of a zip file. Nothing is unpacked yet.
    pub(super) fn parse(file: &'a [u8]) -> Result<Self, ArchiveError> {
        let (mut directory, directory_at, count) = directory(file)?;
        let mut members = BTreeMap::new();
        let (mut unpacked, mut at) = (0_u64, 0_usize);
        for _ in 0..count {
            let (header, local_at) = central(&mut directory)?;
            let name = String::from_utf8(header.name.clone()).map_err(|_| ArchiveError::Layout("a name is not UTF-8"))?;
            if local_at != at {
                return Err(ArchiveError::Layout("members do not follow each other"));
            }
            let data = local(file, &mut at, &header)?;
            unpacked += u64::from(header.bytes);
            let possible = u64::from(header.packed_bytes).saturating_mul(DEFLATE_RATIO_MAX) + 64;
            if unpacked > UNPACKED_BYTES_MAX || header.bytes > MEMBER_BYTES_MAX || u64::from(header.bytes) > possible {
                return Err(ArchiveError::TooLarge(name));
            }
            if members.insert(name.clone(), Packed { header, data }).is_some() {
                return Err(ArchiveError::Twice(name));
            }
        }
        let is_whole = directory.is_empty() && at == directory_at;
        if is_whole { Ok(Self { members }) } else { Err(ArchiveError::Layout("bytes belong to no member")) }
    }

    /// Returns the names, in their order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Unpacks a member; `None` when there is none of this name.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(member) = self.members.get(name) else { return Ok(None) };
        let failed = || ArchiveError::Unpack(name.to_owned());
        let bytes = match member.header.method {
            STORED => member.data.to_vec(),
            _ => inflate(member.data, member.header.bytes as usize).ok_or_else(failed)?,
        };
        let mut crc = Crc::new();
        crc.update(&bytes);
        let is_as_said = bytes.len() == member.header.bytes as usize && crc.sum() == member.header.crc;
        if is_as_said { Ok(Some(bytes)) } else { Err(failed()) }
    }
}

/// Unpacks exactly so many bytes from exactly these.
fn inflate(packed: &[u8], bytes: usize) -> Option<Vec<u8>> {
    let mut unpacked = Vec::with_capacity(bytes + 1);
    let mut stream = Decompress::new(false);
    let status = stream.decompress_vec(packed, &mut unpacked, FlushDecompress::Finish).ok()?;
    (status == Status::StreamEnd && stream.total_in() == packed.len() as u64).then_some(unpacked)
}

/// Finds the central directory: its bytes, where they begin, and how many members it lists.
fn directory(file: &[u8]) -> Result<(&[u8], usize, u16), ArchiveError> {
    const NO_END: ArchiveError = ArchiveError::Layout("it does not end as a zip file does");
    let (rest, mut end) = file.len().checked_sub(END_BYTES).and_then(|at| file.split_at_checked(at)).ok_or(NO_END)?;
    let signature = u32_of(&mut end).ok_or(NO_END)?;
    let disks = (u16_of(&mut end), u16_of(&mut end));
    let counts = (u16_of(&mut end).ok_or(NO_END)?, u16_of(&mut end).ok_or(NO_END)?);
    let (size, at) = (u32_of(&mut end).ok_or(NO_END)? as usize, u32_of(&mut end).ok_or(NO_END)? as usize);
    let is_plain = signature == 0x0605_4b50 && disks == (Some(0), Some(0)) && counts.0 == counts.1 && u16_of(&mut end) == Some(0);
    let (_, directory) = rest.split_at_checked(at).filter(|(_, directory)| is_plain && directory.len() == size).ok_or(NO_END)?;
    Ok((directory, at, counts.0))
}

/// Reads one header of the central directory, and where its member begins.
fn central(directory: &mut &[u8]) -> Result<(Header, usize), ArchiveError> {
    const DAMAGED: ArchiveError = ArchiveError::Layout("a header of the directory");
    let (mut fixed, rest) = directory.split_at_checked(CENTRAL_BYTES).ok_or(DAMAGED)?;
    let fixed = &mut fixed;
    let is_header = u32_of(fixed) == Some(0x0201_4b50);
    skip(fixed, 4);
    let (header, name_bytes, extra_bytes) = shared(fixed).ok_or(DAMAGED)?;
    let comment_bytes = u16_of(fixed).ok_or(DAMAGED)?;
    let disk = u16_of(fixed);
    skip(fixed, 6);
    let at = u32_of(fixed).ok_or(DAMAGED)? as usize;
    let (name, rest) = rest.split_at_checked(name_bytes).ok_or(DAMAGED)?;
    let (_, rest) = rest.split_at_checked(extra_bytes).ok_or(DAMAGED)?;
    *directory = rest;
    let is_known = header.flags & !FLAGS_ALLOWED == 0 && matches!(header.method, STORED | DEFLATED);
    let is_stored_whole = header.method != STORED || header.packed_bytes == header.bytes;
    if !is_header || comment_bytes != 0 || disk != Some(0) || !is_known || !is_stored_whole {
        return Err(ArchiveError::Layout("a member is encrypted, streamed, commented on, or packed in another way"));
    }
    Ok((Header { name: name.to_vec(), ..header }, at))
}

/// Reads the local header at a place, which must say the same, and the packed bytes behind it. Moves on behind them.
fn local<'a>(file: &'a [u8], at: &mut usize, expected: &Header) -> Result<&'a [u8], ArchiveError> {
    const DAMAGED: ArchiveError = ArchiveError::Layout("a header before a member");
    let (_, rest) = file.split_at_checked(*at).ok_or(DAMAGED)?;
    let (mut fixed, rest) = rest.split_at_checked(LOCAL_BYTES).ok_or(DAMAGED)?;
    let fixed = &mut fixed;
    let is_header = u32_of(fixed) == Some(0x0403_4b50);
    skip(fixed, 2);
    let (header, name_bytes, extra_bytes) = shared(fixed).ok_or(DAMAGED)?;
    let (name, rest) = rest.split_at_checked(name_bytes).ok_or(DAMAGED)?;
    let (_, rest) = rest.split_at_checked(extra_bytes).ok_or(DAMAGED)?;
    let (data, _) = rest.split_at_checked(expected.packed_bytes as usize).ok_or(DAMAGED)?;
    if !is_header || *expected != (Header { name: name.to_vec(), ..header }) {
        return Err(ArchiveError::Layout("the headers of a member differ"));
    }
    *at += LOCAL_BYTES + name_bytes + extra_bytes + data.len();
    Ok(data)
}

/// What both headers have in common, from the flags on: with the lengths of the name and of the extra fields.
fn shared(fixed: &mut &[u8]) -> Option<(Header, usize, usize)> {
    let (flags, method) = (u16_of(fixed)?, u16_of(fixed)?);
    skip(fixed, 4);
    let (crc, packed_bytes, bytes) = (u32_of(fixed)?, u32_of(fixed)?, u32_of(fixed)?);
    let (name_bytes, extra_bytes) = (u16_of(fixed)?, u16_of(fixed)?);
    Some((Header { flags, method, crc, packed_bytes, bytes, name: Vec::new() }, name_bytes.into(), extra_bytes.into()))
}

fn u16_of(bytes: &mut &[u8]) -> Option<u16> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u16::from_le_bytes(*number))
}

fn u32_of(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

fn skip(bytes: &mut &[u8], count: usize) {
    *bytes = bytes.get(count..).unwrap_or_default();
}
