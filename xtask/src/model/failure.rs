//! Why there is no result, and the exit code for it.

use std::fmt::Display;
use std::io;

/// Why a run, or a whole command, does not go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A required tool or permission is missing.
    Missing(String),
    /// The input is malformed, or a folder holds something else.
    Refused(String),
    /// The result cannot be written.
    Output(String),
    /// This condition did not come true.
    Missed(String),
    /// Something went wrong that says nothing about any claim.
    Failed(String),
    /// Somebody wants us to end.
    Interrupted,
}

pub(crate) const EXIT_FAILED: u8 = 1;
pub(crate) const EXIT_MISSING: u8 = 77; // EX_NOPERM in sysexits.h, "skipped" in automake
pub(crate) const EXIT_INTERRUPTED: u8 = 130; // 128 + SIGINT, as a shell reports it
pub(crate) const EXIT_OUTPUT: u8 = 74; // EX_IOERR
const EXIT_REFUSED: u8 = 2; // as for wrong usage

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Missing(_) => EXIT_MISSING,
            Failure::Refused(_) => EXIT_REFUSED,
            Failure::Output(_) => EXIT_OUTPUT,
            Failure::Missed(_) | Failure::Failed(_) => EXIT_FAILED,
            Failure::Interrupted => EXIT_INTERRUPTED,
        }
    }

    /// One sentence for stderr.
    pub(crate) fn sentence(self) -> String {
        match self {
            Failure::Missing(why)
            | Failure::Refused(why)
            | Failure::Output(why)
            | Failure::Failed(why) => why,
            Failure::Missed(condition) => format!("it never came true that {condition}"),
            Failure::Interrupted => "interrupted".to_owned(),
        }
    }

    pub(crate) fn writing(to: impl Display, error: &io::Error) -> Self {
        Failure::Output(format!("cannot write to {to}: {error}"))
    }

    pub(crate) fn writing_result(error: io::Error) -> Self {
        Failure::Output(format!("cannot write the result: {error}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Failed(error.to_string())
    }
}
