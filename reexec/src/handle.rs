//! How we refer to a child: by a pidfd, or by its number where pidfds are refused.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::{Usage, sys};

/// A reference to a child that nobody has reaped, or that we have.
#[derive(Debug)]
pub(crate) enum Handle {
    Pidfd(OwnedFd),
    /// For kernels and seccomp filters that refuse `pidfd_open(2)`. The number is the child's own
    /// until we have reaped it, which the lock in [`Child`](crate::Child) makes known.
    Number {
        pid: i32,
        /// The read end of a pipe, at its end when the child has ended: that one has the other.
        end: OwnedFd,
    },
    /// It had ended, and the kernel had reaped it, before we could take hold of it: `SIGCHLD` is
    /// ignored here. A pipe that is at its end stands for it.
    Gone(OwnedFd),
}

/// What there has to be before the child, for its handle.
#[derive(Debug)]
pub(crate) enum Prospect {
    Pidfd,
    /// The pipe: our end.
    Number(OwnedFd),
}

impl Prospect {
    /// With the descriptor that the child has to keep open, if there has to be one.
    pub(crate) fn new() -> io::Result<(Prospect, Option<OwnedFd>)> {
        if pidfds_work() {
            return Ok((Prospect::Pidfd, None));
        }
        let (ours, childs) = pipe2(OFlag::O_CLOEXEC)?;
        Ok((Prospect::Number(ours), Some(childs)))
    }

    /// A descriptor that takes the place of the handle's until it is dropped, if the child is not
    /// to run without one.
    pub(crate) fn reserve(&self) -> io::Result<Option<OwnedFd>> {
        match self {
            Prospect::Pidfd => sys::pidfd_open(std::process::id() as i32).map(Some),
            Prospect::Number(_) => Ok(None),
        }
    }

    /// To be called while nobody can have reaped the child. If it fails, the child is killed and
    /// reaped.
    pub(crate) fn of(self, pid: i32) -> io::Result<Handle> {
        match self {
            Prospect::Pidfd => match sys::pidfd_open(pid) {
                // Where SIGCHLD is ignored, the number may even be a stranger's by now.
                Ok(pidfd) if sys::is_our_child(&pidfd) => Ok(Handle::Pidfd(pidfd)),
                Ok(_) => Handle::gone(),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Handle::gone(),
                Err(error) => {
                    sys::kill_and_reap(pid);
                    Err(error)
                }
            },
            Prospect::Number(end) => Ok(Handle::Number { pid, end }),
        }
    }
}

/// Tried out on ourselves, once.
fn pidfds_work() -> bool {
    const UNKNOWN: u8 = 0;
    const YES: u8 = 1;
    const NO: u8 = 2;
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);
    match ANSWER.load(Ordering::Relaxed) {
        YES => return true,
        NO => return false,
        _ => {}
    }
    let answer = match sys::pidfd_open(std::process::id() as i32) {
        Ok(_) => YES,
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => NO,
            // Such as EMFILE: says nothing about the next time.
            _ => return true,
        },
    };
    ANSWER.store(answer, Ordering::Relaxed);
    answer == YES
}

impl Handle {
    fn gone() -> io::Result<Handle> {
        let (at_its_end, _) = pipe2(OFlag::O_CLOEXEC)?;
        Ok(Handle::Gone(at_its_end))
    }

    /// Reaps the child if it has ended; see [`sys::try_reap`].
    pub(crate) fn try_reap(&self) -> io::Result<Option<(ExitStatus, Usage)>> {
        sys::try_reap(self.wait_target()?)
    }

    /// Blocks until the child has ended, and leaves it unreaped.
    pub(crate) fn await_end(&self) -> io::Result<()> {
        match self.wait_target() {
            Ok(target) => sys::await_end(target),
            Err(_) => Ok(()),
        }
    }

    fn wait_target(&self) -> io::Result<sys::WaitTarget<'_>> {
        match self {
            Handle::Pidfd(pidfd) => Ok(sys::WaitTarget::Pidfd(pidfd.as_fd())),
            Handle::Number { pid, .. } => Ok(sys::WaitTarget::Pid(*pid)),
            Handle::Gone(_) => Err(io::Error::from_raw_os_error(libc::ECHILD)),
        }
    }

    /// Sends a signal to the child, which must not have been reaped by us.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        match self {
            Handle::Pidfd(pidfd) => sys::pidfd_send_signal(pidfd, signal),
            Handle::Number { pid, .. } => sys::kill(*pid, signal),
            Handle::Gone(_) => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Handle::Pidfd(fd) | Handle::Number { end: fd, .. } | Handle::Gone(fd) => fd.as_fd(),
        }
    }
}
