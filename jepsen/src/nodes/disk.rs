//! A disk of one node: an ext4 file system in an image file.
//!
//! Because the file system is its own, it can lose power, fill up, turn read-only, become slow or stop, while everything else on
//! the machine goes on.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::program::{self, ProgramError};

/// Where the limits of block devices are set.
const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device";
/// Where ext4 says something of each of its file systems.
const EXT4: &str = "/sys/fs/ext4";
/// The file that takes all the room.
const BALLOON: &str = "balloon";
/// Files up to this length are compared by content after a power loss, longer ones by length.
const COMPARED_BYTES_MAX: u64 = 64 << 10;

/// Why a disk does not do what it is asked.
#[derive(Debug, Error)]
pub enum DiskError {
    /// A program failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A file cannot be used.
    #[error("cannot use {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk is not mounted.
    #[error("nothing is mounted at {0}")]
    NotMounted(PathBuf),
}

/// What a power loss took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerLoss {
    /// Bytes by which files became shorter.
    pub bytes_lost: u64,
    /// Files that are gone.
    pub files_lost: u64,
    /// Small files that hold something else.
    pub files_older: u64,
}

impl PowerLoss {
    /// Tells whether anything was lost at all.
    #[must_use]
    pub fn took_something(self) -> bool {
        self != Self::default()
    }
}

/// An image file and where it is mounted. It is unmounted when this is dropped; the image stays.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Makes a file system of `mebibytes` in a new image file, and mounts it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn create(image: &Path, at: &Path, mebibytes: u64) -> Result<Self, DiskError> {
        let file = fs::File::create(image).map_err(|source| file_error(image, source))?;
        file.set_len(mebibytes << 20).map_err(|source| file_error(image, source))?;
        fs::create_dir_all(at).map_err(|source| file_error(at, source))?;
        program::run("mkfs.ext4", &["-q", "-F", "-m", "0", &text(image)])?;
        let mut disk = Self { image: image.to_owned(), at: at.to_owned(), mounted: false };
        disk.mount()?;
        Ok(disk)
    }

    /// Returns where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Returns the image file.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Mounts the image. What is not fsynced may stay in memory for a minute.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn mount(&mut self) -> Result<(), DiskError> {
        program::run("mount", &["-o", "loop,commit=60,errors=remount-ro", &text(&self.image), &text(&self.at)])?;
        self.mounted = true;
        Ok(())
    }

    /// Unmounts it, with everything written.
    ///
    /// # Errors
    /// [`DiskError`], when a process still uses it.
    pub fn unmount(&mut self) -> Result<(), DiskError> {
        program::run("umount", &[&text(&self.at)])?;
        self.mounted = false;
        Ok(())
    }

    /// Cuts the power: what is not on the image at this instant is lost. Then mounts again. No process may run on it.
    ///
    /// The file system is shut down without flushing its log (`FS_IOC_SHUTDOWN`), so the image is exactly what had been written
    /// when it happened, and the next mount replays its journal as after a real loss of power.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn lose_power(&mut self) -> Result<PowerLoss, DiskError> {
        let before = census(&self.at)?;
        program::run("xfs_io", &["-x", "-c", "shutdown", &text(&self.at)])?;
        self.unmount()?;
        self.mount()?;
        let after = census(&self.at)?;
        Ok(compare(&before, &after))
    }

    /// Takes all the room that is left. Returns how many bytes.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn fill(&self) -> Result<u64, DiskError> {
        let balloon = self.at.join(BALLOON);
        let mut room = self.free_bytes()?;
        let mut step = room;
        let mut taken = 0_u64;
        // The system keeps some blocks for its own needs: take less when it refuses.
        while step >= 4_096 && room >= 4_096 {
            let length = (taken + step).to_string();
            match program::run("fallocate", &["-l", &length, &text(&balloon)]) {
                Ok(_) => {
                    taken += step;
                    room = self.free_bytes()?;
                    step = room.min(step);
                }
                Err(_) => step /= 2,
            }
        }
        Ok(taken)
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn release(&self) -> Result<(), DiskError> {
        let balloon = self.at.join(BALLOON);
        match fs::remove_file(&balloon) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(&balloon, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns how many bytes may still be written.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn free_bytes(&self) -> Result<u64, DiskError> {
        let found = rustix::fs::statvfs(&self.at).map_err(|error| file_error(&self.at, error.into()))?;
        Ok(found.f_bavail * found.f_frsize)
    }

    /// Takes no more writes: whoever writes is told that the file system is read-only, as ext4 does after an error of its device.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn refuse_writes(&self) -> Result<(), DiskError> {
        // A remount by hand fails while a process has files open for writing. ext4 itself does not ask.
        let trigger = Path::new(EXT4).join(device_name(&self.at).ok_or_else(|| self.not_mounted())?).join("trigger_fs_error");
        fs::write(&trigger, "proofline-jepsen").map_err(|source| file_error(&trigger, source))
    }

    /// Mounts again after [`Self::refuse_writes`]. No process may run on it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn mount_again(&mut self) -> Result<(), DiskError> {
        self.unmount()?;
        self.mount()
    }

    /// Lets every write wait until [`Self::thaw`].
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn freeze(&self) -> Result<(), DiskError> {
        program::run("fsfreeze", &["--freeze", &text(&self.at)])?;
        Ok(())
    }

    /// Lets writes pass again.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn thaw(&self) -> Result<(), DiskError> {
        program::run("fsfreeze", &["--unfreeze", &text(&self.at)])?;
        Ok(())
    }

    /// Tells whether this machine can slow a disk down.
    #[must_use]
    pub fn can_be_slow() -> bool {
        Path::new(THROTTLE).exists()
    }

    /// Lets the device do so many writes in a second; 0 lifts the limit.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn limit_writes(&self, per_second: u64) -> Result<(), DiskError> {
        let device = device_numbers(&self.at).ok_or_else(|| self.not_mounted())?;
        fs::write(THROTTLE, format!("{device} {per_second}")).map_err(|source| file_error(Path::new(THROTTLE), source))
    }

    fn not_mounted(&self) -> DiskError {
        DiskError::NotMounted(self.at.clone())
    }

    /// Replaces the file system by an empty one, mounted elsewhere. No process may run on it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn wipe(&mut self, at: &Path) -> Result<(), DiskError> {
        self.unmount()?;
        fs::create_dir_all(at).map_err(|source| file_error(at, source))?;
        self.at = at.to_owned();
        program::run("mkfs.ext4", &["-q", "-F", "-m", "0", &text(&self.image)])?;
        self.mount()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !self.mounted {
            return;
        }
        // A frozen file system cannot be unmounted; one that is not frozen refuses this.
        let _ = self.thaw();
        let _ = self.limit_writes(0);
        if let Err(error) = self.unmount() {
            eprintln!("warning: {error}; `proofline-jepsen clean` unmounts it");
        }
    }
}

