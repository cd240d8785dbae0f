//! Why a child could not be started, and at which stage.

use std::error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// A child was not started: for which entry, and at which [`Stage`] it failed.
///
/// When you hold one, the child process, if there was one, has been reaped and every descriptor
/// made for it is closed.
///
/// Converts into [`io::Error`], so `?` works in functions that return one; its kind is the one of
/// the failed system call, if there was one.
#[derive(Debug)]
pub struct Error {
    entry: String,
    stage: Stage,
}

impl Error {
    pub(crate) fn new(entry: &str, stage: Stage) -> Self {
        let entry = entry.to_owned();
        Self { entry, stage }
    }

    /// The name given to [`command`](crate::command).
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// How far the start got.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }
}

/// How far a start got before it failed, from the earliest stage to the latest.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stage {
    /// This process has not called [`init`](crate::init), so its child would not either: it would
    /// run `main` once more, and start a child that does the same.
    InitNotCalled,
    /// There are already so many re-executions above this process.
    TooDeep {
        /// The limit that was met.
        limit: u32,
    },
    /// The command cannot be carried out as it is, with the reason: a name, argument or variable
    /// that cannot be passed on, settings that exclude each other, a descriptor that an earlier
    /// child has. Or `main` went on after the entry.
    Invalid(String),
    /// A descriptor or packet that the start needs could not be had.
    Prepare {
        /// What was being done.
        step: &'static str,
        /// Why it failed, such as `EMFILE`.
        source: io::Error,
    },
    /// `posix_spawn(3)` failed: the executable was not found or could not be run, or the system
    /// has no room for another process (`EAGAIN`, `ENOMEM`).
    Exec {
        /// What was to be executed.
        program: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The child ended, or closed its control channel, before it reached `init`.
    BeforeInit {
        /// How it ended, where that could be learnt.
        status: Option<ExitStatus>,
    },
    /// The child has no function registered under this name.
    UnknownEntry,
    /// A step of the child's set-up failed; no code of the entry has run.
    SetUp {
        /// Which step.
        step: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The child did not report ready in time, and was killed.
    NotReady {
        /// The limit given by [`Command::ready_timeout`](crate::Command::ready_timeout).
        timeout: Duration,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot start {}: ", self.entry)?;
        match &self.stage {
            Stage::InitNotCalled => write!(
                f,
                "reexec::init() has not been called in this process; make it the first statement \
                 of main, after the calls of register"
            ),
            Stage::TooDeep { limit } => write!(
                f,
                "this process is already {limit} re-executions deep; is an entry starting itself?"
            ),
            Stage::Invalid(reason) => f.write_str(reason),
            Stage::Prepare { step, source } => write!(f, "{step} failed: {source}"),
            Stage::Exec { program, source } => {
                write!(f, "executing {} failed: {source}", program.display())
            }
            Stage::BeforeInit { status: None } => {
                write!(f, "the child did not reach reexec::init()")
            }
            Stage::BeforeInit {
                status: Some(status),
            } => write!(
                f,
                "the child ended before it reached reexec::init() ({status}){}",
                if status.success() {
                    "; is init() the first statement of main?"
                } else {
                    ""
                }
            ),
            Stage::UnknownEntry => write!(
                f,
                "nothing is registered under this name; call reexec::register(\"{}\", …) before \
                 reexec::init()",
                self.entry
            ),
            Stage::SetUp { step, source } => write!(f, "in the child, {step} failed: {source}"),
            Stage::NotReady { timeout } => {
                write!(
                    f,
                    "the child was not ready within {timeout:?} and was killed"
                )
            }
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.stage {
            Stage::Prepare { source, .. }
            | Stage::Exec { source, .. }
            | Stage::SetUp { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error.stage {
            Stage::Prepare { source, .. }
            | Stage::Exec { source, .. }
            | Stage::SetUp { source, .. } => source.kind(),
            Stage::Invalid(_) => io::ErrorKind::InvalidInput,
            Stage::UnknownEntry => io::ErrorKind::NotFound,
            Stage::NotReady { .. } => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
