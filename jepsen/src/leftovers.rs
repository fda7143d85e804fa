//! What a run makes outside its directory, and how it goes away: also when the run was killed.
//!
//! Each run has a mark below [`MARKS`]: a file that names its process and its directory. Everything that it makes carries its
//! name: network namespaces by their names, file systems and loop devices by where their images lie, processes by a variable of their
//! environment. A mark whose process is gone says that all of it is left over.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    network::NAMESPACE_NAMES,
    program::{self, ProgramError},
};

/// Variable of the environment by which the processes of a run are known.
pub const RUN_VARIABLE: &str = "PROOFLINE_JEPSEN_RUN";
/// Where runs say that they are under way.
pub const MARKS: &str = "/run/proofline-jepsen";

/// Whoever sweeps holds its lock.
const LOCK: &str = "/run/proofline-jepsen.lock";

/// Why leftovers cannot be removed, or a run not be marked.
#[derive(Debug, Error)]
pub enum LeftoversError {
    /// A file cannot be used.
    #[error("cannot use {path}: {source}; the harness needs root")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    process: u32,
    /// Clock ticks after boot at which the process started: a process id is used again, the two together are not.
    started: u64,
    directory: PathBuf,
}

/// The mark of a run that is under way. It is removed when this is dropped.
#[derive(Debug)]
pub struct RunMark {
    name: String,
    path: PathBuf,
}

/// What was found of one run and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Name of the run.
    pub run: String,
    /// Processes that were killed.
    pub processes: usize,
    /// File systems that were unmounted.
    pub mounts: usize,
    /// Loop devices that were detached.
    pub loop_devices: usize,
    /// Network namespaces that were deleted.
    pub namespaces: usize,
}

impl RunMark {
    /// Marks a run whose directory is `directory`, under a name that no other run has.
    ///
    /// # Errors
    /// [`LeftoversError`].
    pub fn place(directory: &Path) -> Result<Self, LeftoversError> {
        fs::create_dir_all(MARKS).map_err(|source| file_error(Path::new(MARKS), source))?;
        let (process, started) = (process::id(), started(process::id()).unwrap_or(0));
        let mut number = 0;
        loop {
            let name = format!("pj{process}-{number}");
            let path = Path::new(MARKS).join(&name);
            let written = Written { process, started, directory: directory.to_owned() };
            match fs::File::create_new(&path) {
                Ok(file) => {
                    serde_json::to_writer(file, &written).map_err(|error| file_error(&path, error.into()))?;
                    return Ok(Self { name, path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(file_error(&path, error)),
            }
        }
    }

    /// Returns the name of the run: what its namespaces are called after.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for RunMark {
    fn drop(&mut self) {
        // Without a mark nothing is looked for; one that stays is swept later.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes what dead runs left behind. Runs whose process lives are left alone.
///
/// # Errors
/// [`LeftoversError`] when something resists.
pub fn sweep() -> Result<Vec<Removed>, LeftoversError> {
    let mut removed = Vec::new();
    let Ok(marks) = fs::read_dir(MARKS) else { return Ok(removed) };
    // Two that sweep at once would each find gone what the other removes. Held until this returns.
    let lock = fs::File::create(LOCK).and_then(|file| file.lock().map(|()| file));
    let _held = lock.map_err(|source| file_error(Path::new(LOCK), source))?;
    for entry in marks.filter_map(Result::ok) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        // A mark that is cut short is that of a run which had not begun to make anything.
        let Ok(content) = fs::read(&path) else { continue };
        let written = serde_json::from_slice::<Written>(&content).ok();
        if written.as_ref().is_some_and(|run| started(run.process) == Some(run.started)) {
            continue;
        }
        if let Some(run) = written {
            removed.push(remove(&name, &run.directory)?);
        }
        fs::remove_file(&path).map_err(|source| file_error(&path, source))?;
    }
    Ok(removed)
}

/// In this order: processes keep file systems busy, file systems keep loop devices.
fn remove(run: &str, directory: &Path) -> Result<Removed, LeftoversError> {
    Ok(Removed {
        run: run.to_owned(),
        processes: kill_processes(run),
        mounts: unmount(directory)?,
        loop_devices: detach(directory)?,
        namespaces: delete_namespaces(run)?,
    })
}

fn kill_processes(run: &str) -> usize {
    let wanted = format!("{RUN_VARIABLE}={run}");
    let all = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_of_run = |id: &i32| {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let mut killed = 0;
    for id in ids.filter(is_of_run) {
        let gone = Pid::from_raw(id).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok());
        killed += usize::from(gone);
        wait_until_gone(id);
    }
    killed
}

/// A killed process lets go of its files a little later; one that waits for a frozen disk does so once that is thawed.
fn wait_until_gone(id: i32) {
    for _ in 0..100 {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        if matches!(state, None | Some('Z' | 'D')) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn unmount(directory: &Path) -> Result<usize, LeftoversError> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below: Vec<&str> =
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|at| Path::new(at).starts_with(directory)).collect();
    for at in below.iter().rev() {
        // Only a frozen one can be thawed; the others refuse.
        let _ = program::run("fsfreeze", &["--unfreeze", at]);
        program::run("umount", &["-l", at])?;
    }
    Ok(below.len())
}

fn detach(directory: &Path) -> Result<usize, LeftoversError> {
    let listed = program::run("losetup", &["--list", "--noheadings", "--output", "NAME,BACK-FILE"])?;
    let ours = listed.lines().filter_map(|line| line.split_once(' '));
    let ours: Vec<&str> = ours.filter(|(_, file)| Path::new(file.trim()).starts_with(directory)).map(|(name, _)| name).collect();
    for device in &ours {
        // The device goes with its last user: a lazy unmount may have done it in the meantime.
        let _ = program::run("losetup", &["--detach", device]);
    }
    Ok(ours.len())
}

fn delete_namespaces(run: &str) -> Result<usize, LeftoversError> {
    let prefix = format!("{run}-");
    let names = fs::read_dir(NAMESPACE_NAMES).into_iter().flatten().filter_map(Result::ok);
    let ours: Vec<String> =
        names.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(&prefix)).collect();
    for name in &ours {
        program::run("ip", &["netns", "delete", name])?;
    }
    Ok(ours.len())
}

/// Returns when a process started, in clock ticks after boot; `None` when there is none.
fn started(process: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    if rest.starts_with('Z') {
        return None;
    }
    rest.split(' ').nth(19)?.parse().ok()
}

fn file_error(path: &Path, source: io::Error) -> LeftoversError {
    LeftoversError::File { path: path.to_owned(), source }
}
