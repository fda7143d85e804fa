//! Room that the payload store leaves free: it shares the disk with the Raft log, and a node whose log cannot be written ends.

use std::path::Path;

use super::VaultError;

const GIB: u64 = 1 << 30;
/// The usual reserve is this part of the disk.
const USUAL_PART: u64 = 20;
/// And not less than this,
const USUAL_BYTES_MIN: u64 = GIB;
/// nor more.
const USUAL_BYTES_MAX: u64 = 16 * GIB;

/// How much of its disk the payload store never fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// A twentieth of the disk, at least 1 GiB, at most 16 GiB.
    Usual,
    /// So many bytes.
    Bytes(u64),
}

impl Reserve {
    fn of(self, disk_bytes: u64) -> u64 {
        match self {
            Self::Usual => (disk_bytes / USUAL_PART).clamp(USUAL_BYTES_MIN, USUAL_BYTES_MAX),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// Returns how many bytes of the disk under a directory are free beyond the reserve.
    pub(super) fn room(self, directory: &Path) -> Result<u64, VaultError> {
        let failed = |source: rustix::io::Errno| VaultError::File {
            action: "looking for room at",
            path: directory.to_owned(),
            source: source.into(),
        };
        let disk = rustix::fs::statvfs(directory).map_err(failed)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        Ok(free.saturating_sub(self.of(disk.f_blocks.saturating_mul(disk.f_frsize))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_reserve_is_a_part_of_the_disk_within_bounds() {
        let reserves = [10, 40, 1_000].map(|size| Reserve::Usual.of(size * GIB));
        assert_eq!(reserves, [GIB, 2 * GIB, 16 * GIB]);
        assert_eq!(Reserve::Bytes(7).of(GIB), 7);
    }
}
