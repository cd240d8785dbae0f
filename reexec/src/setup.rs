//! The child's side of a start, before its entry runs: everything that others do between fork and
//! exec. Done after exec it is ordinary code, and the spawn stays on the fast path.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::Instant;

use nix::sys::prctl;

use crate::control::{CONTROL_FD, Control};
use crate::message::{Launch, Report};
use crate::readiness::wait_readable;
use crate::{descriptors, sys, threads};

const DESCRIPTORS: &str = "/proc/self/fd";

/// The control channel that our parent left us; `None` in an ordinary start.
pub(crate) fn control_channel() -> Option<Control> {
    if !sys::with_descriptor(CONTROL_FD, Control::is_at)? {
        return None;
    }
    sys::take_inherited(CONTROL_FD).ok().map(Control::from_fd)
}

/// Applies what the parent asked for, in the order that works.
pub(crate) fn apply(launch: &Launch) -> Result<(), Report> {
    // First what was declared becomes ours, and so close-on-exec; what is left over without that
    // flag was leaked into us.
    let lifeline = match launch.lifeline {
        Some((fd, signal)) => Some((
            step("taking the lifeline", sys::take_inherited(fd))?,
            signal,
        )),
        None => None,
    };
    if let Some(fd) = launch.keep_open {
        descriptors::keep_open(step("taking the handle's end", sys::take_inherited(fd))?);
    }
    step("taking the descriptors", take(&launch.descriptors))?;
    step("closing undeclared descriptors", close_undeclared(launch))?;
    step("naming the process", set_name(&launch.entry))?;
    if let Some((lifeline, signal)) = lifeline {
        step("tying the process to its parent", tie(lifeline, signal))?;
    }
    for setting in &launch.settings {
        step(&setting.step(), setting.apply())?;
    }
    Ok(())
}

fn take(passed: &[(String, RawFd)]) -> io::Result<()> {
    for (name, fd) in passed {
        descriptors::keep(name, sys::take_inherited(*fd)?);
    }
    Ok(())
}

/// What a child of [`command`](crate::command) finds by itself, for a program that others have
/// started. To be called first in `main`: what any code has opened before that without
/// close-on-exec, as C libraries do, is closed, too, although somebody believes to own it.
///
/// - No signal is blocked, and none is ignored but `SIGPIPE`, which every Rust program ignores. A
///   launcher can leave both behind, and a server that inherits an ignored `SIGCHLD` never learns
///   how its children end.
/// - Every descriptor but stdin, stdout and stderr that came through exec is closed.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`] if the process has several threads, which may have opened
/// something; those of reading `/proc/self/fd`. Without a `/proc`, descriptors become close-on-exec
/// instead.
pub fn clean_start() -> io::Result<()> {
    threads::refuse("closing what others have opened is for a process with one thread")?;
    sys::stop_ignoring();
    sys::unblock_signals();
    close_inherited()
}

/// A launcher that forgets close-on-exec leaks into its children, and into theirs.
fn close_undeclared(launch: &Launch) -> io::Result<()> {
    match fs::metadata(DESCRIPTORS) {
        Ok(folder) if folder.len() == number_declared(launch) => Ok(()),
        _ => close_inherited(),
    }
}

/// Closes what has come through exec and was not made close-on-exec since.
fn close_inherited() -> io::Result<()> {
    const FIRST: RawFd = 3;
    let Ok(open) = fs::read_dir(DESCRIPTORS) else {
        // No /proc here. What has been leaked then stays open, but goes no further.
        return sys::close_on_exec_from(FIRST);
    };
    for entry in open {
        let name = entry?.file_name();
        if let Some(fd) = name.to_str().and_then(|name| name.parse().ok())
            && fd >= FIRST
        {
            sys::close_if_inherited(fd);
        }
    }
    Ok(())
}

/// How many descriptors there are if none was leaked. Since Linux 6.2 that is the size of the
/// folder /proc/self/fd, and before 0: see proc_pid_fd(5). Asking for it is so much faster than
/// reading the folder that it shows in the time of a spawn.
fn number_declared(launch: &Launch) -> u64 {
    const STREAMS_AND_CONTROL: usize = 4;
    let optional = [launch.lifeline.is_some(), launch.keep_open.is_some()];
    let optional = optional.into_iter().filter(|is_there| *is_there).count();
    (STREAMS_AND_CONTROL + optional + launch.descriptors.len()) as u64
}

fn set_name(entry: &str) -> io::Result<()> {
    Ok(prctl::set_name(&CString::new(entry)?)?)
}

/// Arranges that `signal` comes when the parent process, which holds the only write end of this
/// pipe, has ended, however it ended.
///
/// Not `PR_SET_PDEATHSIG`: that one fires when the *thread* that spawned us ends, and is cleared
/// by a change of credentials.
///
/// 1. The parent ends.
/// 2. We arm the signal; the event has passed, so it will never be sent.
///
/// Hence the look at the pipe after arming: whoever comes second notices the other.
fn tie(lifeline: OwnedFd, signal: i32) -> io::Result<()> {
    sys::signal_on_activity(&lifeline, signal)?;
    let [ended] = wait_readable([Some(lifeline.as_fd())], Some(Instant::now()))?;
    if ended {
        sys::signal_self(signal)?;
    }
    // Open for as long as we live: closing it would disarm the signal.
    descriptors::keep_open(lifeline);
    Ok(())
}

fn step<T>(name: &str, result: io::Result<T>) -> Result<T, Report> {
    result.map_err(|error| Report::Failed {
        step: name.to_owned(),
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
    })
}
