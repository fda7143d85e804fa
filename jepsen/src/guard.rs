//! Who cleans up after a harness that was killed: another process, which waits for its end.

use std::{
    env, io,
    os::unix::process::CommandExt as _,
    process::{self, Child, Command, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};

/// The process that waits. It ends when this is dropped: then there is nothing to clean.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// Starts `clean --when-gone` of this program for this process, in a group of its own: what interrupts the harness from a
    /// terminal does not interrupt the guard.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn post() -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["clean", "--when-gone", &process::id().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It may be gone already: whoever ends it does no harm, the next harness sweeps.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a process is gone.
///
/// # Errors
/// When the system does not let this process wait for that one.
pub fn wait_until_gone(process: u32) -> io::Result<()> {
    let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return Ok(()) };
    let watched = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(watched) => watched,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    loop {
        match poll(&mut [PollFd::new(&watched, PollFlags::IN)], None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
    }
}
