//! The descriptors that a child was given by name.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

static INHERITED: Mutex<BTreeMap<String, OwnedFd>> = Mutex::new(BTreeMap::new());

/// Takes the descriptor that the parent passed under this name with
/// [`Command::fd`](crate::Command::fd). It is close-on-exec, and belongs to the caller.
///
/// What nobody takes stays open until the process ends.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if none was passed under this name, or if it has been taken.
///
/// ```no_run
/// use std::net::TcpListener;
///
/// # fn f() -> std::io::Result<()> {
/// let listener = TcpListener::from(reexec::inherited_fd("listener")?);
/// # Ok(())
/// # }
/// ```
pub fn inherited_fd(name: &str) -> io::Result<OwnedFd> {
    inherited().remove(name).ok_or_else(|| {
        let message = format!(
            "no descriptor named {name:?} was passed to this process, or it has been taken already"
        );
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}

pub(crate) fn keep(name: &str, fd: OwnedFd) {
    inherited().insert(name.to_owned(), fd);
}

/// Gives up the ownership, so that nothing closes it before the process ends.
pub(crate) fn keep_open(fd: OwnedFd) {
    let _ = fd.into_raw_fd();
}

fn inherited() -> MutexGuard<'static, BTreeMap<String, OwnedFd>> {
    // Nothing in here panics half-way through a change.
    INHERITED.lock().unwrap_or_else(PoisonError::into_inner)
}
