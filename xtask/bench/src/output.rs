//! What we print, and why we fail.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Why a command fails: a sentence for stderr, and the exit code.
pub(crate) struct Failure {
    pub(crate) why: String,
    pub(crate) exit_code: u8,
}

impl Failure {
    /// One of our servers failed.
    pub(crate) fn failed(why: String) -> Self {
        Self { why, exit_code: 1 }
    }

    /// A required tool or permission is missing.
    pub(crate) fn missing(why: String) -> Self {
        let exit_code = 77; // EX_NOPERM in sysexits.h, "skipped" in automake
        Self { why, exit_code }
    }

    fn writing(to: impl Display, error: &io::Error) -> Self {
        let why = format!("cannot write to {to}: {error}");
        let exit_code = 74; // EX_IOERR
        Self { why, exit_code }
    }
}

/// Prints a line about the progress on stderr. It does not matter if that fails.
pub(crate) fn say(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// Prints results on stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.as_bytes());
    let written = written.and_then(|()| stdout.flush());
    written.map_err(|error| Failure::writing("stdout", &error))
}

pub(crate) fn create_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|error| Failure::writing(path.display(), &error))
}

pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::writing(path.display(), &error))
}
