//! File-system steps that must survive a power cut.
//!
//! Each function returns only after the kernel reported the bytes and the directory entry durable. A crash inside one
//! leaves the old content or the new, never a mixture.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// Replaces the content of `path`.
///
/// On return: the file holds `content` after any crash. Before: it holds what it held, and a stray `.new` file may lie
/// beside it, which the next call overwrites.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("new");
    let mut file = File::create(&staged)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    sync_directory(parent(path)?)
}

/// Makes the names inside `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Makes every file of `directory` (not of its subdirectories) and their names durable.
pub(crate) fn sync_files(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_directory(directory)
}

/// Creates `directory` (its parent exists) and makes its name durable.
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    sync_directory(parent(directory)?)
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path without a parent directory"))
}
