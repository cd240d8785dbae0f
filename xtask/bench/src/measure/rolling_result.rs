//! What comes of replacing servers in one way.

use std::fmt::Display;

use serde::Serialize;

use crate::measure::outcome::Outcome;
use crate::measure::table_line;

/// Names and widths.
const COLUMNS: [(&str, usize); 9] = [
    ("", 8),
    ("replaced", 9),
    ("sessions", 9),
    ("MiB", 7),
    ("refused", 8),
    ("reset", 6),
    ("short", 6),
    ("lost", 6),
    ("left", 5),
];

/// What came of one way, and a line of `--json`.
#[derive(Default, Serialize)]
#[serde(tag = "kind", rename = "rolling")]
pub(crate) struct RollingResult {
    pub(crate) way: String,
    pub(crate) seed: u64,
    pub(crate) seconds: f64,
    /// Servers that were replaced.
    pub(crate) replaced: u64,
    pub(crate) sessions: u64,
    pub(crate) bytes_compared: u64,
    pub(crate) refused: u64,
    pub(crate) reset: u64,
    /// They ended cleanly, and too early.
    pub(crate) short: u64,
    pub(crate) wrong: u64,
    /// All that did not end as they should, these and others.
    pub(crate) lost: u64,
    /// Processes that were left.
    pub(crate) left_over: usize,
    /// About the first ones that were lost.
    pub(crate) sentences: Vec<String>,
    /// Sentences about what is wrong.
    pub(crate) faults: Vec<String>,
    pub(crate) held: bool,
}

impl RollingResult {
    /// Decides whether it held. The control must lose sessions, so these are not worth a sentence each.
    pub(crate) fn judge(&mut self, is_control: bool) {
        if is_control {
            self.sentences.clear();
        }
        let lost = self.lost;
        match is_control {
            true if lost == 0 => self.faults.push("the control has lost no session".to_owned()),
            false if lost > 0 => self.faults.push(format!("{lost} sessions were lost")),
            _ => {}
        }
        if self.left_over > 0 {
            self.faults.push(format!("{} processes were left", self.left_over));
        }
        self.held = self.faults.is_empty();
    }
}

impl Outcome for RollingResult {
    fn name(&self) -> &str {
        &self.way
    }

    fn held(&self) -> bool {
        self.held
    }

    fn text(&self) -> String {
        let cells: [&dyn Display; 9] = [
            &self.way,
            &self.replaced,
            &self.sessions,
            &(self.bytes_compared >> 20),
            &self.refused,
            &self.reset,
            &self.short,
            &self.lost,
            &self.left_over,
        ];
        let mut out = table_line(COLUMNS, cells);
        for sentence in &self.sentences {
            out += &format!("  {sentence}\n");
        }
        for fault in &self.faults {
            out += &format!("  FAILED: {fault}\n");
        }
        out
    }
}

/// Returns what the table begins with.
pub(crate) fn heading() -> String {
    "Three servers behind HAProxy, each replaced once under load. Lost are all sessions that were refused, \
     reset, too short, or failed otherwise. Where a server resets a session, HAProxy ends it: it is \
     short.\n\n"
        .to_owned()
        + &table_line(COLUMNS, COLUMNS.map(|(name, _)| name))
}
