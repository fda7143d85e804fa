//! Writing zip files member by member: no member is held longer than it takes to pack it.

use std::{
    io::{self, Write as _},
    path::Path,
};

use flate2::{Compression, Crc, write::DeflateEncoder};

use crate::whole_file::{Existing, WholeFile};

/// The first day that zip files know: they carry no time of ours.
const DATE: u16 = 0x0021;
const DEFLATED: u16 = 8;

/// A zip file beside its final place, until it is whole.
#[derive(Debug)]
pub(crate) struct ArchiveWriter {
    file: WholeFile,
    at: u64,
    directory: Vec<u8>,
    count: u16,
}

impl ArchiveWriter {
    /// Begins a file beside `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: WholeFile::create(path)?, at: 0, directory: Vec::new(), count: 0 })
    }

    /// Packs a member behind the others.
    pub(crate) fn add(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut crc = Crc::new();
        crc.update(bytes);
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes)?;
        let packed = encoder.finish()?;
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let (packed_bytes, unpacked_bytes) =
            (u32::try_from(packed.len()).map_err(too_large)?, u32::try_from(bytes.len()).map_err(too_large)?);
        let at = u32::try_from(self.at).map_err(too_large)?;
        let name_bytes = u16::try_from(name.len()).map_err(too_large)?;
        let mut shared = Vec::new();
        [20_u16, 0, DEFLATED, 0, DATE].iter().for_each(|number| shared.extend(number.to_le_bytes()));
        [crc.sum(), packed_bytes, unpacked_bytes].iter().for_each(|number| shared.extend(number.to_le_bytes()));
        [name_bytes, 0].iter().for_each(|number| shared.extend(number.to_le_bytes()));
        let local = [b"PK\x03\x04", &shared[..], name.as_bytes(), &packed].concat();
        self.file.write_all(&local)?;
        self.directory.extend([b"PK\x01\x02\x14\x00", &shared[..], &[0; 10], &at.to_le_bytes(), name.as_bytes()].concat());
        self.at += local.len() as u64;
        self.count = self.count.checked_add(1).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(())
    }

    /// Ends the file and puts it in its place. On return: it is there and durable, whole or not at all.
    pub(crate) fn finish(mut self, path: &Path, existing: Existing) -> io::Result<()> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let (at, size) = (u32::try_from(self.at).map_err(too_large)?, u32::try_from(self.directory.len()).map_err(too_large)?);
        let count = self.count.to_le_bytes();
        let end = [b"PK\x05\x06\0\0\0\0", &count[..], &count, &size.to_le_bytes(), &at.to_le_bytes(), &[0, 0]].concat();
        self.file.write_all(&self.directory)?;
        self.file.write_all(&end)?;
        self.file.finish(path, existing)
    }
}
