//! What a process has inherited through exec: descriptors passed by name, and leftovers of its
//! launcher.

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{sys, threads};

/// The number after the standard streams.
const FIRST_UNDECLARED: RawFd = 3;

static PASSED: Mutex<Vec<(String, OwnedFd)>> = Mutex::new(Vec::new());

/// Takes the descriptor that the parent passed under this name with
/// [`Command::fd`](crate::Command::fd). It is close-on-exec, and belongs to the caller.
///
/// A descriptor that the entry does not take stays open until the process ends.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if the parent passed none under this name, or if it has been taken.
///
/// ```
/// # fn main() -> std::process::ExitCode {
/// #     reexec::register("acceptor", acceptor);
/// #     reexec::init().unwrap_or_else(|| std::process::Termination::report(parent()))
/// # }
/// use std::io;
/// use std::net::TcpListener;
///
/// fn parent() -> io::Result<()> {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let status = reexec::command("acceptor").fd("listener", listener).status()?;
///     assert!(status.success());
///     Ok(())
/// }
///
/// fn acceptor() -> io::Result<()> {
///     let listener = TcpListener::from(reexec::inherited_fd("listener")?);
///     assert!(listener.local_addr()?.ip().is_loopback());
///     Ok(())
/// }
/// ```
pub fn inherited_fd(name: &str) -> io::Result<OwnedFd> {
    let mut passed = passed();
    let found = passed.iter().position(|(known, _)| known == name);
    found.map(|index| passed.swap_remove(index).1).ok_or_else(|| {
        let message = format!(
            "no descriptor named {name:?} was passed to this process, or it has been taken already"
        );
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}

/// Stores a descriptor until [`inherited_fd`] takes it.
pub(crate) fn store(name: String, fd: OwnedFd) {
    passed().push((name, fd));
}

/// Closes the stored descriptors.
pub(crate) fn close_stored() {
    passed().clear();
}

/// Leaves a descriptor open until the process ends.
pub(crate) fn leave_open(fd: OwnedFd) {
    let _ = fd.into_raw_fd();
}

fn passed() -> MutexGuard<'static, Vec<(String, OwnedFd)>> {
    // Nothing in this file panics half-way through a change.
    PASSED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes every undeclared descriptor close-on-exec, and closes none.
///
/// Either the launcher left it open, or code that ran before `main` opened it, such as the
/// constructor of a preloaded library. In the second case it must stay open: after a close, its
/// number would be used again, and the library would write into a file of somebody else.
pub(crate) fn mark_undeclared() -> io::Result<()> {
    sys::close_on_exec_from(FIRST_UNDECLARED)
}

/// Resets what this program has inherited from its launcher, as [`init`](crate::init) does for a
/// child.
///
/// - Unblocks all signals, and ignores none except `SIGPIPE`, which every Rust program ignores. A
///   server that inherits an ignored `SIGCHLD` would never learn how its children end. An ignored
///   `SIGHUP` stays ignored, because somebody asked for it, for instance with nohup(1).
/// - Closes every inherited descriptor except stdin, stdout and stderr.
///
/// Call it first in `main`: it also closes what earlier code, such as a C library, has opened
/// without close-on-exec.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`] if the process has several threads, because they may have opened
/// descriptors. Without a `/proc`, it makes the descriptors close-on-exec instead of closing them,
/// and fails if that fails.
pub fn start_clean() -> io::Result<()> {
    threads::require_one("start_clean would close descriptors that other threads have opened")?;
    sys::stop_ignoring();
    sys::unblock_signals();
    close_inherited()
}

/// Closes the descriptors that came through exec and are not close-on-exec by now.
fn close_inherited() -> io::Result<()> {
    match sys::open_descriptors() {
        Ok(open) => {
            let undeclared = open.into_iter().filter(|fd| *fd >= FIRST_UNDECLARED);
            undeclared.for_each(sys::close_if_inherited);
            Ok(())
        }
        Err(_) => mark_undeclared(),
    }
}
