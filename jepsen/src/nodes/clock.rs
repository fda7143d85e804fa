//! The wall clock of one node, by `libfaketime`: its timers, which follow the monotonic clock, are right.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Why a node cannot have a clock of its own.
#[derive(Debug, Error)]
pub enum ClockError {
    /// The library is not installed.
    #[error("no faketime/libfaketimeMT.so.1 below /usr/lib; `make setup` installs it (Debian package faketime)")]
    NoLibrary,
    /// The file that says the time cannot be written.
    #[error("cannot write {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The wall clock of one node. It can be set while the node runs, and shows within a second.
#[derive(Clone, Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// Makes a clock that is right.
    ///
    /// # Errors
    /// [`ClockError`].
    pub fn right(file: &Path) -> Result<Self, ClockError> {
        let clock = Self { library: library().ok_or(ClockError::NoLibrary)?, file: file.to_owned() };
        clock.set_right()?;
        Ok(clock)
    }

    /// Sets the clock right.
    ///
    /// # Errors
    /// [`ClockError`].
    pub fn set_right(&self) -> Result<(), ClockError> {
        self.write("+0 x1.0")
    }

    /// Sets the clock so many seconds ahead, or back.
    ///
    /// # Errors
    /// [`ClockError`].
    pub fn set_off(&self, seconds: i64) -> Result<(), ClockError> {
        self.write(&format!("{seconds:+} x1.0"))
    }

    /// Lets the clock run faster or slower, in percent of a right one, as if it had done so since the node was started: it jumps
    /// first. Waits of the node follow it.
    ///
    /// # Errors
    /// [`ClockError`].
    pub fn run_at(&self, percent: u64) -> Result<(), ClockError> {
        self.write(&format!("+0 x{}.{:02}", percent / 100, percent % 100))
    }

    /// Returns the environment of a process that goes by this clock.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", self.library.to_string_lossy().into_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_string_lossy().into_owned()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    /// The library reads the file at any time: it is replaced as a whole. A speed holds until another one is written, so there
    /// is always one.
    fn write(&self, what: &str) -> Result<(), ClockError> {
        let new = self.file.with_extension("new");
        let written = fs::write(&new, format!("{what}\n")).and_then(|()| fs::rename(&new, &self.file));
        written.map_err(|source| ClockError::File { path: self.file.clone(), source })
    }
}

fn library() -> Option<PathBuf> {
    let directories = fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    directories.map(|directory| directory.join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file())
}
