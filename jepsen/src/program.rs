//! Programs of the system that the harness runs: `ip`, `mount` and the like.

use std::{
    io,
    process::{Command, Stdio},
};

use thiserror::Error;

/// Why a program did not do what it was asked.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// It cannot be started.
    #[error("cannot run `{program}` ({source}); `make setup` installs it (Debian package {package})")]
    Missing {
        /// The program.
        program: String,
        /// Who ships it.
        package: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("`{line}` failed: {said}")]
    Failed {
        /// The command line.
        line: String,
        /// What it wrote to standard error.
        said: String,
    },
}

/// Programs, and the Debian packages that bring them.
pub const NEEDED: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("losetup", "mount"),
    ("fsfreeze", "util-linux"),
    ("fallocate", "util-linux"),
    ("xfs_io", "xfsprogs"),
];

/// Runs a program to its end and returns what it wrote to standard output.
///
/// # Errors
/// [`ProgramError`].
pub fn run(program: &str, arguments: &[&str]) -> Result<String, ProgramError> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|source| missing(program, source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ProgramError::Failed { line: format!("{program} {}", arguments.join(" ")), said })
}

fn missing(program: &str, source: io::Error) -> ProgramError {
    let package = NEEDED.iter().find(|(name, _)| *name == program).map_or("unknown", |(_, package)| package);
    ProgramError::Missing { program: program.to_owned(), package, source }
}

/// Tells whether a program is on the path.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()))
}
