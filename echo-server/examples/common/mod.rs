//! What every one of these programs does in the same way, and none is about.

#![allow(dead_code, reason = "each program uses its part of this file")]

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// The value of an option in seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

/// `println!` would panic if nobody reads our output any more (`| head -1`).
pub(crate) fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write to stdout: {error}")))
}

/// Gives whoever runs this the time to look.
pub(crate) fn wait_for_enter() -> io::Result<()> {
    say("Press Enter to go on.")?;
    io::stdin().read_line(&mut String::new()).map(drop)
}

/// The exit code of a process: 0, or 1 after a sentence on stderr.
pub(crate) fn report(program: &str, result: Result<(), impl Display>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let _ = writeln!(io::stderr(), "{program}: {error}");
    ExitCode::FAILURE
}

/// Waits until this can be read without waiting, and whether that was so in time. A child's pidfd
/// can when the child has ended, reaped or not.
pub(crate) fn is_readable(file: impl AsFd, limit: Option<Duration>) -> io::Result<bool> {
    let timeout = limit.map_or(Ok(PollTimeout::NONE), PollTimeout::try_from);
    let mut watched = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut watched, timeout.unwrap_or(PollTimeout::MAX))? > 0)
}

/// Waits until a child has ended, and its parent has been sent SIGCHLD. Leaves the zombie, if there is
/// one. A pidfd is readable a moment before the signal is sent, so a parent that changes what SIGCHLD
/// does would, now and then, change it for that signal, too.
pub(crate) fn await_end(child: u32) -> io::Result<()> {
    let child = Id::Pid(Pid::from_raw(child.cast_signed()));
    match waitid(child, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
        // Where SIGCHLD is ignored, that is how the end shows.
        Ok(_) | Err(Errno::ECHILD) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
