//! Which descriptors a child gets, at which numbers, and which of them are pipes of ours.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::command::{self, Stdio};
use crate::control::CONTROL_FD;
use crate::sys;

/// Which descriptor the child will have at which number: 0 to 2, the control channel, the
/// lifeline if there is one, what its handle needs, those passed by name, then the sealed copy of
/// the program if it executes one.
pub(crate) struct Layout<'a> {
    pub(crate) pairs: Vec<(Source<'a>, RawFd)>,
    /// The number after the last one that is given to the child.
    pub(crate) next: RawFd,
}

/// What the child gets a copy of.
pub(crate) enum Source<'a> {
    /// Nothing of it is kept once the child has been started.
    Given(OwnedFd),
    /// The command holds it until the start has succeeded.
    Lent(BorrowedFd<'a>),
}

impl AsFd for Source<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Given(fd) => fd.as_fd(),
            Source::Lent(fd) => fd.as_fd(),
        }
    }
}

impl<'a> Layout<'a> {
    pub(crate) fn new() -> Self {
        Self {
            pairs: Vec::new(),
            next: CONTROL_FD + 1,
        }
    }

    pub(crate) fn give(&mut self, fd: OwnedFd, target: RawFd) {
        self.pairs.push((Source::Given(fd), target));
    }

    pub(crate) fn lend(&mut self, fd: BorrowedFd<'a>, target: RawFd) {
        self.pairs.push((Source::Lent(fd), target));
    }

    pub(crate) fn give_next(&mut self, fd: OwnedFd) -> RawFd {
        self.give(fd, self.next);
        self.take_number()
    }

    pub(crate) fn lend_next(&mut self, fd: BorrowedFd<'a>) -> RawFd {
        self.lend(fd, self.next);
        self.take_number()
    }

    fn take_number(&mut self) -> RawFd {
        self.next += 1;
        self.next - 1
    }

    /// Makes a copy, above all targets, of each source that would be overwritten before its turn, or
    /// lies at its own target already, where it would stay close-on-exec. Mostly there is none. Makes
    /// what the command holds close-on-exec, if it is not.
    pub(crate) fn clear_the_way(&mut self) -> io::Result<()> {
        let mut filled = BTreeSet::new();
        for (source, target) in &mut self.pairs {
            if let Source::Lent(fd) = source {
                // Or else the child would have a second copy, at this number, and its reader would
                // never see the end.
                sys::set_close_on_exec(fd)?;
            }
            filled.insert(*target);
            if filled.contains(&source.as_fd().as_raw_fd()) {
                *source = Source::Given(sys::duplicate_above(source.as_fd(), self.next)?);
            }
        }
        Ok(())
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

    pub(crate) fn add_stdin<'a>(
        &mut self,
        layout: &mut Layout<'a>,
        stdio: Option<&'a Stdio>,
    ) -> io::Result<()> {
        if let Some(Stdio(command::Source::Piped)) = stdio {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            self.stdin = Some(write.into());
            layout.give(read, libc::STDIN_FILENO);
            return Ok(());
        }
        unpiped(layout, stdio, libc::STDIN_FILENO)
    }

    pub(crate) fn add_stdout<'a>(
        &mut self,
        layout: &mut Layout<'a>,
        stdio: Option<&'a Stdio>,
    ) -> io::Result<()> {
        self.stdout = output(layout, stdio, libc::STDOUT_FILENO)?.map(Into::into);
        Ok(())
    }

    pub(crate) fn add_stderr<'a>(
        &mut self,
        layout: &mut Layout<'a>,
        stdio: Option<&'a Stdio>,
    ) -> io::Result<()> {
        self.stderr = output(layout, stdio, libc::STDERR_FILENO)?.map(Into::into);
        Ok(())
    }
}

/// Stdout or stderr; returns our end if it is a pipe.
fn output<'a>(
    layout: &mut Layout<'a>,
    stdio: Option<&'a Stdio>,
    target: RawFd,
) -> io::Result<Option<OwnedFd>> {
    if let Some(Stdio(command::Source::Piped)) = stdio {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        layout.give(write, target);
        return Ok(Some(read));
    }
    unpiped(layout, stdio, target)?;
    Ok(None)
}

fn unpiped<'a>(layout: &mut Layout<'a>, stdio: Option<&'a Stdio>, target: RawFd) -> io::Result<()> {
    match stdio.map(|stdio| &stdio.0) {
        None | Some(command::Source::Inherit | command::Source::Piped | command::Source::Spent) => {
        }
        Some(command::Source::Null) => {
            let null = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/null")?;
            layout.give(null.into(), target);
        }
        Some(command::Source::Descriptor(fd)) => layout.lend(fd.as_fd(), target),
    }
    Ok(())
}
