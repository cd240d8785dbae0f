//! Collecting what a child writes.

use std::error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ExitStatus, Output};
use std::time::{Duration, Instant};

use crate::background::END_GRACE;
use crate::readiness::wait_readable;
use crate::{Child, Error, sys};

/// Why the output of a child could not be collected whole, and what there is of it.
///
/// ```no_run
/// # fn f() -> std::io::Result<()> {
/// let output = match reexec::command("childProcess").output() {
///     Ok(output) => output.stdout,
///     // Somebody else goes on with the stream. What the child itself has written is there.
///     Err(error) if matches!(error.cause, reexec::OutputCause::StreamHeld) => error.stdout,
///     Err(error) => return Err(error.into()),
/// };
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct OutputError {
    /// What went wrong.
    pub cause: OutputCause,
    /// What was read from stdout until then.
    pub stdout: Vec<u8>,
    /// What was read from stderr until then.
    pub stderr: Vec<u8>,
    /// How the child has ended, if it has and that is known.
    pub status: Option<ExitStatus>,
}

/// What kept a child's output from being collected.
#[derive(Debug)]
#[non_exhaustive]
pub enum OutputCause {
    /// The child was not started.
    Spawn(Error),
    /// The child has ended, but another process keeps one of its streams open, and wrote nothing
    /// for as long as [`Command::stream_grace`](crate::Command::stream_grace) says.
    StreamHeld,
    /// Reading, or waiting for something to read, failed. The child has been killed, unless it had
    /// ended.
    Read(io::Error),
    /// The child has ended, and its status is lost; see [`Child::wait`].
    Wait(io::Error),
}

impl From<Error> for OutputError {
    fn from(error: Error) -> Self {
        Self {
            cause: OutputCause::Spawn(error),
            stdout: Vec::new(),
            stderr: Vec::new(),
            status: None,
        }
    }
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            OutputCause::Spawn(error) => error.fmt(f),
            OutputCause::StreamHeld => write!(
                f,
                "the child has ended, but another process still holds its stdout or stderr open; \
                 what was read until then is in this error"
            ),
            OutputCause::Read(error) => write!(f, "reading the child's output failed: {error}"),
            OutputCause::Wait(error) => error.fmt(f),
        }
    }
}

impl error::Error for OutputError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.cause {
            OutputCause::Spawn(error) => error.source(),
            OutputCause::StreamHeld => None,
            OutputCause::Read(error) | OutputCause::Wait(error) => Some(error),
        }
    }
}

/// The error number is kept, if there is one; what was read is not.
impl From<OutputError> for io::Error {
    fn from(error: OutputError) -> Self {
        match error.cause {
            OutputCause::Spawn(error) => error.into(),
            OutputCause::StreamHeld => io::Error::new(io::ErrorKind::TimedOut, error),
            OutputCause::Read(error) | OutputCause::Wait(error) => error,
        }
    }
}

/// Reads both streams to their ends, and waits for the child.
pub(crate) fn collect(child: &Child, grace: Duration) -> Result<Output, OutputError> {
    let mut streams = [
        Stream::new(child.take_stdout()),
        Stream::new(child.take_stderr()),
    ];
    let read = read_all(&mut streams, child, grace);
    // Our ends are closed here: a child that still writes must not wait for us.
    let [stdout, stderr] = streams.map(|stream| stream.bytes);
    if let Err(OutputCause::Read(_)) = read {
        child.release(Instant::now() + END_GRACE);
    }
    let ended = child.wait();
    let status = ended.as_ref().ok().copied();
    match read.and(ended.map_err(OutputCause::Wait)) {
        Ok(status) => Ok(Output {
            status,
            stdout,
            stderr,
        }),
        Err(cause) => Err(OutputError {
            cause,
            stdout,
            stderr,
            status,
        }),
    }
}

/// Reads to the end of both streams; after the child's end, as long as there is no silence of more
/// than `grace`.
fn read_all(streams: &mut [Stream; 2], child: &Child, grace: Duration) -> Result<(), OutputCause> {
    let mut has_ended = false;
    // When the silence is over; of no account while the child runs.
    let mut deadline = None;
    loop {
        let [stdout, stderr] = &*streams;
        if stdout.source.is_none() && stderr.source.is_none() {
            return Ok(());
        }
        // A handle that is not exact may be readable for as long as the child runs.
        let end = (!has_ended && child.is_exact()).then(|| child.as_fd());
        let look = if has_ended {
            deadline
        } else {
            child.next_look()
        };
        let ready = wait_readable([stdout.as_fd(), stderr.as_fd(), end], look);
        let ready = ready.map_err(OutputCause::Read)?;
        for (stream, is_ready) in streams.iter_mut().zip(ready) {
            if is_ready {
                stream.read_some().map_err(OutputCause::Read)?;
            }
        }
        let is_silent = !ready[0] && !ready[1];
        if has_ended && is_silent && deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(OutputCause::StreamHeld);
        }
        let may_have_ended = ready[2] || !child.is_exact();
        let ends = !has_ended && may_have_ended && !matches!(child.try_wait(), Ok(None));
        if ends || !is_silent {
            deadline = Instant::now().checked_add(grace);
        }
        has_ended |= ends;
    }
}

/// One of the streams that [`collect`] reads.
struct Stream {
    /// `None` after its end, or if it is not ours to read.
    source: Option<File>,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(source: Option<impl Into<OwnedFd>>) -> Self {
        Self {
            source: source.map(|source| File::from(source.into())),
            bytes: Vec::new(),
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there. To be called when it is readable: then it does not block.
    fn read_some(&mut self) -> io::Result<()> {
        let Some(source) = &mut self.source else {
            return Ok(());
        };
        let mut buffer = [0; 16 * 1024];
        match sys::retry(|| source.read(&mut buffer))? {
            0 => self.source = None,
            length => self.bytes.extend_from_slice(&buffer[..length]),
        }
        Ok(())
    }
}
