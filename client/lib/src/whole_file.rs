//! Files that are there whole or not at all, whatever ends the program meanwhile.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written.
    Kept,
    /// It is replaced.
    Replaced,
}

/// A file beside its final place, until it is whole.
#[derive(Debug)]
pub(crate) struct WholeFile {
    file: File,
    beside: PathBuf,
}

impl WholeFile {
    /// Begins a file beside `path`.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_string_lossy();
        // Whoever was ended before may have left one behind.
        let beside = path.with_file_name(format!(".{name}.{:08x}.part", getrandom::u32()?));
        let file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
        Ok(Self { file, beside })
    }

    /// Puts the file in its place. On return: it is there and durable.
    pub(crate) fn finish(self, path: &Path, existing: Existing) -> io::Result<()> {
        self.file.sync_all()?;
        match existing {
            Existing::Replaced => {
                if let Ok(before) = fs::metadata(path) {
                    self.file.set_permissions(before.permissions())?;
                }
                fs::rename(&self.beside, path)?;
            }
            Existing::Kept => self.put_where_nothing_is(path)?,
        }
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }

    /// A link fails where a file is already; a rename would replace it, and is what remains where nothing can be linked.
    fn put_where_nothing_is(&self, path: &Path) -> io::Result<()> {
        match fs::hard_link(&self.beside, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.try_exists()? => fs::rename(&self.beside, path),
            linked => linked,
        }
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What is not in its place is removed.
impl Drop for WholeFile {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&self.beside);
    }
}

/// Writes a file. On return: it is there and durable; before that nothing of it is. What is no file, as a terminal or a pipe,
/// is written to as it is; so is everything below `/dev` and `/proc`.
///
/// # Errors
/// Those of the file system; [`io::ErrorKind::AlreadyExists`] when a file is there that is to be kept.
pub fn write_file(path: &Path, bytes: &[u8], existing: Existing) -> io::Result<()> {
    let is_stream = fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir());
    if is_stream || path.starts_with("/dev") || path.starts_with("/proc") {
        return fs::write(path, bytes);
    }
    // What a link names is written, and the link stays.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut file = WholeFile::create(path)?;
    file.write_all(bytes)?;
    file.finish(path, existing)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_kept_or_replaced_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.proof");
        write_file(&path, b"first", Existing::Kept).unwrap();
        assert_eq!(write_file(&path, b"second", Existing::Kept).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write_file(&path, b"third", Existing::Replaced).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_file(&link, b"fourth", Existing::Replaced).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"fourth", "what the link names is written");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && fs::metadata(&path).unwrap().permissions().mode() & 0o777 == 0o600);
        fs::remove_file(link).unwrap();
        let begun = WholeFile::create(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "what is begun stands beside the file");
        drop(begun);
        write_file(Path::new("/dev/null"), b"nobody", Existing::Kept).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