/// What is known of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    length: u64,
    content: Option<Vec<u8>>,
}

fn census(root: &Path) -> Result<BTreeMap<PathBuf, Seen>, DiskError> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).map_err(|source| file_error(&directory, source))? {
            let path = entry.map_err(|source| file_error(&directory, source))?.path();
            let about = fs::metadata(&path).map_err(|source| file_error(&path, source))?;
            if about.is_dir() {
                waiting.push(path);
                continue;
            }
            let length = about.len();
            let content =
                if length <= COMPARED_BYTES_MAX { Some(fs::read(&path).map_err(|source| file_error(&path, source))?) } else { None };
            found.insert(path, Seen { length, content });
        }
    }
    Ok(found)
}

fn compare(before: &BTreeMap<PathBuf, Seen>, after: &BTreeMap<PathBuf, Seen>) -> PowerLoss {
    let mut loss = PowerLoss::default();
    for (path, then) in before {
        match after.get(path) {
            None => {
                loss.files_lost += 1;
                loss.bytes_lost += then.length;
            }
            Some(now) if now.length < then.length => loss.bytes_lost += then.length - now.length,
            Some(now) if now.length == then.length && now.content != then.content => loss.files_older += 1,
            Some(_) => (),
        }
    }
    loss
}

/// Returns `MAJOR:MINOR` of the device that is mounted at `at`.
fn device_numbers(at: &Path) -> Option<String> {
    mounted_at(at)?.split(' ').nth(2).map(str::to_owned)
}

/// Returns the name of the device that is mounted at `at`: `loop0`, say.
fn device_name(at: &Path) -> Option<String> {
    let line = mounted_at(at)?;
    let (_, source) = line.split_once(" - ")?;
    source.split(' ').nth(1)?.strip_prefix("/dev/").map(str::to_owned)
}

/// Returns the line of `mountinfo` for what is mounted at `at`.
fn mounted_at(at: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().rev().find(|line| line.split(' ').nth(4) == at.to_str()).map(str::to_owned)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn file_error(path: &Path, source: io::Error) -> DiskError {
    DiskError::File { path: path.to_owned(), source }
}
