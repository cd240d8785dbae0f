//! What comes out of a soak of one server.

use std::fmt::Display;

use serde::Serialize;

use crate::load::clients::Errors;
use crate::measure::outcome::Outcome;
use crate::measure::table_line;

/// Names and widths.
const COLUMNS: [(&str, usize); 14] = [
    ("", 9),
    ("sessions", 9),
    ("MiB", 7),
    ("errors", 7),
    ("given up", 9),
    ("losses", 7),
    ("wrong", 6),
    ("kills", 6),
    ("upgrades", 9),
    ("resizes", 8),
    ("KiB first", 10),
    ("last", 6),
    ("zombies", 8),
    ("left", 5),
];

/// What came of one server, and a line of `--json`.
#[derive(Default, Serialize)]
#[serde(tag = "kind", rename = "soak")]
pub(crate) struct SoakResult {
    pub(crate) server: String,
    pub(crate) seed: u64,
    pub(crate) seconds: f64,
    pub(crate) sessions: u64,
    /// All bytes came back, and then the end of the stream.
    pub(crate) complete: u64,
    pub(crate) bytes_compared: u64,
    pub(crate) errors: Errors,
    pub(crate) errors_unexplained: usize,
    pub(crate) given_up: u64,
    pub(crate) silent_losses: usize,
    pub(crate) wrong: usize,
    pub(crate) kills: u64,
    pub(crate) upgrades: u64,
    pub(crate) resizes: u64,
    pub(crate) memory_first_kib: u64,
    pub(crate) memory_last_kib: u64,
    pub(crate) zombies: u64,
    pub(crate) left_over: usize,
    /// Sentences; of each kind only the first few.
    pub(crate) faults: Vec<String>,
    pub(crate) held: bool,
}

impl SoakResult {
    /// Adds sentences about what was counted, and decides whether the server held.
    pub(crate) fn judge(&mut self) {
        if self.zombies > 0 {
            let sentence = format!("{} zombies stayed for longer than 1 s", self.zombies);
            self.faults.push(sentence);
        }
        if self.left_over > 0 {
            self.faults.push(format!("{} processes were left", self.left_over));
        }
        if self.complete == 0 {
            self.faults.push("not a single session was complete".to_owned());
        }
        self.held = self.faults.is_empty();
    }
}

impl Outcome for SoakResult {
    fn name(&self) -> &str {
        &self.server
    }

    fn held(&self) -> bool {
        self.held
    }

    fn text(&self) -> String {
        let cells: [&dyn Display; 14] = [
            &self.server,
            &self.sessions,
            &(self.bytes_compared >> 20),
            &self.errors.sum(),
            &self.given_up,
            &self.silent_losses,
            &self.wrong,
            &self.kills,
            &self.upgrades,
            &self.resizes,
            &self.memory_first_kib,
            &self.memory_last_kib,
            &self.zombies,
            &self.left_over,
        ];
        let mut out = table_line(COLUMNS, cells);
        if self.errors.sum() > 0 {
            out += &format!("  errors: {}\n", self.errors.by_kind());
        }
        for fault in &self.faults {
            out += &format!("  FAILED: {fault}\n");
        }
        out
    }
}

/// Returns what the table begins with.
pub(crate) fn heading() -> String {
    "Sessions end complete, in an error, or given up by the client. Memory: PSS of all processes \
     at the first rest and the last.\n\n"
        .to_owned()
        + &table_line(COLUMNS, COLUMNS.map(|(name, _)| name))
}
