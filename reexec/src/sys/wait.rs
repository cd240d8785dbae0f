//! waitid(2) and wait4(2).

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use libc::{pid_t, siginfo_t};

use super::errno::{check_return, is, retry_on_interrupt};
use crate::usage::Usage;

/// Names the child to wait for.
///
/// Its number is used if there is no pidfd, or if the kernel refuses it. No other process has the
/// number before the child has been reaped.
#[derive(Clone, Copy)]
pub(crate) struct WaitTarget<'a> {
    pub(crate) pid: pid_t,
    pub(crate) pidfd: Option<BorrowedFd<'a>>,
}

/// Tells how a child has ended.
pub(crate) struct End {
    pub(crate) pid: pid_t,
    pub(crate) status: ExitStatus,
    pub(crate) usage: Usage,
}

/// Reaps the child if it has ended; returns `None` while it runs.
///
/// Fails with `ECHILD` if the status is lost: the kernel discarded it, because this process ignores
/// `SIGCHLD`, or other code in this process waited for the child.
pub(crate) fn try_reap(child: WaitTarget<'_>) -> io::Result<Option<(ExitStatus, Usage)>> {
    let end = match wait(child, libc::WEXITED | libc::WNOHANG) {
        // A filter may refuse the newer call and allow the older one.
        Err(error) if !is(&error, libc::ECHILD) => wait4(child.pid)?,
        end => end?,
    };
    Ok(end.map(|end| (end.status, end.usage)))
}

/// Reaps any one child of this process that has ended; returns `None` if none has. First calls
/// `before_reap` with its number, unless a filter refuses waitid(2).
///
/// Fails with `ECHILD` if there is no child at all.
pub(crate) fn try_reap_any(before_reap: impl Fn(pid_t)) -> io::Result<Option<End>> {
    match waitid(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) {
        Ok(Some(End { pid, .. })) => {
            before_reap(pid);
            waitid(libc::P_PID, pid, libc::WEXITED | libc::WNOHANG)
        }
        Err(error) if !is(&error, libc::ECHILD) => wait4(-1),
        end => end,
    }
}

/// Blocks until the child has ended, and leaves it unreaped. Also returns if other code has reaped
/// it.
pub(crate) fn await_end(child: WaitTarget<'_>) -> io::Result<()> {
    match wait(child, libc::WEXITED | libc::WNOWAIT) {
        Err(error) if !is(&error, libc::ECHILD) => Err(error),
        _ => Ok(()),
    }
}

/// Whether this is a child of ours that has not been reaped; `true` if the kernel refuses to tell.
pub(crate) fn is_unreaped(child: WaitTarget<'_>) -> bool {
    let end = wait(child, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT);
    !end.is_err_and(|error| is(&error, libc::ECHILD))
}

/// Whether the child, which is unreaped, has ended. Fails as [`try_reap`] does.
pub(crate) fn has_ended(child: WaitTarget<'_>) -> io::Result<bool> {
    Ok(wait(child, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)?.is_some())
}

/// Waits by the pidfd, or by the number if there is no pidfd, or if the kernel or a filter refuses
/// it.
fn wait(child: WaitTarget<'_>, flags: c_int) -> io::Result<Option<End>> {
    if let Some(pidfd) = child.pidfd {
        match waitid(libc::P_PIDFD, pidfd.as_raw_fd(), flags) {
            Err(error) if !is(&error, libc::ECHILD) => {}
            end => return end,
        }
    }
    waitid(libc::P_PID, child.pid, flags)
}

/// Calls the kernel's waitid(2), which has a parameter more than libc's function, for the usage.
fn waitid(kind: libc::idtype_t, id: c_int, flags: c_int) -> io::Result<Option<End>> {
    retry_on_interrupt(|| {
        let mut info = MaybeUninit::<siginfo_t>::zeroed();
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both are valid for writes. Both are plain integers, so all-zero is a value too; the
        // call leaves it so when no child has ended.
        let (info, usage) = unsafe {
            let (info_out, usage_out) = (info.as_mut_ptr(), usage.as_mut_ptr());
            check_return(libc::syscall(libc::SYS_waitid, kind, id, info_out, flags, usage_out))?;
            (info.assume_init(), usage.assume_init())
        };
        // SAFETY: after waitid(2) these fields of the union are the ones in use.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        Ok((pid != 0).then(|| End {
            pid,
            status: exit_status(info.si_code, status),
            usage: Usage::from_raw(&usage),
        }))
    })
}

/// Reaps the child with this number, or any child for -1, if it has ended.
fn wait4(pid: pid_t) -> io::Result<Option<End>> {
    retry_on_interrupt(|| {
        let mut status = 0;
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both are valid for writes; all-zero is a value of these plain integers.
        let (ended, usage) = unsafe {
            let usage_out = usage.as_mut_ptr();
            let ended = libc::wait4(pid, &raw mut status, libc::WNOHANG, usage_out);
            (check_return(ended.into())?, usage.assume_init())
        };
        Ok((ended != 0).then(|| End {
            pid: ended as pid_t,
            status: ExitStatus::from_raw(status),
            usage: Usage::from_raw(&usage),
        }))
    })
}

/// Packs into one number what waitid(2) returns in two, as wait(2) does and std expects.
fn exit_status(code: c_int, status: c_int) -> ExitStatus {
    const CORE_DUMPED: c_int = 0x80;
    ExitStatus::from_raw(match code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | CORE_DUMPED,
        _ => status,
    })
}
