//! The error of starting a child or collecting its output, and the exit codes of a child that could not
//! run its entry.

use std::borrow::Cow;
use std::error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// The exit code of a child whose set-up failed before its entry ran. env(1) and timeout(1) exit with
/// it, too, when they themselves fail.
pub const EXIT_SETUP_FAILED: u8 = 125;

/// The exit code of a child whose entry is not registered. A shell exits with it, too, when it does
/// not find a command.
pub const EXIT_UNKNOWN_ENTRY: u8 = 127;

/// The error of starting a child or a job, and of collecting its output. It names the entry or the
/// program, and the [`Stage`] that failed.
///
/// `spawn`, `spawn_unconfirmed`, `spawn_job`, `status` and `output` of a [`Command`](crate::Command)
/// return it, `wait_with_output` of a [`Child`](crate::Child) and of a [`Job`](crate::Job), and
/// [`Template::new`](crate::Template::new). With the feature `serde`, it is inside a `CallError`.
///
/// By the time one of them returns it, the child process, if there was one, has been reaped, and every
/// descriptor made for it is closed. Only a child that this process may not kill, and that does not
/// end within a second, is reaped in the background when it ends.
///
/// ```
/// # fn main() -> std::process::ExitCode {
/// #     reexec::register("greeter", || println!("hello"));
/// #     reexec::init().unwrap_or_else(|| std::process::Termination::report(parent()))
/// # }
/// # fn parent() -> Result<(), reexec::Error> {
/// use std::io::ErrorKind;
/// use reexec::Stage;
///
/// let error = reexec::command("noSuchEntry").spawn().unwrap_err();
/// assert!(matches!(error.stage(), Stage::UnknownEntry));
/// assert_eq!((error.entry(), error.kind()), ("noSuchEntry", ErrorKind::NotFound));
///
/// let stdout = match reexec::command("greeter").output() {
///     Ok(output) => output.stdout,
///     // Another process still has the stream open. Everything that the child wrote is there.
///     Err(error) if matches!(error.stage(), Stage::StreamHeld) => {
///         error.output().map(|output| output.stdout.clone()).unwrap_or_default()
///     }
///     Err(error) => return Err(error),
/// };
/// assert_eq!(stdout, b"hello\n");
/// # Ok(())
/// # }
/// ```
///
/// It converts into [`io::Error`], so `?` works in functions that return one. If a system call failed,
/// the [`io::Error`] keeps only its error number, because it has no room for more. Any other error is
/// kept whole inside.
pub struct Error(Box<Inner>);

/// Boxed, so that a `Result` with this error is small.
struct Inner {
    entry: String,
    stage: Stage,
    output: Option<PartialOutput>,
}

/// The output of a child that was read until an error; see [`Error::output`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialOutput {
    /// The status of the child, if it has ended and its status is known.
    pub status: Option<ExitStatus>,
    /// The bytes that were read from stdout.
    pub stdout: Vec<u8>,
    /// The bytes that were read from stderr.
    pub stderr: Vec<u8>,
}

impl Error {
    pub(crate) fn new(entry: &str, stage: Stage) -> Self {
        Self(Box::new(Inner { entry: entry.to_owned(), stage, output: None }))
    }

    pub(crate) fn with_output(mut self, output: PartialOutput) -> Self {
        self.0.output = Some(output);
        self
    }

    /// Returns the name given to [`command`](crate::command) or to [`program`](crate::program()). It is
    /// empty for a copy made by [`fork`](crate::fork()), which runs no entry.
    pub fn entry(&self) -> &str {
        &self.0.entry
    }

    /// Returns the stage that failed.
    pub fn stage(&self) -> &Stage {
        &self.0.stage
    }

    /// Returns the output that was read until the error, if the child was started and
    /// [`Command::output`](crate::Command::output) or
    /// [`Child::wait_with_output`](crate::Child::wait_with_output) failed.
    pub fn output(&self) -> Option<&PartialOutput> {
        self.0.output.as_ref()
    }

    /// Returns the error number of the system call that failed, such as `libc::EMFILE`, if one did.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.stage().source()?.raw_os_error()
    }

    /// Returns the kind that this error has as an [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self.stage() {
            Stage::Invalid(_) => io::ErrorKind::InvalidInput,
            Stage::UnknownEntry => io::ErrorKind::NotFound,
            Stage::NotReady { .. } | Stage::StreamHeld => io::ErrorKind::TimedOut,
            stage => stage.source().map_or(io::ErrorKind::Other, io::Error::kind),
        }
    }
}

