//! pidfd_open(2), pidfd_send_signal(2), and kill(2) where there is no pidfd.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use libc::{pid_t, siginfo_t};

use super::checked;

/// Opens a pidfd for `pid`; close-on-exec by definition of the call.
pub(crate) fn pidfd_open(pid: pid_t) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed; a non-negative result is a descriptor that nobody else owns.
    unsafe {
        let fd = checked(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Sends `signal` to the process behind `pidfd`; fails with `ESRCH` once it has been reaped.
pub(crate) fn pidfd_send_signal(pidfd: impl AsFd, signal: c_int) -> io::Result<()> {
    let info = ptr::null::<siginfo_t>();
    // SAFETY: a null `info` means "as kill(2) would fill it in".
    checked(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            info,
            0,
        )
    })
    .map(drop)
}

/// kill(2), for a child that has not been reaped, so that the number is its own.
pub(crate) fn kill(pid: pid_t, signal: c_int) -> io::Result<()> {
    // SAFETY: integers only.
    checked(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}
