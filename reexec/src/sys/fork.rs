//! fork(2) and _exit(2).

use std::io;
use std::ptr;

use libc::{c_int, pid_t};

use super::signal::{Disposition, empty_set, full_set, set_default, set_disposition};

/// The process we are in after [`fork`].
pub(crate) enum Forked {
    Parent(pid_t),
    /// An error means that the child does not ignore the signals that it must ignore.
    Child(io::Result<()>),
}

/// Forks. The child starts with an empty signal mask and none of the parent's handlers, and ignores
/// the signals `ignored`.
///
/// All signals are blocked during the fork. Otherwise:
///
/// 1. The parent has a handler that writes to its self-pipe, and forks.
/// 2. A signal reaches the child before it has reset the handler.
/// 3. The child's copy of the handler writes to the *parent's* pipe, and the parent acts on a signal
///    that it never got.
///
/// With `new_group`, the child is alone in a new process group before it unblocks signals, and
/// discards what came for the parent's group until then.
///
/// The process must have one thread; the caller checks that.
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
                discard_pending();
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

/// Discards the pending signals, by ignoring them. The caller resets their dispositions.
fn discard_pending() {
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

/// Resets the disposition of each signal to its default, except three kinds:
///
/// - `SIGPIPE`, which Rust programs ignore from their start on;
/// - `SIGSEGV` and `SIGBUS`, by which std reports a stack overflow, also in the copy;
/// - the signals `ignored`, which the copy ignores. That also discards a pending one.
///
/// After an error it goes on with the next signal.
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

/// Ends this process, and runs neither destructors nor atexit(3) handlers.
pub(crate) fn exit_now(code: u8) -> ! {
    // SAFETY: _exit(2) runs no code of the process.
    unsafe { libc::_exit(code.into()) }
}
