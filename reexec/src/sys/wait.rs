//! waitid(2) and wait4(2).

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use libc::{pid_t, siginfo_t};

use super::{checked, is, retry};
use crate::usage::Usage;

/// The child to wait for.
///
/// Its number is used where the pidfd is missing, or refused: before the child has been reaped, it
/// is nobody else's.
#[derive(Clone, Copy)]
pub(crate) struct WaitTarget<'a> {
    pub(crate) pid: pid_t,
    pub(crate) pidfd: Option<BorrowedFd<'a>>,
}

/// How a child has ended.
pub(crate) struct End {
    pub(crate) pid: pid_t,
    pub(crate) status: ExitStatus,
    pub(crate) usage: Usage,
}

/// Reaps the child if it has ended; `None` while it runs.
///
/// `ECHILD` means that its status is gone: the kernel discarded it because `SIGCHLD` is ignored
/// here, or somebody else in this process waited for it.
pub(crate) fn try_reap(child: WaitTarget<'_>) -> io::Result<Option<(ExitStatus, Usage)>> {
    let end = match wait(child, libc::WEXITED | libc::WNOHANG) {
        // A filter may refuse the newer call and allow the older one.
        Err(error) if !is(&error, libc::ECHILD) => wait4(child.pid)?,
        end => end?,
    };
    Ok(end.map(|end| (end.status, end.usage)))
}

/// Reaps one child of this process that has ended, whichever; `None` if none has.
///
/// `ECHILD` if there is no child at all.
pub(crate) fn try_reap_any() -> io::Result<Option<End>> {
    match waitid(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG) {
        Err(error) if !is(&error, libc::ECHILD) => wait4(-1),
        end => end,
    }
}

/// Blocks until the child has ended, and leaves it unreaped. Returns also if it turns out that
/// somebody else has reaped it.
pub(crate) fn await_end(child: WaitTarget<'_>) -> io::Result<()> {
    match wait(child, libc::WEXITED | libc::WNOWAIT) {
        Err(error) if !is(&error, libc::ECHILD) => Err(error),
        _ => Ok(()),
    }
}

/// Whether this is a child of ours that has not been reaped; `true` if the kernel does not say.
pub(crate) fn is_unreaped(child: WaitTarget<'_>) -> bool {
    let end = wait(child, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT);
    !end.is_err_and(|error| is(&error, libc::ECHILD))
}

/// Whether the child has ended, as far as the kernel says. Leaves it unreaped.
pub(crate) fn has_ended(child: WaitTarget<'_>) -> bool {
    let end = wait(child, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT);
    matches!(end, Ok(Some(_)))
}

/// By the pidfd; by the number if there is none, or if the kernel or a filter refuses it.
fn wait(child: WaitTarget<'_>, flags: c_int) -> io::Result<Option<End>> {
    if let Some(pidfd) = child.pidfd {
        match waitid(libc::P_PIDFD, pidfd.as_raw_fd(), flags) {
            Err(error) if !is(&error, libc::ECHILD) => {}
            end => return end,
        }
    }
    waitid(libc::P_PID, child.pid, flags)
}

/// The system call itself: libc's function lacks the last parameter, which is the kernel's.
fn waitid(kind: libc::idtype_t, id: c_int, flags: c_int) -> io::Result<Option<End>> {
    retry(|| {
        let mut info = MaybeUninit::<siginfo_t>::zeroed();
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both are valid for writes. Both are plain integers, so all-zero is a value too:
        // that is what the call leaves behind when no child has ended.
        let (info, usage) = unsafe {
            let (info_out, usage_out) = (info.as_mut_ptr(), usage.as_mut_ptr());
            checked(libc::syscall(
                libc::SYS_waitid,
                kind,
                id,
                info_out,
                flags,
                usage_out,
            ))?;
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

/// Reaps without waiting, by wait4(2): the child with this number, or any for -1.
fn wait4(pid: pid_t) -> io::Result<Option<End>> {
    retry(|| {
        let mut status = 0;
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: both are valid for writes; all-zero is a value of these plain integers.
        let (ended, usage) = unsafe {
            let usage_out = usage.as_mut_ptr();
            let ended = libc::wait4(pid, &raw mut status, libc::WNOHANG, usage_out);
            (checked(ended.into())?, usage.assume_init())
        };
        Ok((ended != 0).then(|| End {
            pid: ended as pid_t,
            status: ExitStatus::from_raw(status),
            usage: Usage::from_raw(&usage),
        }))
    })
}

/// waitid(2) splits what wait(2) packs into one number, which is what std keeps.
fn exit_status(code: c_int, status: c_int) -> ExitStatus {
    const CORE_DUMPED: c_int = 0x80;
    ExitStatus::from_raw(match code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | CORE_DUMPED,
        _ => status,
    })
}
