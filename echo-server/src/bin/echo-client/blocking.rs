//! Calls that wait, whatever somebody has set on the descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Repeats `call` on our `stdin` or `stdout` when a signal interrupts it, and waits when it would
/// block: the terminal or pipe is shared with others, and one of them may have set it so.
pub(crate) fn insist<F: AsFd, T>(
    mut stream: &F,
    event: PollFlags,
    mut call: impl FnMut(&mut &F) -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match call(&mut stream) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(stream.as_fd(), event)];
                // Interrupted, it is called again, by the next error of the same kind.
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            result => return result,
        }
    }
}

/// Waits until one of `fds` is readable or at its end, and says which are.
pub(crate) fn readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    timeout: PollTimeout,
) -> io::Result<[bool; N]> {
    let present = fds.into_iter().flatten();
    let mut polled: Vec<_> = present
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    match poll(&mut polled, timeout) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok([false; N]),
        Err(error) => return Err(error.into()),
    }
    let mut results = polled.iter().map(|fd| fd.any() == Some(true));
    Ok(fds.map(|fd| fd.is_some() && results.next() == Some(true)))
}
