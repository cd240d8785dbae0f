//! Writes the events of a run to stdout, and keeps what conditions ask for.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::model::event::{Event, Stream, What};

/// The log of one run, shared with the threads that read the programs' output.
pub(super) struct Log {
    run: String,
    began: Instant,
    lines: Mutex<Vec<String>>,
    /// Set when nobody wants this run any more.
    stopped: AtomicBool,
    /// How many times this run was told to go on.
    resumes: AtomicUsize,
}

impl Log {
    pub(super) fn new(run: &str) -> Self {
        Self {
            run: run.to_owned(),
            began: Instant::now(),
            lines: Mutex::default(),
            stopped: AtomicBool::new(false),
            resumes: AtomicUsize::new(0),
        }
    }

    pub(super) fn record(&self, what: What) {
        // Locked until the line is out, so that the times on our stdout never go backwards.
        let mut lines = self.lines();
        // Whole microseconds, which are read again as the same number.
        let t = (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e6;
        if let What::Line { stream, text, .. } = &what
            && *stream == Stream::Stdout
        {
            lines.push(text.clone());
        }
        let written = serde_json::to_string(&Event::new(&self.run, t, what))
            .map_err(io::Error::other)
            .and_then(|line| writeln!(io::stdout(), "{line}"));
        if written.is_err() {
            self.stopped.store(true, Ordering::SeqCst);
        }
    }

    /// The lines that programs have written to stdout.
    pub(super) fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(super) fn resumes(&self) -> usize {
        self.resumes.load(Ordering::SeqCst)
    }

    /// Reads our stdin: a line means "go on", the end means "stop". The end comes also when xtask is
    /// killed.
    pub(super) fn take_orders(&self) {
        for _ in io::stdin().lines().map_while(Result::ok) {
            self.resumes.fetch_add(1, Ordering::SeqCst);
        }
        self.stopped.store(true, Ordering::SeqCst);
    }
}
