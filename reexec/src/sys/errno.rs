//! errno(3): turns what a system call returns into a result, and tells errors apart.

use std::ffi::c_int;
use std::io;

/// Checks the result of a call that returns an error number.
pub(super) fn check_errno(errno: c_int) -> io::Result<()> {
    match errno {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// Checks the result of a call that returns -1 and sets `errno`.
pub(super) fn check_return(value: libc::c_long) -> io::Result<libc::c_long> {
    match value {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// Whether the error has this number.
pub(crate) fn is(error: &io::Error, errno: c_int) -> bool {
    error.raw_os_error() == Some(errno)
}

/// Whether the error has one of these numbers.
pub(crate) fn is_one_of(error: &io::Error, numbers: &[c_int]) -> bool {
    numbers.iter().any(|errno| is(error, *errno))
}

/// Whether the kernel does not know the call, or a filter or a security module forbids it.
///
/// A later call will fail in the same way, unlike after `EMFILE` or `ENOMEM`.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    is_one_of(error, &[libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EINVAL])
}

/// Repeats the call as long as a signal handler interrupts it.
pub(crate) fn retry_on_interrupt<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
