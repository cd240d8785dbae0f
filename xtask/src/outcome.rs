//! How a command ends: the exit codes, and why there is no result.

use std::io::{self, Write};
use std::process::ExitCode;

use nix::sys::prctl;

use crate::stage;

pub(crate) const EXIT_NOT_HELD: u8 = 1;
const EXIT_REFUSED: u8 = 2; // as for wrong usage
pub(crate) const EXIT_OUTPUT: u8 = 74; // EX_IOERR
pub(crate) const EXIT_MISSING: u8 = 77; // EX_NOPERM in sysexits.h, "skipped" in automake
pub(crate) const EXIT_INTERRUPTED: u8 = 130; // 128 + SIGINT, as a shell reports it

/// Why there is no result.
pub(crate) enum Failure {
    /// Something is missing that it takes.
    Missing(String),
    /// What was given is not what it takes.
    Refused(String),
    /// What came out cannot be written.
    Output(String),
    Interrupted,
}

/// The exit code for what came out, which is whether everything was as it should be. A failure is
/// told on stderr.
pub(crate) fn conclude(result: Result<bool, Failure>) -> ExitCode {
    let failure = match result {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => return ExitCode::from(EXIT_NOT_HELD),
        Err(failure) => failure,
    };
    let left = clear_up(); // a result has cleared up before it was told
    let (code, sentence) = match failure {
        Failure::Missing(what) => (EXIT_MISSING, what),
        Failure::Refused(what) => (EXIT_REFUSED, what),
        Failure::Output(what) => (EXIT_OUTPUT, what),
        Failure::Interrupted => (
            EXIT_INTERRUPTED,
            format!("interrupted; {left} processes left"),
        ),
    };
    let _ = writeln!(io::stderr(), "xtask: {sentence}");
    ExitCode::from(code)
}

pub(crate) fn cannot_write(error: io::Error) -> Failure {
    Failure::Output(format!("cannot write the result: {error}"))
}

/// Ends what is left of the runs, which should be nothing, and counts what then is left. If that is
/// anything, it says so on stderr.
///
/// This process is a subreaper: if a stage process was killed, what it had started is ours now.
/// Before it has become one, it has started nothing that could be left; and children that it has
/// then are others'.
pub(crate) fn clear_up() -> usize {
    if !prctl::get_child_subreaper().unwrap_or(true) {
        return 0;
    }
    let Some(left) = stage::kill_and_reap_all() else {
        return 0;
    };
    let _ = writeln!(io::stderr(), "xtask: {}", left.why);
    left.processes
}
