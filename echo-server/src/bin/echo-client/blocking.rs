//! Reads and writes that wait, even on a descriptor that another process has set to nonblocking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Repeats `call`, a read or write of `stream`, when a signal interrupts it, and waits when it would
/// block: another process that shares a terminal or pipe may have set it to nonblocking.
pub(crate) fn insist(
    stream: &impl AsFd,
    event: PollFlags,
    mut call: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(stream.as_fd(), event)];
                // If this fails, the call is repeated too early, which does no harm.
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            result => return result,
        }
    }
}

/// Waits until one of `fds` is readable or at its end. Returns which are.
pub(crate) fn poll_readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    timeout: PollTimeout,
) -> io::Result<[bool; N]> {
    let present = fds.into_iter().flatten();
    let mut polled: Vec<_> = present.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut polled, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok([false; N]),
        Err(error) => return Err(error.into()),
    }
    let mut results = polled.iter().map(|fd| fd.any() == Some(true));
    Ok(fds.map(|fd| fd.is_some() && results.next() == Some(true)))
}
