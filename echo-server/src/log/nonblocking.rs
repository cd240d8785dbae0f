//! Writes to a standard stream without ever waiting for its reader.
//!
//! A full pipe, a stopped terminal or a full socket makes write(2) wait. O_NONBLOCK prevents that,
//! but it is a flag of the open file description, which we share with the process that
//! started us: a shell that finds its own terminal nonblocking breaks. So we never change that flag, and use instead:
//!
//! - for a pipe or a terminal, an open file description of our own, opened with O_NONBLOCK;
//! - for a socket, MSG_DONTWAIT, a flag of the single call;
//! - for anything else, such as a file, a plain write: it waits for no reader.
//!
//! A pipe or a terminal cannot be opened again without /proc, or if it belongs to another user. Then
//! we ask whether there is room, and write only if there is. Between the two calls another process
//! may take the room, and our write waits for the reader after all.
//!
//! After `stty tostop`, a terminal stops processes outside its foreground group that write to it, as
//! all workers are. They ignore SIGTTOU, and so are not stopped; the supervisor has it blocked.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::{dup2_stderr, write};

/// The largest write that a pipe takes as a whole or not at all, and never mixes with another one.
pub(crate) const ATOMIC: usize = libc::PIPE_BUF;

/// A standard stream that is written to without waiting.
pub(crate) struct Stream<S> {
    stream: S,
    way: Way,
    is_terminal: bool,
}

enum Way {
    /// With write(2), which does not wait for a reader here.
    Write,
    /// With MSG_DONTWAIT.
    Send,
    /// With write(2), if poll(2) says that there is room.
    Look,
}

impl Stream<io::Stderr> {
    /// Makes descriptor 2 of this process, and of those that it starts, an open file description of
    /// their own, if stderr is a pipe or a terminal.
    pub(crate) fn stderr() -> Self {
        let mut this = Self::of(io::stderr());
        if matches!(this.way, Way::Look) && replace_stderr().is_ok() {
            this.way = Way::Write;
        }
        this
    }
}

impl<S: AsFd + IsTerminal> Stream<S> {
    /// Finds out how to write to the stream, and leaves the stream as it is.
    pub(crate) fn of(stream: S) -> Self {
        let is_terminal = stream.is_terminal();
        let way = match fstat(&stream).map(|stat| kind(&stat)) {
            Ok(SFlag::S_IFSOCK) => Way::Send,
            Ok(SFlag::S_IFIFO) => Way::Look,
            _ if is_terminal => Way::Look,
            _ => Way::Write,
        };
        Self { stream, way, is_terminal }
    }

    /// Writes at most [`ATOMIC`] bytes, in one call. A terminal, or a socket, may take a part.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if there is no room.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        // A terminal has no room, either, while another process writes to it. That is over in a moment,
        // unless that process waits.
        let mut tries = if self.is_terminal { 10 } else { 1 };
        loop {
            tries -= 1;
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries > 0 => {
                    thread::yield_now();
                }
                result => return result,
            }
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(ATOMIC)];
        match self.way {
            Way::Send => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                Ok(send(self.stream.as_fd().as_raw_fd(), bytes, flags)?)
            }
            Way::Look if !has_room(self.stream.as_fd())? => Err(io::ErrorKind::WouldBlock.into()),
            Way::Look | Way::Write => Ok(write(&self.stream, bytes)?),
        }
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn replace_stderr() -> io::Result<()> {
    let own = OpenOptions::new()
        .write(true)
        // With O_NOCTTY, it does not become our controlling terminal.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open("/proc/self/fd/2")?;
    let which = |fd: BorrowedFd<'_>| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    // Something else may be mounted on /proc.
    if which(own.as_fd())? != which(io::stderr().as_fd())? {
        return Err(io::Error::other("/proc/self/fd/2 is not our stderr"));
    }
    Ok(dup2_stderr(own)?)
}

fn has_room(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
}
