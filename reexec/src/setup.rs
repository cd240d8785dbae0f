//! The child's side of a start, before its entry runs: everything that others do between fork and
//! exec. Done after exec it is ordinary code, and the spawn stays on the fast path.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::Instant;

use nix::sys::prctl;

use crate::message::{Launch, Report};
use crate::readiness::wait_readable;
use crate::{descriptors, sys, threads};

/// After the standard streams.
const FIRST_UNDECLARED: RawFd = 3;

/// Applies what the parent asked for, in the order that works.
pub(crate) fn apply(launch: &Launch) -> Result<(), Report> {
    // First what was declared becomes ours, and so close-on-exec.
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
    if let Some(fd) = launch.image {
        drop(step("closing the sealed copy", sys::take_inherited(fd))?);
    }
    step("taking the descriptors", take(&launch.descriptors))?;
    if !launch.is_closed {
        // What is left over was leaked into us, or opened since by code that ran before `main`,
        // such as the constructor of a preloaded library. As it may be the latter, it is not ours
        // to close: its number would be reused, and its owner would write into what somebody else
        // has opened.
        let marked = sys::close_on_exec_from(FIRST_UNDECLARED);
        step("setting close-on-exec on undeclared descriptors", marked)?;
    }
    // Where that is refused, a name is lost, and nothing else.
    let _ = set_name(&launch.entry);
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
///   how its children end. An ignored `SIGHUP` stays ignored: somebody has asked for that, by nohup(1)
///   for instance.
/// - Every descriptor but stdin, stdout and stderr that came through exec is closed.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`] if the process has several threads, which may have opened
/// something. Without a `/proc`, descriptors become close-on-exec instead; those of doing that.
pub fn clean_start() -> io::Result<()> {
    threads::refuse("closing what others have opened is for a process with one thread")?;
    sys::stop_ignoring();
    sys::unblock_signals();
    close_inherited()
}

/// Closes what has come through exec and was not made close-on-exec since.
fn close_inherited() -> io::Result<()> {
    match sys::open_descriptors() {
        Ok(open) => {
            let undeclared = open.into_iter().filter(|fd| *fd >= FIRST_UNDECLARED);
            undeclared.for_each(sys::close_if_inherited);
            Ok(())
        }
        // What has been leaked then stays open, but goes no further.
        Err(_) => sys::close_on_exec_from(FIRST_UNDECLARED),
    }
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
