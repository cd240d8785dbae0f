//! Events, one a line, on stderr.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU8, Ordering};

/// How much is said.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(crate) enum Level {
    /// Why the server ends, and nothing else.
    Quiet,
    /// What an operator should know.
    Events,
    /// Each session.
    Sessions,
}

impl Level {
    /// The other way round than `as u8`.
    pub(crate) fn from_u8(number: u8) -> Option<Self> {
        let all = [Level::Quiet, Level::Events, Level::Sessions];
        all.into_iter().find(|level| *level as u8 == number)
    }
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Events as u8);

pub(crate) fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// An event.
pub(crate) fn log(event: fmt::Arguments<'_>) {
    if LEVEL.load(Ordering::Relaxed) >= Level::Events as u8 {
        failure(event);
    }
}

/// Something about one session.
pub(crate) fn session(event: fmt::Arguments<'_>) {
    if is_about_sessions() {
        failure(event);
    }
}

/// Whether it is worth finding out more about a session.
pub(crate) fn is_about_sessions() -> bool {
    LEVEL.load(Ordering::Relaxed) >= Level::Sessions as u8
}

/// For `map_err`: says which step has failed, for the system's error does not.
pub(crate) fn cannot<E: Into<io::Error>>(step: &str) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("cannot {step}: {error}"))
    }
}

/// Why the server, or this worker, ends; and what was asked for. A line that cannot be written is
/// lost: a server does not end because nobody reads its log.
pub(crate) fn failure(event: fmt::Arguments<'_>) {
    // In one write, or the lines of two workers would be mixed.
    let line = format!("echo-server: {event}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}
