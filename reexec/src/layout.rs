//! Which descriptors a child gets, at which numbers, and which of them are pipes of ours.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::command::{Source, Stdio};
use crate::control::CONTROL_FD;
use crate::sys;

/// Which descriptor the child will have at which number: 0 to 2, the control channel, the
/// lifeline if there is one, what its handle needs, those passed by name, then the sealed copy of
/// the program if it executes one.
pub(crate) struct Layout {
    pub(crate) pairs: Vec<(OwnedFd, RawFd)>,
    /// The number after the last one that is given to the child.
    pub(crate) next: RawFd,
    /// Above every target. Sources lie above it, or the copy made for one target could overwrite
    /// the source of a later one.
    floor: RawFd,
}

impl Layout {
    pub(crate) fn new(named: usize) -> Self {
        let next = CONTROL_FD + 1;
        let lifeline_handle_named_and_copy = 2 + named as RawFd + 1;
        Self {
            pairs: Vec::new(),
            next,
            floor: next + lifeline_handle_named_and_copy,
        }
    }

    /// Gives the child `fd`, of which we keep nothing once the child has been started.
    pub(crate) fn give(&mut self, fd: OwnedFd, target: RawFd) -> io::Result<()> {
        let fd = if fd.as_raw_fd() < self.floor {
            self.copy(fd.as_fd())?
        } else {
            fd
        };
        self.pairs.push((fd, target));
        Ok(())
    }

    /// Gives the child a copy of what the command holds until the start has succeeded.
    pub(crate) fn lend(&mut self, fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
        let copy = self.copy(fd)?;
        self.pairs.push((copy, target));
        Ok(())
    }

    pub(crate) fn give_next(&mut self, fd: OwnedFd) -> io::Result<RawFd> {
        let target = self.next;
        self.give(fd, target)?;
        self.next += 1;
        Ok(target)
    }

    pub(crate) fn lend_next(&mut self, fd: BorrowedFd<'_>) -> io::Result<RawFd> {
        let target = self.next;
        self.lend(fd, target)?;
        self.next += 1;
        Ok(target)
    }

    fn copy(&self, fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        sys::duplicate_above(fd, self.floor)
    }
}

/// Our ends of the child's standard streams, where they are pipes.
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

    pub(crate) fn add_stdin(
        &mut self,
        layout: &mut Layout,
        stdio: Option<&Stdio>,
    ) -> io::Result<()> {
        if let Some(Stdio(Source::Piped)) = stdio {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            self.stdin = Some(write.into());
            return layout.give(read, libc::STDIN_FILENO);
        }
        unpiped(layout, stdio, libc::STDIN_FILENO)
    }

    pub(crate) fn add_stdout(
        &mut self,
        layout: &mut Layout,
        stdio: Option<&Stdio>,
    ) -> io::Result<()> {
        self.stdout = output(layout, stdio, libc::STDOUT_FILENO)?.map(Into::into);
        Ok(())
    }

    pub(crate) fn add_stderr(
        &mut self,
        layout: &mut Layout,
        stdio: Option<&Stdio>,
    ) -> io::Result<()> {
        self.stderr = output(layout, stdio, libc::STDERR_FILENO)?.map(Into::into);
        Ok(())
    }
}

/// Stdout or stderr; returns our end if it is a pipe.
fn output(
    layout: &mut Layout,
    stdio: Option<&Stdio>,
    target: RawFd,
) -> io::Result<Option<OwnedFd>> {
    if let Some(Stdio(Source::Piped)) = stdio {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        layout.give(write, target)?;
        return Ok(Some(read));
    }
    unpiped(layout, stdio, target)?;
    Ok(None)
}

fn unpiped(layout: &mut Layout, stdio: Option<&Stdio>, target: RawFd) -> io::Result<()> {
    match stdio.map(|stdio| &stdio.0) {
        None | Some(Source::Inherit | Source::Piped | Source::Spent) => Ok(()),
        Some(Source::Null) => {
            let null = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/null")?;
            layout.give(null.into(), target)
        }
        Some(Source::Descriptor(fd)) => layout.lend(fd.as_fd(), target),
    }
}
