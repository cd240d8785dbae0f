//! The resources that a child has used.

use std::time::Duration;

/// The resources that a child has used, together with the descendants that it waited for; see
/// getrusage(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Usage {
    /// Processor time that it spent in its own code.
    pub user: Duration,
    /// Processor time that the kernel spent on its behalf.
    pub system: Duration,
    /// The largest resident memory, in bytes, that one of these processes had at one time.
    pub max_resident: u64,
}

impl Usage {
    pub(crate) fn from_raw(usage: &libc::rusage) -> Self {
        Self {
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            max_resident: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let microseconds = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(microseconds)
}
