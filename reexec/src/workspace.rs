//! Safe wrappers for the other crates of this workspace; not public API.
//!
//! Those crates forbid unsafe code, so the system calls that they need and that neither std nor nix
//! offers are made here. A cargo feature would be no better: this crate would be compiled once with it
//! and once without.

use std::io;
use std::os::fd::OwnedFd;

use crate::sys::{self, Disposition};

/// Counts the signal from now on, and does nothing else about it; see [`counted`].
///
/// Signals merge: of the signals that are sent while one is pending, only that one comes. So the count
/// is a lower bound. System calls that the handler interrupts are restarted, except those that never
/// are, such as poll(2) and nanosleep(2).
///
/// # Errors
///
/// As [`signal::ignore`](crate::signal::ignore); also `EINVAL` for the signals of a fault, such as
/// `SIGSEGV`, because the handler would return to the faulty instruction for ever.
pub fn count(signal: i32) -> io::Result<()> {
    if [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL].contains(&signal) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    sys::set_disposition(signal, Disposition::Counted)
}

/// Returns how often the signal has come since the program started, while it was [counted](count).
pub fn counted(signal: i32) -> usize {
    sys::counted(signal)
}

/// Makes `SIGCHLD` report only the ends of children, no longer that a child was stopped or continued
/// (`SA_NOCLDSTOP`), until the disposition of `SIGCHLD` is set again.
///
/// # Errors
///
/// None are known.
pub fn set_no_child_stop() -> io::Result<()> {
    sys::add_flag(libc::SIGCHLD, libc::SA_NOCLDSTOP)
}

/// Makes children leave no zombie when they end, and no status (`SA_NOCLDWAIT`), whatever the
/// disposition of `SIGCHLD`, until that is set again.
///
/// A wait for any child then blocks until no child is left, and fails with `ECHILD`. A child that is a
/// zombie already stays one until it is waited for.
///
/// # Errors
///
/// None are known.
pub fn set_no_child_wait() -> io::Result<()> {
    sys::add_flag(libc::SIGCHLD, libc::SA_NOCLDWAIT)
}

/// Opens a pidfd for `pid`, which need not be a child. It is readable once the process has ended.
///
/// Another process may have got the number just before; only the caller can know which one it wants.
///
/// # Errors
///
/// Fails with `ESRCH` if there is no such process, not even a zombie; `EINVAL` if `pid` is not the
/// number of a process; `ENOSYS` before Linux 5.3; `EPERM` or another error of a filter that refuses
/// pidfd_open(2); and `EMFILE` or `ENFILE` without room for another descriptor.
pub fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    sys::pidfd_open(pid)
}

/// Whether the effective capabilities of the calling thread include this one, a `CAP_*` of
/// capabilities(7) by its number.
///
/// # Errors
///
/// An error of a filter that refuses capget(2).
pub fn has_capability(number: u32) -> io::Result<bool> {
    let [low, _, _, high, _, _] = sys::capabilities()?;
    let effective = u64::from(high) << 32 | u64::from(low);
    Ok(effective.checked_shr(number).is_some_and(|rest| rest & 1 == 1))
}

/// Takes all capabilities from the calling thread, and with them the ambient ones. They come back when it
/// executes a program as root, unless no_new_privs is set or the bounding set is empty.
///
/// # Errors
///
/// An error of a filter that refuses capset(2).
pub fn drop_capabilities() -> io::Result<()> {
    sys::drop_capabilities()
}
