//! Why a child could not be started, and at which stage.

use std::borrow::Cow;
use std::error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::EXIT_SETUP_FAILED;

/// A child was not started: for which entry, and at which [`Stage`] it failed.
///
/// When you hold one, the child process, if there was one, has been reaped and every descriptor
/// made for it is closed. (One that this process may not kill, and that does not end within a second
/// either, is reaped in the background when it ends.)
///
/// Converts into [`io::Error`], so `?` works in functions that return one. If a system call failed,
/// that is its error, with [`io::Error::raw_os_error`]; the rest of what is known here is lost then,
/// as an `io::Error` has no room for both. Otherwise this error is inside.
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

    /// The error number of the system call that failed, such as `libc::EMFILE`, if one did.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.stage.source()?.raw_os_error()
    }

    /// What kind of error it is as an [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match &self.stage {
            Stage::Invalid(_) => io::ErrorKind::InvalidInput,
            Stage::UnknownEntry => io::ErrorKind::NotFound,
            Stage::NotReady { .. } => io::ErrorKind::TimedOut,
            stage => stage.source().map_or(io::ErrorKind::Other, io::Error::kind),
        }
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
    /// Something that the start needs could not be had.
    Prepare {
        /// What was being done.
        step: &'static str,
        /// Why it failed, such as `EMFILE`.
        source: io::Error,
    },
    /// The system made no new process: there is no room for another one (`EAGAIN`, `ENOMEM`), or a
    /// seccomp filter forbids it.
    NewProcess {
        /// Why it failed.
        source: io::Error,
    },
    /// The new process could not join the group set by
    /// [`Command::process_group`](crate::Command::process_group): there is no such group in this
    /// session.
    ProcessGroup {
        /// The group.
        group: i32,
        /// Why it failed.
        source: io::Error,
    },
    /// The executable was not found or could not be run.
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
    /// The entry has run, and the child's status could not be had; only from
    /// [`Command::status`](crate::Command::status).
    Wait {
        /// As of [`Child::wait`](crate::Child::wait).
        source: io::Error,
    },
}

impl Stage {
    /// The failed system call.
    fn source(&self) -> Option<&io::Error> {
        match self {
            Stage::Prepare { source, .. }
            | Stage::NewProcess { source }
            | Stage::ProcessGroup { source, .. }
            | Stage::Exec { source, .. }
            | Stage::SetUp { source, .. }
            | Stage::Wait { source } => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = shortened(&self.entry);
        match &self.stage {
            Stage::Wait { .. } => write!(f, "{entry} has run, but its status cannot be had: ")?,
            _ => write!(f, "cannot start {entry}: ")?,
        }
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
            Stage::NewProcess { source } => write!(f, "making a process failed: {source}"),
            Stage::ProcessGroup { group, source } => {
                write!(f, "joining process group {group} failed: {source}")
            }
            Stage::Exec { program, source } => {
                write!(f, "executing {} failed: {source}", program.display())
            }
            Stage::BeforeInit { status: None } => {
                write!(f, "the child did not reach reexec::init()")
            }
            Stage::BeforeInit {
                status: Some(status),
            } if status.code() == Some(EXIT_SETUP_FAILED.into()) => write!(
                f,
                "the child could not speak with its parent ({status}); the reason is on its stderr"
            ),
            Stage::BeforeInit {
                status: Some(status),
            } => write!(
                f,
                "the child ended before it reached reexec::init() ({status}){}",
                if status.success() {
                    "; is init() the first statement of main?"
                } else {
                    "; if the program runs under valgrind, or through its loader, see \
                     Command::executable"
                }
            ),
            Stage::UnknownEntry => write!(
                f,
                "nothing is registered under this name; call reexec::register(\"{}\", …) before \
                 reexec::init()",
                entry
            ),
            Stage::SetUp { step, source } => write!(f, "in the child, {step} failed: {source}"),
            Stage::NotReady { timeout } => {
                write!(
                    f,
                    "the child was not ready within {timeout:?} and was killed"
                )
            }
            Stage::Wait { source } => source.fmt(f),
        }
    }
}

/// As much of a name as belongs into a message: the beginning of one that is very long.
pub(crate) fn shortened(name: &str) -> Cow<'_, str> {
    const LONGEST: usize = 200;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}… ({} bytes)", &name[..end], name.len()).into(),
        None => name.into(),
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        let source = self.stage.source()?;
        Some(source)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::new(error.kind(), error),
        }
    }
}
