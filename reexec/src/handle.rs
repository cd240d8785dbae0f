//! Refers to a child: by a pidfd, or by its number where pidfds are refused.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{self, ExitStatus};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::Usage;
use crate::group::{self, Group};
use crate::poll::wait_readable;
use crate::sys::{self, WaitTarget};

/// How often we ask whether a child without a pidfd has ended. Its pipe may tell of the end late,
/// so we may notice the end late by this much.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Refers to a child that nobody has reaped, or that only we have reaped.
#[derive(Debug)]
pub(crate) struct Handle {
    pid: i32,
    kind: Kind,
    /// Becomes readable when the child has ended.
    fd: OwnedFd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pidfd,
    /// The kernel or a filter refuses pidfd_open(2). No other process has the number until we reap
    /// the child, and [`Child`](crate::Child) makes sure that we do not use it after that. `fd` is
    /// the read end of a pipe, and the child has the write end.
    Number,
    /// The kernel had reaped the child before we could open a pidfd, because this process ignores
    /// `SIGCHLD`. `fd` is a pipe that is at its end.
    Gone,
}

/// Holds what the handle of a child needs before the child is made without a pidfd.
#[derive(Debug)]
pub(crate) enum PendingHandle {
    /// A pidfd of this process itself. It shows that pidfds are available now, and keeps a place in
    /// the table of descriptors for the child's pidfd.
    Pidfd(OwnedFd),
    /// The read end of the pipe.
    Number(OwnedFd),
}

impl PendingHandle {
    /// Prepares a handle. Also returns the write end of the pipe, which the child must keep open, if
    /// the handle needs a pipe.
    ///
    /// It asks each time whether pidfds are available, because a filter may forbid them later. After
    /// the child's birth it would be too late to make the pipe.
    pub(crate) fn new() -> io::Result<(PendingHandle, Option<OwnedFd>)> {
        match sys::pidfd_open(process::id() as i32) {
            Ok(own) => Ok((PendingHandle::Pidfd(own), None)),
            Err(error) if sys::is_refused(&error) => {
                let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
                Ok((PendingHandle::Number(read), Some(write)))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the handle of the child `pid`. After an error the child is still there.
    ///
    /// Call it while nobody can have reaped the child.
    pub(crate) fn into_handle(self, pid: i32) -> io::Result<Handle> {
        let own = match self {
            PendingHandle::Pidfd(own) => own,
            PendingHandle::Number(end) => return Ok(Handle::new(pid, Kind::Number, end)),
        };
        drop(own); // makes room for the child's
        match sys::pidfd_open(pid) {
            Ok(pidfd) => {
                let handle = Handle::new(pid, Kind::Pidfd, pidfd);
                // If SIGCHLD is ignored, another process may have the number by now.
                match sys::is_unreaped(handle.wait_target()) {
                    true => Ok(handle),
                    false => Handle::of_gone_child(pid),
                }
            }
            Err(error) if sys::is(&error, libc::ESRCH) => Handle::of_gone_child(pid),
            Err(error) => Err(error),
        }
    }
}

impl Handle {
    fn new(pid: i32, kind: Kind, fd: OwnedFd) -> Self {
        Self { pid, kind, fd }
    }

    /// Makes the handle of a child that was made together with its pidfd.
    pub(crate) fn of_pidfd(pid: i32, pidfd: OwnedFd) -> Self {
        Self::new(pid, Kind::Pidfd, pidfd)
    }

    fn of_gone_child(pid: i32) -> io::Result<Self> {
        let (at_its_end, _) = pipe2(OFlag::O_CLOEXEC)?;
        Ok(Self::new(pid, Kind::Gone, at_its_end))
    }

    /// Reaps the child if it has ended; see [`group::try_reap`].
    pub(crate) fn try_reap(&self, group: Group) -> io::Result<Option<(ExitStatus, Usage)>> {
        match self.kind {
            Kind::Pidfd | Kind::Number => group::try_reap(self.wait_target(), group),
            Kind::Gone => Err(io::Error::from_raw_os_error(libc::ECHILD)),
        }
    }

    /// Blocks until the child may have ended, and leaves it unreaped.
    pub(crate) fn await_end(&self) -> io::Result<()> {
        if self.kind == Kind::Gone || sys::await_end(self.wait_target()).is_ok() {
            return Ok(());
        }
        // A filter refuses that call, but perhaps not poll(2).
        wait_readable([Some(self.as_fd())], self.next_poll()).map(drop)
    }

    /// Returns when to ask again whether the child has ended, if its descriptor may tell of it late.
    pub(crate) fn next_poll(&self) -> Option<Instant> {
        (!self.is_exact()).then(|| Instant::now() + POLL_INTERVAL)
    }

    /// Whether the descriptor is readable exactly if the child has ended.
    pub(crate) fn is_exact(&self) -> bool {
        self.kind != Kind::Number
    }

    fn wait_target(&self) -> WaitTarget<'_> {
        WaitTarget { pid: self.pid, pidfd: (self.kind == Kind::Pidfd).then(|| self.fd.as_fd()) }
    }

    /// Sends a signal to the child, which we must not have reaped. Fails with `ESRCH` if something
    /// else has reaped it.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        let gone = || Err(io::Error::from_raw_os_error(libc::ESRCH));
        match self.kind {
            Kind::Gone => return gone(),
            Kind::Number => {}
            Kind::Pidfd => match sys::pidfd_send_signal(&self.fd, signal) {
                // A filter may refuse this call and allow kill(2).
                Err(error) if !sys::is(&error, libc::ESRCH) => {}
                result => return result,
            },
        }
        if !sys::is_unreaped(self.wait_target()) {
            return gone();
        }
        match sys::kill(self.pid, signal) {
            // The kernel refuses to signal a zombie, too, if we may not signal the process.
            Err(_) if matches!(sys::has_ended(self.wait_target()), Ok(true)) => Ok(()),
            result => result,
        }
    }

    /// Sends a signal to the group that the child leads; see [`group::signal`]. The number of a child
    /// that is gone may be another group's.
    pub(crate) fn signal_group(&self, signal: i32, is_unreaped: bool) -> io::Result<()> {
        group::signal(self.wait_target(), signal, is_unreaped && self.kind != Kind::Gone)
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
