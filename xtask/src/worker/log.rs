//! Writes the events of a run to stdout, and keeps what conditions ask for.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::model::event::{By, Event, Noticed, Stream, What};

/// The log of one run.
pub(super) struct Log {
    run: String,
    began: Instant,
    /// The lines that programs have written to stdout.
    pub(super) lines: Vec<String>,
    /// Whether nobody reads our stdout any more.
    pub(super) is_broken: bool,
}

impl Log {
    pub(super) fn new(run: &str) -> Self {
        Self { run: run.to_owned(), began: Instant::now(), lines: Vec::new(), is_broken: false }
    }

    /// Records what the worker itself does.
    pub(super) fn record(&mut self, what: What) {
        self.write(what, None);
    }

    /// Records what the worker has noticed now, and not yet at `since`.
    pub(super) fn record_noticed(&mut self, what: What, by: By, since: Instant) {
        self.write(what, Some((by, since)));
    }

    fn write(&mut self, what: What, noticed: Option<(By, Instant)>) {
        // Whole microseconds, which are read again as the same number.
        let seconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e6;
        if let What::Line { stream: Stream::Stdout, text, .. } = &what {
            self.lines.push(text.clone());
        }
        let mut event = Event::new(&self.run, seconds(self.began.elapsed()), what);
        event.noticed = noticed.map(|(by, since)| Noticed { by, within: seconds(since.elapsed()) });
        let written = serde_json::to_string(&event)
            .map_err(io::Error::other)
            .and_then(|line| writeln!(io::stdout(), "{line}"));
        self.is_broken |= written.is_err();
    }
}
