//! Where and when a report was recorded. That is kept in a file of the report, as drawing it again on
//! another day must not change it. The file also marks the folder as a report's.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::probe::ps;
use crate::view::text::printable;

const FILE: &str = "machine.json";

#[derive(Serialize, Deserialize)]
pub(super) struct Machine {
    kernel: String,
    architecture: String,
    ps: String,
    date: String,
}

impl Machine {
    pub(super) fn here() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            kernel: kernel.trim().to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            ps: ps::version().unwrap_or_else(|why| why),
            date: today(),
        }
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join(FILE), serde_json::to_string(self)? + "\n")
    }

    /// Whether `write` has been there.
    pub(super) fn is_marked(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// What `write` has written there, if it has.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(folder.join(FILE)).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(super) fn text(&self) -> String {
        let Self { kernel, architecture, ps, date } = self;
        printable(&format!("Linux {kernel} ({architecture}); {ps}; {date}"))
    }
}

fn today() -> String {
    match Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(_) => "date did not say".to_owned(),
    }
}
