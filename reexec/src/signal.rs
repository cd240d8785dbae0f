//! Ignores signals, and resets them to their defaults, without unsafe code.
//!
//! Rust's safe wrappers offer no such functions, and a program that starts processes needs them: what
//! it ignores, every program that it executes ignores, too.
//!
//! This module installs no handlers. To wait for children there is the pidfd of a
//! [`Child`](crate::Child). Other signals are best blocked, and read from a signalfd in the program's
//! own loop, where any code may run. A handler runs between any two instructions, perhaps in the
//! middle of `malloc`, and may do next to nothing.
//!
//! A disposition belongs to the whole process. A [`command`](crate::command) and a
//! [`fork`](crate::fork()) of this crate start with default dispositions. Processes started by other
//! means inherit what is ignored. See signal(7) and sigaction(2).
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! reexec::signal::ignore(libc::SIGUSR1)?;
//! nix::sys::signal::raise(nix::sys::signal::SIGUSR1)?; // would end this process
//! assert!(reexec::signal::is_ignored(libc::SIGUSR1)?);
//! # Ok(())
//! # }
//! ```

use std::io;

use crate::sys::{self, Disposition};

/// Ignores the signal from now on.
///
/// If `SIGCHLD` is ignored, children that end from now on leave no zombie, and their statuses are
/// lost.
///
/// # Errors
///
/// `EINVAL` for `SIGKILL` and `SIGSTOP`, which cannot be ignored, and for a number that is no signal.
pub fn ignore(signal: i32) -> io::Result<()> {
    sys::set_disposition(signal, Disposition::Ignored)
}

/// Whether the signal is ignored, by this program or by its launcher.
///
/// # Errors
///
/// `EINVAL` for a number that is no signal.
pub fn is_ignored(signal: i32) -> io::Result<bool> {
    sys::check_signal(signal)?;
    sys::is_ignored(signal)
}

/// Resets the signal to its default: most signals end the process. By default `SIGCHLD` has no effect,
/// but unlike an ignored one it leaves zombies and statuses.
///
/// # Errors
///
/// As [`ignore`].
pub fn reset(signal: i32) -> io::Result<()> {
    sys::set_disposition(signal, Disposition::Default)
}
