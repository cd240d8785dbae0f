//! Writes the events of a run to stdout, and keeps what conditions ask for.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::model::event::{By, Event, Noticed, Stream, What};

/// The log of one run.
pub(super) struct Log {
    run: String,
    began: Instant,
    /// When the last look that is over began: what is noticed now has happened since.
    pub(super) since: Instant,
    /// The lines that programs have written to stdout.
    pub(super) lines: Vec<String>,
    /// Whether nobody reads our stdout any more.
    pub(super) is_broken: bool,
}

impl Log {
    pub(super) fn new(run: &str) -> Self {
        let now = Instant::now();
        Self { run: run.to_owned(), began: now, since: now, lines: Vec::new(), is_broken: false }
    }

    /// Records what the worker itself does.
    pub(super) fn record(&mut self, what: What) {
        self.write(what, None);
    }

    /// Records what the worker has noticed.
    pub(super) fn record_noticed(&mut self, what: What, by: By) {
        self.write(what, Some(by));
    }

    fn write(&mut self, what: What, noticed_by: Option<By>) {
        // Whole microseconds, which are read again as the same number.
        let seconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e6;
        if let What::Line { stream: Stream::Stdout, text, .. } = &what {
            self.lines.push(text.clone());
        }
        let mut event = Event::new(&self.run, seconds(self.began.elapsed()), what);
        let within = seconds(self.since.elapsed());
        event.noticed = noticed_by.map(|by| Noticed { by, within });
        let written = serde_json::to_string(&event)
            .map_err(io::Error::other)
            .and_then(|line| writeln!(io::stdout(), "{line}"));
        self.is_broken |= written.is_err();
    }
}
