//! The standard streams of a child: what the caller asked for, and the parent's ends of the pipes.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::fd_map::FdMap;

/// Describes one standard stream of a child.
///
/// It has the constructors of [`std::process::Stdio`], which cannot be used here because nothing
/// can read back which descriptor it holds. Files, sockets, the ends of pipes, and [`io::stdout`] convert
/// into it.
///
/// ```
/// # fn main() -> std::process::ExitCode {
/// #     reexec::register("copier", || std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).map(drop));
/// #     reexec::init().unwrap_or_else(|| std::process::Termination::report(parent()))
/// # }
/// # fn parent() -> std::io::Result<()> {
/// use std::io::{self, Read, Write};
///
/// // "copier" copies its stdin to its stdout.
/// let ((stdin, mut write), (mut read, stdout)) = (io::pipe()?, io::pipe()?);
/// let mut command = reexec::command("copier");
/// let child = command.stdin(stdin).stdout(stdout).stderr(io::stdout()).spawn()?;
/// write.write_all(b"through two pipes")?;
/// drop(write); // the child's stdin ends, because only we had the other end
/// let mut text = String::new();
/// read.read_to_string(&mut text)?; // to the end, because only the child has the other end
/// assert_eq!(text, "through two pipes");
/// assert!(child.wait()?.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Stdio(Source);

#[derive(Debug)]
enum Source {
    Inherit,
    Null,
    Piped,
    Descriptor(OwnedFd),
    /// This process's own stream.
    Stdout,
    Stderr,
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

macro_rules! impl_from_descriptors {
    ($($descriptor:ty)*) => {$(
        /// Connects the stream to this descriptor, which the first child then has.
        impl From<$descriptor> for Stdio {
            fn from(descriptor: $descriptor) -> Self {
                Self(Source::Descriptor(descriptor.into()))
            }
        }
    )*};
}

// One by one: std's Stdout and Stderr do not convert into OwnedFd, so they could not have conversions of
// their own beside one for everything that does.
impl_from_descriptors! {
    OwnedFd File ChildStdin ChildStdout ChildStderr io::PipeReader io::PipeWriter
    TcpStream TcpListener UdpSocket UnixStream UnixListener UnixDatagram
}

/// Connects the stream to this process's stdout. This process keeps it.
impl From<io::Stdout> for Stdio {
    fn from(_: io::Stdout) -> Self {
        Self(Source::Stdout)
    }
}

/// Connects the stream to this process's stderr. This process keeps it.
impl From<io::Stderr> for Stdio {
    fn from(_: io::Stderr) -> Self {
        Self(Source::Stderr)
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
            StdioDefault::Capture => {
                [stdin.or(Some(&NULL)), stdout.or(Some(&PIPED)), stderr.or(Some(&PIPED))]
            }
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
}

/// Puts a stream into the map. Returns the parent's end if it is a pipe.
pub(crate) fn add_stream<'a>(
    map: &mut FdMap<'a>,
    stdio: Option<&'a Stdio>,
    target: RawFd,
) -> io::Result<Option<OwnedFd>> {
    match stdio.map(|stdio| &stdio.0) {
        None | Some(Source::Inherit | Source::Spent) => {}
        Some(Source::Null) => {
            let null = File::options().read(true).write(true).open("/dev/null")?;
            map.give(null.into(), target);
        }
        Some(Source::Descriptor(fd)) => map.lend(fd.as_fd(), target),
        Some(Source::Stdout) => map.give(io::stdout().as_fd().try_clone_to_owned()?, target),
        Some(Source::Stderr) => map.give(io::stderr().as_fd().try_clone_to_owned()?, target),
        Some(Source::Piped) => {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            let (childs, ours) = match target {
                libc::STDIN_FILENO => (read, write),
                _ => (write, read),
            };
            map.give(childs, target);
            return Ok(Some(ours));
        }
    }
    Ok(None)
}
