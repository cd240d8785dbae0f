//! fork(2) and _exit(2).

use std::io;
use std::ptr;

use libc::{c_int, pid_t};

use super::signal::{Disposition, empty_set, full_set, set_default, set_disposition};

/// Which process we are in after [`fork`].
pub(crate) enum Forked {
    Parent(pid_t),
    /// With an error, the child does not ignore what it has to.
    Child(io::Result<()>),
}

/// `fork(2)`; the child starts with an empty signal mask and no handlers of its parent, and ignores
/// the signals `ignored`.
///
/// Signals are held back over the fork. Otherwise: the parent has a handler that writes to its
/// self-pipe; a signal meets the child before it has reset anything; the child's copy of the
/// handler writes to the *parent's* pipe, and the parent acts on a signal it never got.
///
/// With `new_group`, the child is alone in a process group before any signal meets it, and what had
/// come for the group of its parent by then is forgotten: it is the parent's to act on.
///
/// The caller must have made sure that the process has one thread.
pub(crate) fn fork(new_group: bool, ignored: &[c_int]) -> io::Result<Forked> {
    let all = full_set();
    let mut before = empty_set();
    let mut dispositions = Ok(());
    // SAFETY: the sets are initialised and outlive the calls. With one thread, the child is a
    // complete copy: no lock is held by a thread that it does not have.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before);
        let pid = libc::fork();
        if pid == 0 {
            if new_group {
                libc::setpgid(0, 0);
                forget_pending();
            }
            dispositions = reset_dispositions(ignored);
            before = empty_set();
        }
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        match pid {
            -1 => Err(error),
            0 => Ok(Forked::Child(dispositions)),
            pid => Ok(Forked::Parent(pid)),
        }
    }
}

/// To ignore a signal is also to discard it where it is held back. The caller resets that.
fn forget_pending() {
    let mut pending = empty_set();
    // SAFETY: the set is initialised, and written to by the first call only. Ignoring a signal runs
    // no code of ours.
    unsafe {
        libc::sigpending(&raw mut pending);
        for signal in 1..=libc::SIGRTMAX() {
            if libc::sigismember(&raw const pending, signal) == 1 {
                libc::signal(signal, libc::SIG_IGN);
            }
        }
    }
}

/// Resets to default what the parent had handled or ignored. Except `SIGPIPE`, which Rust programs
/// ignore from birth, and so does this copy of one; those by which std tells of a stack overflow,
/// which it will tell of in the copy, too; and the signals `ignored`, which the copy ignores: one that
/// is pending is discarded by that. After an error, the others are reset all the same.
fn reset_dispositions(ignored: &[c_int]) -> io::Result<()> {
    let mut result = Ok(());
    for signal in 1..=libc::SIGRTMAX() {
        if ignored.contains(&signal) {
            result = result.and(set_disposition(signal, Disposition::Ignored));
        } else if ![libc::SIGPIPE, libc::SIGSEGV, libc::SIGBUS].contains(&signal) {
            set_default(signal);
        }
    }
    result
}

/// Ends this process without running what the parent's code has registered for its own end.
pub(crate) fn exit_now(code: u8) -> ! {
    // SAFETY: _exit(2) runs no code of the process.
    unsafe { libc::_exit(code.into()) }
}
