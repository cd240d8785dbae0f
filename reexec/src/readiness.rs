//! Waiting for descriptors to become readable, up to a deadline.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::retry;

/// Waits until one of `fds` is readable or at its end, and says which are. None of them is, if
/// the deadline has passed; with no deadline it waits for ever. `None` is never readable.
pub(crate) fn wait_readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    let present = fds.iter().flatten();
    let mut polled: Vec<_> = present
        .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
        .collect();
    // Interrupted by a signal, poll(2) is called again with what is then left of the time.
    retry(|| Ok(poll(&mut polled, time_left(deadline))?))?;
    let mut results = polled.iter().map(|fd| fd.any().unwrap_or(true));
    Ok(fds.map(|fd| fd.is_some() && results.next() == Some(true)))
}

/// Rounded up: a wait that ends too early would be repeated, busily, until the deadline.
pub(crate) fn time_left(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else {
        return PollTimeout::NONE;
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let left = left + Duration::from_nanos(999_999);
    // More than poll(2) can express, 24 days, is as good as for ever.
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

/// `None` is never.
pub(crate) fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// Waits for this time, or less. std's sleep panics where a filter refuses clock_nanosleep(2), and that
/// must not happen in a drop.
pub(crate) fn pause(time: Duration) {
    let _ = poll(&mut [], time_left(Instant::now().checked_add(time)));
}