/// The stages that can fail, from the earliest to the latest.
///
/// At [`Stage::Read`], [`Stage::StreamHeld`] and [`Stage::Wait`], the entry or the program has run. At all
/// other stages it has not.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stage {
    /// This process has not called [`init`](crate::init), so its child would not either: it would run
    /// `main` again, and start another child.
    InitNotCalled,
    /// The number of re-executions that led to this process has reached the limit.
    TooDeep {
        /// The limit.
        limit: u32,
    },
    /// The command is invalid, or this process cannot start it. No process was made. The string is the
    /// reason:
    ///
    /// - A name, argument or variable cannot be passed on, or a number means nothing.
    /// - Settings exclude each other.
    /// - Only [`Command::spawn_job`](crate::Command::spawn_job) can start the command: it is made by
    ///   [`program`](crate::program()), or has a `deadline` or a `job_cgroup`.
    /// - `spawn_job` cannot start the command: it has `outlive_parent`, or passes a descriptor by name to
    ///   another program.
    /// - An earlier child has a descriptor.
    /// - This process has changed since it made the [`Template`](crate::Template).
    /// - `main` continued after the entry had returned.
    Invalid(String),
    /// Preparing the start failed, before there was a process.
    Prepare {
        /// The step that failed.
        step: &'static str,
        /// The cause, such as `EMFILE`.
        source: io::Error,
    },
    /// The system made no new process: there is no room for one (`EAGAIN`, `ENOMEM`), or a seccomp
    /// filter forbids it.
    NewProcess {
        /// The cause.
        source: io::Error,
    },
    /// The new process could not join the group set by
    /// [`Command::process_group`](crate::Command::process_group), because this session has no such
    /// group.
    ProcessGroup {
        /// The group.
        group: i32,
        /// The cause.
        source: io::Error,
    },
    /// The new process could not execute the program.
    Exec {
        /// The file to execute.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The child ended, or closed its control channel, before it reached `init`.
    BeforeInit {
        /// The exit status, if it is known.
        status: Option<ExitStatus>,
    },
    /// The child has registered no function under this name.
    UnknownEntry,
    /// A step of the child's set-up failed, before the entry ran.
    SetUp {
        /// The step that failed.
        step: String,
        /// The cause.
        source: io::Error,
    },
    /// The child did not get ready in time, and was killed.
    NotReady {
        /// The limit set by [`Command::ready_timeout`](crate::Command::ready_timeout).
        timeout: Duration,
    },
    /// Reading the child's output, or waiting for it, failed. The child has been killed, unless it had
    /// ended.
    Read {
        /// The cause.
        source: io::Error,
    },
    /// The child has ended, but another process keeps its stdout or stderr open, and wrote nothing for
    /// as long as [`Command::stream_grace`](crate::Command::stream_grace) says.
    StreamHeld,
    /// The entry has run, but the child's status is lost.
    Wait {
        /// The error of [`Child::wait`](crate::Child::wait).
        source: io::Error,
    },
}

impl Stage {
    /// Returns the error of the system call that failed, if one did.
    fn source(&self) -> Option<&io::Error> {
        match self {
            Stage::Prepare { source, .. }
            | Stage::NewProcess { source }
            | Stage::ProcessGroup { source, .. }
            | Stage::Exec { source, .. }
            | Stage::SetUp { source, .. }
            | Stage::Read { source }
            | Stage::Wait { source } => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = match (self.entry(), self.stage()) {
            ("", Stage::Read { .. } | Stage::StreamHeld | Stage::Wait { .. }) => {
                "the forked copy".into()
            }
            ("", _) => "an entry without a name".into(),
            (entry, _) => shortened(entry),
        };
        match self.stage() {
            Stage::Read { .. } => write!(f, "reading the output of {entry} failed: ")?,
            Stage::StreamHeld => write!(f, "{entry} has ended, but ")?,
            Stage::Wait { .. } => write!(f, "{entry} has run, but its status is unknown: ")?,
            _ => write!(f, "cannot start {entry}: ")?,
        }
        match self.stage() {
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
            Stage::BeforeInit { status: Some(status) }
                if status.code() == Some(EXIT_SETUP_FAILED.into()) =>
            {
                write!(
                    f,
                    "the child could not communicate with its parent ({status}); it has printed the reason \
                 to its stderr"
                )
            }
            Stage::BeforeInit { status: Some(status) } => write!(
                f,
                "the child ended before it reached reexec::init() ({status}){}",
                match status.code() {
                    Some(0) => "; is init() the first statement of main?",
                    Some(_) => {
                        "; if the program runs under valgrind, or through its loader, see \
                         Command::executable"
                    }
                    None => "",
                }
            ),
            Stage::UnknownEntry => write!(
                f,
                "no function is registered under this name; call reexec::register(\"{entry}\", …) \
                 before reexec::init()"
            ),
            Stage::SetUp { step, source } => write!(f, "in the child, {step} failed: {source}"),
            Stage::NotReady { timeout } => {
                write!(f, "the child was not ready within {timeout:?} and was killed")
            }
            Stage::StreamHeld => f.write_str(
                "another process still holds its stdout or stderr open; what was read until then is in \
                 this error",
            ),
            Stage::Read { source } | Stage::Wait { source } => source.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("entry", &self.0.entry).field("stage", &self.0.stage);
        if let Some(output) = &self.0.output {
            debug.field("output", output);
        }
        debug.finish()
    }
}

impl fmt::Debug for PartialOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartialOutput")
            .field("status", &self.status)
            .field("stdout", &String::from_utf8_lossy(&self.stdout))
            .field("stderr", &String::from_utf8_lossy(&self.stderr))
            .finish()
    }
}

/// Shortens a very long name for a message.
pub(crate) fn shortened(name: &str) -> Cow<'_, str> {
    const LONGEST: usize = 200;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}… ({} bytes)", &name[..end], name.len()).into(),
        None => name.into(),
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        let source = self.stage().source()?;
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
