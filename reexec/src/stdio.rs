//! The standard streams of a child: what the caller asked for, and the parent's ends of the pipes.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::fd_map::FdMap;

/// Describes one standard stream of a child.
///
/// It has the constructors of [`std::process::Stdio`], which cannot be used here because nothing
/// can read back which descriptor it holds.
#[derive(Debug)]
pub struct Stdio(Source);

#[derive(Debug)]
enum Source {
    Inherit,
    Null,
    Piped,
    Descriptor(OwnedFd),
    /// An earlier child has the descriptor.
    Spent,
}

impl Stdio {
    /// Lets the child use the stream of this process.
    pub fn inherit() -> Self {
        Self(Source::Inherit)
    }

    /// Connects the stream to the null device.
    pub fn null() -> Self {
        Self(Source::Null)
    }

    /// Connects the stream to this process by a pipe. [`Child::take_stdin`](crate::Child::take_stdin)
    /// and its counterparts return this process's end.
    pub fn piped() -> Self {
        Self(Source::Piped)
    }

    /// Whether the child gets a descriptor that this process keeps no copy of.
    pub(crate) fn is_descriptor(&self) -> bool {
        matches!(self.0, Source::Descriptor(_))
    }

    /// Whether an earlier child has the descriptor.
    pub(crate) fn is_spent(&self) -> bool {
        matches!(self.0, Source::Spent)
    }

    /// Closes the descriptor, if it is one, after a child has got its copy.
    pub(crate) fn spend(&mut self) {
        if self.is_descriptor() {
            self.0 = Source::Spent;
        }
    }
}

/// Connects the stream to a file, a socket, or the end of a pipe: `Stdio::from(file)`.
impl<T: Into<OwnedFd>> From<T> for Stdio {
    fn from(descriptor: T) -> Self {
        Self(Source::Descriptor(descriptor.into()))
    }
}

/// What a start does with the streams that the caller has not set.
#[derive(Clone, Copy)]
pub(crate) enum StdioDefault {
    Inherit,
    /// Stdin is the null device; stdout and stderr are pipes.
    Capture,
}

impl StdioDefault {
    /// Fills in the streams that are not set. `None` means that the child inherits the stream.
    pub(crate) fn fill(self, set: [Option<&Stdio>; 3]) -> [Option<&Stdio>; 3] {
        static NULL: Stdio = Stdio(Source::Null);
        static PIPED: Stdio = Stdio(Source::Piped);
        let [stdin, stdout, stderr] = set;
        match self {
            StdioDefault::Inherit => set,
            StdioDefault::Capture => [
                stdin.or(Some(&NULL)),
                stdout.or(Some(&PIPED)),
                stderr.or(Some(&PIPED)),
            ],
        }
    }
}

/// The parent's ends of those standard streams that are pipes.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

impl Pipes {
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let stdin = self.stdin.as_ref().map(AsRawFd::as_raw_fd);
        let stdout = self.stdout.as_ref().map(AsRawFd::as_raw_fd);
        let stderr = self.stderr.as_ref().map(AsRawFd::as_raw_fd);
        [stdin, stdout, stderr].into_iter().flatten()
    }

    pub(crate) fn add_stdin<'a>(
        &mut self,
        map: &mut FdMap<'a>,
        stdio: Option<&'a Stdio>,
    ) -> io::Result<()> {
        if let Some(Stdio(Source::Piped)) = stdio {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            self.stdin = Some(write.into());
            map.give(read, libc::STDIN_FILENO);
            return Ok(());
        }
        add_unpiped(map, stdio, libc::STDIN_FILENO)
    }

    pub(crate) fn add_stdout<'a>(
        &mut self,
        map: &mut FdMap<'a>,
        stdio: Option<&'a Stdio>,
    ) -> io::Result<()> {
        self.stdout = add_output(map, stdio, libc::STDOUT_FILENO)?.map(Into::into);
        Ok(())
    }

    pub(crate) fn add_stderr<'a>(
        &mut self,
        map: &mut FdMap<'a>,
        stdio: Option<&'a Stdio>,
    ) -> io::Result<()> {
        self.stderr = add_output(map, stdio, libc::STDERR_FILENO)?.map(Into::into);
        Ok(())
    }
}

/// Adds stdout or stderr, and returns the parent's end if it is a pipe.
fn add_output<'a>(
    map: &mut FdMap<'a>,
    stdio: Option<&'a Stdio>,
    target: RawFd,
) -> io::Result<Option<OwnedFd>> {
    if let Some(Stdio(Source::Piped)) = stdio {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        map.give(write, target);
        return Ok(Some(read));
    }
    add_unpiped(map, stdio, target)?;
    Ok(None)
}

fn add_unpiped<'a>(map: &mut FdMap<'a>, stdio: Option<&'a Stdio>, target: RawFd) -> io::Result<()> {
    match stdio.map(|stdio| &stdio.0) {
        None | Some(Source::Inherit | Source::Piped | Source::Spent) => {}
        Some(Source::Null) => {
            let null = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/null")?;
            map.give(null.into(), target);
        }
        Some(Source::Descriptor(fd)) => map.lend(fd.as_fd(), target),
    }
    Ok(())
}
