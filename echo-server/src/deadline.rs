//! Waiting until a deadline.

use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

/// The time that is left, for poll(2) and epoll_wait(2). Rounded up to whole milliseconds, or a loop
/// would be busy for the last one.
pub(crate) fn time_left(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else {
        return PollTimeout::NONE;
    };
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_nanos(999_999);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
