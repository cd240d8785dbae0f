//! How we refer to a child: by a pidfd, or by its number where pidfds are refused.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{self, ExitStatus};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::Usage;
use crate::readiness::wait_readable;
use crate::sys::{self, WaitTarget};

/// Between two looks at a child without a pidfd. Its pipe ends late if a process that it forked
/// holds a copy, so this is how late the child's end can be noticed.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A reference to a child that nobody has reaped, or that we have.
#[derive(Debug)]
pub(crate) struct Handle {
    pid: i32,
    kind: Kind,
    /// Readable when the child has ended.
    fd: OwnedFd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pidfd,
    /// For kernels and seccomp filters that refuse `pidfd_open(2)`. The number is the child's own
    /// until we have reaped it, which the lock in [`Child`](crate::Child) makes known. The
    /// descriptor is the read end of a pipe; the child has the other.
    Number,
    /// It had ended, and the kernel had reaped it, before we could take hold of it: `SIGCHLD` is
    /// ignored here. A pipe that is at its end stands for it.
    Gone,
}

/// What has to be there before the child, for its handle.
#[derive(Debug)]
pub(crate) enum PendingHandle {
    /// A pidfd of this process itself: it shows that pidfds can be had now, and keeps a place in
    /// the table of descriptors for the child's.
    Pidfd(OwnedFd),
    /// The pipe: our end.
    Number(OwnedFd),
}

impl PendingHandle {
    /// With the descriptor that the child has to keep open, if there has to be one.
    ///
    /// Asks each time whether pidfds can be had: a filter may forbid them later, and after the
    /// child's birth it would be too late to make the pipe.
    pub(crate) fn new() -> io::Result<(PendingHandle, Option<OwnedFd>)> {
        match sys::pidfd_open(process::id() as i32) {
            Ok(own) => Ok((PendingHandle::Pidfd(own), None)),
            Err(error) if sys::is_refused(&error) => {
                let (ours, childs) = pipe2(OFlag::O_CLOEXEC)?;
                Ok((PendingHandle::Number(ours), Some(childs)))
            }
            Err(error) => Err(error),
        }
    }

    /// To be called while nobody can have reaped the child. After an error the child is still there.
    pub(crate) fn into_handle(self, pid: i32) -> io::Result<Handle> {
        let own = match self {
            PendingHandle::Pidfd(own) => own,
            PendingHandle::Number(end) => return Ok(Handle::new(pid, Kind::Number, end)),
        };
        drop(own); // room for the child's
        match sys::pidfd_open(pid) {
            Ok(pidfd) => {
                let handle = Handle::new(pid, Kind::Pidfd, pidfd);
                // Where SIGCHLD is ignored, the number may even be a stranger's by now.
                match sys::is_unreaped(handle.wait_target()) {
                    true => Ok(handle),
                    false => Handle::gone(pid),
                }
            }
            Err(error) if sys::is(&error, libc::ESRCH) => Handle::gone(pid),
            Err(error) => Err(error),
        }
    }
}

impl Handle {
    fn new(pid: i32, kind: Kind, fd: OwnedFd) -> Self {
        Self { pid, kind, fd }
    }

    fn gone(pid: i32) -> io::Result<Self> {
        let (at_its_end, _) = pipe2(OFlag::O_CLOEXEC)?;
        Ok(Self::new(pid, Kind::Gone, at_its_end))
    }

    /// Reaps the child if it has ended; see [`sys::try_reap`].
    pub(crate) fn try_reap(&self) -> io::Result<Option<(ExitStatus, Usage)>> {
        match self.kind {
            Kind::Pidfd | Kind::Number => sys::try_reap(self.wait_target()),
            Kind::Gone => Err(io::Error::from_raw_os_error(libc::ECHILD)),
        }
    }

    /// Blocks until the child may have ended, and leaves it unreaped.
    pub(crate) fn await_end(&self) -> io::Result<()> {
        if self.kind == Kind::Gone || sys::await_end(self.wait_target()).is_ok() {
            return Ok(());
        }
        // To wait so is refused; perhaps poll(2) is not.
        wait_readable([Some(self.as_fd())], self.next_look()).map(drop)
    }

    /// When to look again whether the child has ended, although its descriptor does not say so.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        (self.kind == Kind::Number).then(|| Instant::now() + LOOK_AGAIN)
    }

    /// Whether the child has certainly ended when its descriptor is readable, and not otherwise.
    pub(crate) fn is_exact(&self) -> bool {
        self.kind != Kind::Number
    }

    fn wait_target(&self) -> WaitTarget<'_> {
        WaitTarget {
            pid: self.pid,
            pidfd: (self.kind == Kind::Pidfd).then(|| self.fd.as_fd()),
        }
    }

    /// Sends a signal to the child, which must not have been reaped by us. `ESRCH` if it was
    /// reaped all the same.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        let gone = || Err(io::Error::from_raw_os_error(libc::ESRCH));
        match self.kind {
            Kind::Gone => return gone(),
            Kind::Number => {}
            Kind::Pidfd => match sys::pidfd_send_signal(&self.fd, signal) {
                // By the number then: a filter may refuse the newer call and allow the older one.
                Err(error) if !sys::is(&error, libc::ESRCH) => {}
                result => return result,
            },
        }
        if !sys::is_unreaped(self.wait_target()) {
            return gone();
        }
        match sys::kill(self.pid, signal) {
            // One that we may not signal does not tell by that whether it has ended.
            Err(_) if sys::has_ended(self.wait_target()) => Ok(()),
            result => result,
        }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
