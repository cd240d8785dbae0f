//! The system calls that neither std nor nix offers in a safe form, and all of the workspace's
//! `unsafe`: a file for each family of calls. Each function is safe to call: what its block needs,
//! its signature or its first lines guarantee.
#![allow(unsafe_code)] // The one place for it; see the SAFETY note at each block.

mod descriptor;
mod fork;
mod pidfd;
mod process;
mod signal;
mod spawn;
mod strings;
mod wait;

use std::ffi::c_int;
use std::io;

pub(crate) use descriptor::{
    close_and_forget, close_if_inherited, close_on_exec_from, duplicate_above, is_readable,
    open_descriptors, set_close_on_exec, signal_on_activity, socket_type, take_inherited,
};
pub(crate) use fork::{Forked, exit_now, fork};
pub(crate) use pidfd::{kill, pidfd_open, pidfd_send_signal};
pub(crate) use process::{nice, path_executed_by, set_umask};
pub(crate) use signal::{
    Disposition, add_flag, check_ignorable, check_signal, is_ignored, noted, set_disposition,
    signal_self, stop_ignoring, unblock_signal, unblock_signals, without_signals,
};
pub(crate) use spawn::{SpawnError, SpawnSpec, can_close_from, spawn};
pub(crate) use strings::{CStrings, ContainsNul};
pub(crate) use wait::{WaitTarget, await_end, has_ended, is_unreaped, try_reap, try_reap_any};

/// For calls that return an error number.
fn check(errno: c_int) -> io::Result<()> {
    match errno {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// For calls that return -1 and set `errno`.
fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// Whether the system gave this number as the reason.
pub(crate) fn is(error: &io::Error, errno: c_int) -> bool {
    error.raw_os_error() == Some(errno)
}

/// Whether the system gave one of these numbers as the reason.
pub(crate) fn is_one_of(error: &io::Error, numbers: &[c_int]) -> bool {
    numbers.iter().any(|errno| is(error, *errno))
}

/// Whether the kernel does not know the call, or it is forbidden here: by a container's filter or
/// by a security module. A later call will have the same answer, unlike after `EMFILE` or `ENOMEM`.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    is_one_of(
        error,
        &[libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EINVAL],
    )
}

/// Calls again while a signal handler of somebody else's interrupts.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
