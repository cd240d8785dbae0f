//! pidfd_open(2), pidfd_send_signal(2), and kill(2) where there is no pidfd.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{pid_t, siginfo_t};

use super::errno::check_return;

/// Opens a pidfd for `pid`. The kernel makes every pidfd close-on-exec.
pub(crate) fn pidfd_open(pid: pid_t) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed; a non-negative result is a descriptor that nobody else owns.
    unsafe {
        let fd = check_return(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Sends `signal` to the process of `pidfd`. Fails with `ESRCH` once it has been reaped.
pub(crate) fn pidfd_send_signal(pidfd: impl AsFd, signal: c_int) -> io::Result<()> {
    let info = ptr::null::<siginfo_t>();
    // SAFETY: a null `info` means "as kill(2) would fill it in".
    check_return(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, info, 0)
    })
    .map(drop)
}

/// Sends `signal` to the members of the group that the process of `pidfd` leads, or has led. Fails with
/// `EINVAL` before Linux 6.9, and with `ESRCH` if there is no member.
pub(crate) fn pidfd_signal_group(pidfd: impl AsFd, signal: c_int) -> io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: c_int = 1 << 2;
    let (fd, info) = (pidfd.as_fd().as_raw_fd(), ptr::null::<siginfo_t>());
    // SAFETY: a null `info` means "as kill(2) would fill it in".
    check_return(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, PIDFD_SIGNAL_PROCESS_GROUP)
    })
    .map(drop)
}

/// Sends `signal` to the group that `pid` leads. It must be a child that has not been reaped, so that
/// no other group has its number.
pub(crate) fn kill_group(pid: pid_t, signal: c_int) -> io::Result<()> {
    // A child's number is above 1, so this is not -1, which would mean all processes.
    kill(-pid, signal)
}

/// Sends `signal` to `pid`. It must be a child that has not been reaped, so that no other process
/// has its number.
pub(crate) fn kill(pid: pid_t, signal: c_int) -> io::Result<()> {
    // SAFETY: integers only.
    check_return(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}
