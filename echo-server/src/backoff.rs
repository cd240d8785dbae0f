//! What to do when there is no room for another client: wait, for longer each time.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// A pause in accepting. Without it, a listener with clients waiting and no descriptor left for
/// them is readable and fails, at once and for ever, and takes a whole core.
#[derive(Default)]
pub(crate) struct Backoff {
    delay: Option<Duration>,
    until: Option<Instant>,
}

impl Backoff {
    /// Pauses. Returns whether this is the first failure in a row, which is worth a line.
    pub(crate) fn enter(&mut self) -> bool {
        let delay = self.delay.map_or(FIRST, |delay| LONGEST.min(delay * 2));
        self.until = Some(Instant::now() + delay);
        self.delay.replace(delay).is_none()
    }

    /// It worked again. Returns whether it had failed before.
    pub(crate) fn leave(&mut self) -> bool {
        self.until = None;
        self.delay.take().is_some()
    }

    /// There may be room again: ends the pause, but the next one will be longer all the same.
    pub(crate) fn try_now(&mut self) {
        self.until = None;
    }

    /// When to try again; `None` if there is no pause.
    pub(crate) fn until(&mut self) -> Option<Instant> {
        self.until = self.until.filter(|until| *until > Instant::now());
        self.until
    }
}
