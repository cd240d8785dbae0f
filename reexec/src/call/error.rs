//! The error of a typed call.

use std::error;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::error::shortened;
use crate::{EXIT_SETUP_FAILED, Error, Stage};

/// The error of a typed call.
///
/// It converts into [`io::Error`]. If a system call failed, the [`io::Error`] keeps only its error number.
/// Any other error is kept whole inside.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The child was not started, or could not be set up, or its status is lost. The function has not
    /// run; only in the last case, it may have.
    Start(Error),
    /// The function has other types than the call, and has not run.
    #[non_exhaustive]
    WrongTypes {
        /// The name given to [`command`](crate::command).
        entry: String,
        /// The type of the function's argument.
        takes: String,
        /// The type of the function's result.
        returns: String,
        /// The type of the argument that the call passed.
        passed: String,
        /// The type of the result that the call expected.
        expected: String,
    },
    /// The argument could not be encoded, stored or decoded. The function has not run.
    #[non_exhaustive]
    Argument {
        /// The name given to [`command`](crate::command).
        entry: String,
        /// The cause.
        source: io::Error,
    },
    /// The function has run, and its result could not be encoded, stored or decoded. The cause is `EFBIG`
    /// if the result exceeds [`Resource::FileSize`](crate::Resource::FileSize).
    #[non_exhaustive]
    Result {
        /// The name given to [`command`](crate::command).
        entry: String,
        /// The cause.
        source: io::Error,
    },
    /// The function has panicked. By default, the child has also printed the panic to its stderr.
    #[non_exhaustive]
    Panicked {
        /// The name given to [`command`](crate::command).
        entry: String,
        /// The message of the panic.
        message: String,
        /// The place of the panic, as `file:line:column`.
        location: String,
    },
    /// The child ended without a result: a signal or a limit has ended it, or it has called
    /// [`std::process::exit`].
    #[non_exhaustive]
    Ended {
        /// The name given to [`command`](crate::command).
        entry: String,
        /// How the child ended.
        status: ExitStatus,
        /// The place and the message of the function's last panic, if it has panicked. It has caught
        /// that panic, or the program's panic hook has ended the child.
        panic: Option<String>,
    },
}

impl CallError {
    /// Returns the name given to [`command`](crate::command).
    pub fn entry(&self) -> &str {
        match self {
            CallError::Start(error) => error.entry(),
            CallError::WrongTypes { entry, .. }
            | CallError::Argument { entry, .. }
            | CallError::Result { entry, .. }
            | CallError::Panicked { entry, .. }
            | CallError::Ended { entry, .. } => entry,
        }
    }

    /// Returns the error number of the system call that failed, such as `libc::EMFILE`, if one did.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            CallError::Start(error) => error.raw_os_error(),
            CallError::Argument { source, .. } | CallError::Result { source, .. } => {
                source.raw_os_error()
            }
            _ => None,
        }
    }

    /// Returns the kind that this error has as an [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            CallError::Start(error) => error.kind(),
            CallError::WrongTypes { .. } => io::ErrorKind::InvalidInput,
            CallError::Argument { source, .. } | CallError::Result { source, .. } => source.kind(),
            CallError::Panicked { .. } | CallError::Ended { .. } => io::ErrorKind::Other,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = shortened(self.entry());
        match self {
            CallError::Start(error) if matches!(error.stage(), Stage::UnknownEntry) => write!(
                f,
                "cannot call {entry}: no function is registered under this name; call \
                 reexec::register_call(\"{entry}\", …) before reexec::init()"
            ),
            CallError::Start(error) => error.fmt(f),
            CallError::WrongTypes { takes, returns, passed, expected, .. } => write!(
                f,
                "cannot call {entry}: it takes {takes} and returns {returns}; the call passed \
                 {passed} and expected {expected}"
            ),
            CallError::Argument { source, .. } => {
                write!(f, "cannot call {entry}: passing the argument failed: {source}")
            }
            CallError::Result { source, .. } => {
                write!(f, "{entry} has run, but getting its result failed: {source}")
            }
            CallError::Panicked { message, location, .. } => {
                write!(f, "{entry} panicked at {location}: {message}")
            }
            CallError::Ended { status, panic, .. } => {
                write!(f, "{entry} ended without a result: {status}{}", hint(*status))?;
                match panic {
                    Some(panic) => write!(f, "; it had panicked at {panic}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Returns what the status probably means.
fn hint(status: ExitStatus) -> &'static str {
    match (status.code(), status.signal()) {
        (Some(code), _) if code == EXIT_SETUP_FAILED.into() => {
            "; it has printed the reason to its stderr"
        }
        (_, Some(libc::SIGXFSZ)) => "; it wrote a file longer than its limit Resource::FileSize",
        (_, Some(libc::SIGXCPU)) => "; it reached its limit Resource::CpuTime",
        _ => "",
    }
}

impl error::Error for CallError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            CallError::Start(error) => error.source(),
            CallError::Argument { source, .. } | CallError::Result { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<CallError> for io::Error {
    fn from(error: CallError) -> Self {
        match (error.raw_os_error(), error) {
            (Some(errno), _) => io::Error::from_raw_os_error(errno),
            (None, CallError::Start(error)) => error.into(),
            (None, error) => io::Error::new(error.kind(), error),
        }
    }
}
