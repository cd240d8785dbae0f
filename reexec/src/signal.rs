//! What happens when a signal comes: its disposition, for programs in which that is the point.
//!
//! Most programs need none of this: to wait for children there is the pidfd of a
//! [`Child`](crate::Child), and other signals are best blocked and read from a `signalfd` in the
//! program's own loop, where anything may be done. A handler runs between any two instructions of
//! the program, perhaps in the middle of `malloc`, and may do next to nothing; the one here counts.
//!
//! A disposition belongs to the whole process. A forked copy inherits it, except the copies that
//! [`fork`](crate::fork()) makes; so does a program that is executed, except that what was handled
//! is default there. What is *ignored* stays ignored, also in a program that knows nothing of it; a
//! [`command`](crate::command) starts with everything at default, whatever its parent has. See
//! signal(7) and sigaction(2).
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! reexec::signal::note(libc::SIGUSR1)?;
//! nix::sys::signal::raise(nix::sys::signal::SIGUSR1)?;
//! assert_eq!(reexec::signal::noted(libc::SIGUSR1), 1);
//! # Ok(())
//! # }
//! ```

use std::io;

use crate::sys::{self, Disposition};

/// From now on the signal is thrown away when it comes.
///
/// Of `SIGCHLD` this means more: children that end from now on leave no zombie, and their statuses
/// are lost. See [`no_child_wait`].
///
/// # Errors
///
/// `EINVAL` for `SIGKILL` and `SIGSTOP`, which cannot be ignored, and for what is no signal.
pub fn ignore(signal: i32) -> io::Result<()> {
    sys::set_disposition(signal, Disposition::Ignored)
}

/// Whether the signal is thrown away when it comes, because this program or its launcher has it
/// ignored.
///
/// # Errors
///
/// `EINVAL` for what is no signal.
pub fn is_ignored(signal: i32) -> io::Result<bool> {
    sys::check_signal(signal)?;
    sys::is_ignored(signal)
}

/// From now on the signal does what it does by default: most of them end the process, `SIGCHLD`
/// does nothing, but leaves zombies, in contrast to an ignored one.
///
/// # Errors
///
/// As [`ignore`].
pub fn default(signal: i32) -> io::Result<()> {
    sys::set_disposition(signal, Disposition::Default)
}

/// From now on the signal is counted when it comes, and nothing else is done about it: [`noted`]
/// tells how often it was.
///
/// Signals merge: of those that are sent while one is pending already, because it is blocked or
/// because its handler has not run yet, only that one comes. The count is a lower bound.
///
/// System calls that the handler interrupts are restarted, except those that never are, such as
/// poll(2) and nanosleep(2).
///
/// # Errors
///
/// As [`ignore`]; also `EINVAL` for the signals of a fault, such as `SIGSEGV`: the handler would
/// return to the faulty instruction, again and again.
pub fn note(signal: i32) -> io::Result<()> {
    if [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL].contains(&signal) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    sys::set_disposition(signal, Disposition::Noted)
}

/// How often the signal has come since the program started, while it was to be [noted](note).
pub fn noted(signal: i32) -> usize {
    sys::noted(signal)
}

/// From now on `SIGCHLD` tells of the end of children only, no longer that one has stopped or
/// goes on (`SA_NOCLDSTOP`). Until the disposition of `SIGCHLD` is set again.
///
/// # Errors
///
/// None are known.
pub fn no_child_stop() -> io::Result<()> {
    sys::add_flag(libc::SIGCHLD, libc::SA_NOCLDSTOP)
}

/// From now on children leave no zombie when they end, and their statuses are lost
/// (`SA_NOCLDWAIT`), whatever the disposition of `SIGCHLD`; until that is set again.
///
/// A wait for any child then blocks until there is none left, and fails with `ECHILD`. A child
/// that is a zombie already stays one until it is waited for.
///
/// # Errors
///
/// None are known.
pub fn no_child_wait() -> io::Result<()> {
    sys::add_flag(libc::SIGCHLD, libc::SA_NOCLDWAIT)
}
