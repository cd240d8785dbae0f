//! The process group that a child leads: signals to all its members, and the kill of those that the
//! child leaves behind.
//!
//! The number of the group is the number of the child. No other process and no other group can get it
//! before the child has been reaped. After that, only the pidfd names the group, since Linux 6.9.

use std::io;
use std::process::ExitStatus;
use std::time::Instant;

use crate::poll::wait_readable;
use crate::sys::{self, WaitTarget};
use crate::usage::Usage;

/// The process group of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// The child leads no group. It is in the group of this process, or in another one.
    Shared,
    /// The child leads a group.
    Led,
    /// The child leads a group, which is killed before the child is reaped.
    KilledWithChild,
}

/// Sends a signal to all members of the group that the child leads.
///
/// `is_unreaped` must be `false` if we have reaped the child: then the group's number is not used.
/// Returns `Ok` if the group has no member left.
pub(crate) fn signal(child: WaitTarget<'_>, signal: i32, is_unreaped: bool) -> io::Result<()> {
    let by_pidfd = child.pidfd.map(|pidfd| sys::pidfd_signal_group(pidfd, signal));
    if let Some(Ok(())) = by_pidfd {
        return Ok(());
    }
    // The kernel may be too old, or a filter may refuse this call and allow kill(2).
    if is_unreaped && sys::is_unreaped(child) {
        return sys::kill_group(child.pid, signal);
    }
    match by_pidfd.and_then(Result::err) {
        Some(error) if sys::is(&error, libc::ESRCH) => Ok(()),
        Some(error) if !sys::is_one_of(&error, &[libc::EINVAL, libc::ENOSYS]) => Err(error),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "signalling the group of process {}: the process has been reaped, and its group can \
                 be signalled after that only by a pidfd, and on Linux 6.9 or later",
                child.pid
            ),
        )),
    }
}

/// Reaps the child if it has ended, as [`sys::try_reap`] does. First kills its group, if `group` asks
/// for that: afterwards an old kernel could not name the group safely.
pub(crate) fn try_reap(
    child: WaitTarget<'_>,
    group: Group,
) -> io::Result<Option<(ExitStatus, Usage)>> {
    if group == Group::KilledWithChild {
        match has_ended(child) {
            // It may end before the next line. If we reaped it there, its group would live on.
            Ok(false) => return Ok(None),
            Ok(true) => kill(child, group),
            Err(_) => {} // a filter refuses to tell
        }
    }
    sys::try_reap(child)
}

/// Kills the group of a child that we have not reaped, if `group` asks for that.
pub(crate) fn kill(child: WaitTarget<'_>, group: Group) {
    if group == Group::KilledWithChild {
        // We may have no right to signal any member. Nothing can be done then.
        let _ = signal(child, libc::SIGKILL, true);
    }
}

/// Whether the child has ended; it may have been reaped by the kernel or by other code.
fn has_ended(child: WaitTarget<'_>) -> io::Result<bool> {
    match (sys::has_ended(child), child.pidfd) {
        (Err(error), _) if sys::is(&error, libc::ECHILD) => Ok(true),
        // A filter may refuse waitid(2), and allow poll(2).
        (Err(_), Some(pidfd)) => {
            let [has_ended] = wait_readable([Some(pidfd)], Some(Instant::now()))?;
            Ok(has_ended)
        }
        (result, _) => result,
    }
}
