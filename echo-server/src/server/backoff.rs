//! Pauses when there is no room for another client, for longer each time.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// A pause in accepting. Without it, a server that has clients waiting and no descriptor left would
/// try and fail for ever, and keep a whole core busy.
#[derive(Default)]
pub(crate) struct Backoff {
    delay: Option<Duration>,
    until: Option<Instant>,
}

impl Backoff {
    /// Pauses. Returns whether this is the first failure in a row, which is worth logging.
    pub(crate) fn enter(&mut self) -> bool {
        let delay = self.delay.map_or(FIRST, |delay| LONGEST.min(delay * 2));
        self.until = Some(Instant::now() + delay);
        self.delay.replace(delay).is_none()
    }

    /// Ends the pause after a success. Returns whether there was a failure before.
    pub(crate) fn leave(&mut self) -> bool {
        self.until = None;
        self.delay.take().is_some()
    }

    /// Ends the pause because there may be room again. The next pause will still be longer.
    pub(crate) fn try_now(&mut self) {
        self.until = None;
    }

    /// When to try again; `None` if there is no pause.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }
}
