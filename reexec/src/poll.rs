//! Waits for descriptors to become readable, up to a deadline, by poll(2).

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::retry_on_interrupt;

/// Waits until one of `fds` is readable or at its end, and says which are.
///
/// All are `false` once the deadline has passed; without a deadline it waits for ever. A `None` in
/// `fds` is never readable.
pub(crate) fn wait_readable<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    let present = fds.iter().flatten();
    let mut polled: Vec<_> = present.map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    // After a signal it calls poll(2) again, with the time that is left.
    retry_on_interrupt(|| Ok(poll(&mut polled, poll_timeout(deadline))?))?;
    let mut results = polled.iter().map(|fd| fd.any().unwrap_or(true));
    Ok(fds.map(|fd| fd.is_some() && results.next() == Some(true)))
}

/// Returns the time until the deadline, rounded up: a wait that ended too early would be repeated,
/// busily, until the deadline.
pub(crate) fn poll_timeout(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else {
        return PollTimeout::NONE;
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let left = left + Duration::from_nanos(999_999);
    // poll(2) can express 24 days, which is as good as for ever.
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

/// Whether the deadline has passed; `None` never passes.
pub(crate) fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// Returns the earlier of two instants; `None` is later than any.
pub(crate) fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// Sleeps for this time, or less.
///
/// std's sleep panics where a filter refuses clock_nanosleep(2), and a drop must not panic.
pub(crate) fn pause(time: Duration) {
    let _ = poll(&mut [], poll_timeout(Instant::now().checked_add(time)));
}
