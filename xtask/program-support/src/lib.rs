//! What the chapter's programs and examples share, and none of them is about.

#![cfg(target_os = "linux")] // elsewhere it is empty, so that the only error is that of reexec
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::Display;
use std::io::{self, StdoutLock, Write};
use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// The exit code of a program that is not possible on this machine.
pub const EXIT_NOT_POSSIBLE: u8 = 77;

/// Prints the error, if there is one, to stderr, and returns the exit code of the process: 0 or 1.
pub fn exit_code(program: &str, result: Result<(), impl Display>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    print_to_stderr(&format!("{program}: {error}"));
    ExitCode::FAILURE
}

/// Prints a line in one piece: parent and child may print at the same time, and std sends the parts of
/// a `writeln!` to stderr one by one. Where stderr cannot be written, the program goes on without it.
fn print_to_stderr(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Returns stdout for `writeln!`, whose errors then say what could not be done. `println!` would
/// panic when nobody reads our output any more (`| head -1`).
pub fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

/// See [`stdout`].
#[derive(Debug)]
pub struct Stdout(StdoutLock<'static>);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(cannot_write)
    }

    /// Passed on whole: from `write`, std would send the parts of a line to the kernel one by one,
    /// and the lines of two processes could mix.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).map_err(cannot_write)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(cannot_write)
    }
}

fn cannot_write(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write to stdout: {error}"))
}

/// Parses the value of an option in seconds.
///
/// # Errors
///
/// If it is no number, or no duration: negative, infinite or too large.
pub fn seconds(text: &str) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

/// Prints the command that shows these processes in another terminal. On stderr, because the lines on
/// stdout are the chapter's.
pub fn suggest_ps(pids: &[u32]) {
    let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
    print_to_stderr(&format!("look: ps -o pid,ppid,stat,wchan:20,args -p {}", pids.join(",")));
}

/// Waits until the user, who has looked meanwhile, presses Enter, or until the end of stdin.
///
/// # Errors
///
/// Those of writing to stdout and of reading from stdin.
pub fn wait_for_enter() -> io::Result<()> {
    writeln!(stdout(), "Press Enter to go on.")?;
    io::stdin().read_line(&mut String::new()).map(drop)
}

/// Waits until `file` can be read without waiting, and returns whether that was so within `limit`.
/// A child's pidfd can be read when the child has ended, reaped or not.
///
/// # Errors
///
/// Those of poll(2).
pub fn wait_until_readable(file: impl AsFd, limit: Option<Duration>) -> io::Result<bool> {
    let timeout = limit.map_or(Ok(PollTimeout::NONE), PollTimeout::try_from);
    let mut watched = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut watched, timeout.unwrap_or(PollTimeout::MAX))? > 0)
}

/// Waits until the child has ended and its parent, this process, has been sent SIGCHLD. Leaves the
/// zombie, if there is one.
///
/// A pidfd is readable a moment before the signal is sent: a parent that waited for that, and then
/// changed what SIGCHLD does, would now and then change it for that signal, too.
///
/// # Errors
///
/// Those of waitid(2), except that there is no such child: where SIGCHLD is ignored, its end shows
/// so.
pub fn wait_until_ended(child: u32) -> io::Result<()> {
    let child = Id::Pid(Pid::from_raw(child.cast_signed()));
    match waitid(child, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
        Ok(_) | Err(Errno::ECHILD) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Checks that strace can trace a program here.
///
/// # Errors
///
/// If it cannot: a sentence that says why, and what helps.
pub fn check_strace() -> Result<(), String> {
    let tried = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match tried {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("strace cannot trace here ({status}); root can, for example")),
        Err(error) => Err(format!("strace cannot be run ({error}); apt-get install strace")),
    }
}
