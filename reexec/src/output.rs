//! Collects what a child writes.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ExitStatus, Output};
use std::time::Instant;

use crate::background::END_GRACE;
use crate::poll::{has_passed, wait_readable};
use crate::{Child, Error, PartialOutput, Stage, sys};

impl Child {
    /// Collects what the child writes to stdout and stderr, and reaps the child. Streams that are no
    /// pipes, or were taken, are left out.
    ///
    /// First closes this process's end of stdin. Then reads both streams to their ends, at the same
    /// time. A process that the child has left behind may hold a stream open for ever. So, once the
    /// child has ended, each wait for the next byte, or the end, is limited to the time that
    /// [`Command::stream_grace`](crate::Command::stream_grace) sets: one second by default.
    ///
    /// # Errors
    ///
    /// [`Stage::Read`], [`Stage::StreamHeld`] and [`Stage::Wait`]. [`Error::output`] returns what was
    /// read until then.
    pub fn wait_with_output(self) -> Result<Output, Error> {
        let end = || self.kill_and_reap(Instant::now() + END_GRACE);
        collect(&self, &self.entry, end, || self.wait())
    }
}

/// Collects what a child writes, as [`Child::wait_with_output`] does. If reading fails, calls `end`,
/// which ends the child. `wait` returns the status of what has written, which `name` names.
pub(crate) fn collect(
    child: &Child,
    name: &str,
    end: impl FnOnce(),
    wait: impl FnOnce() -> io::Result<ExitStatus>,
) -> Result<Output, Error> {
    drop(child.take_stdin());
    let mut collector = Collector::new(child);
    let read = collector.read_all();
    // Closes our ends: a child that still writes must not wait for us.
    let [stdout, stderr] = collector.into_bytes();
    if let Err(Stage::Read { .. }) = read {
        end();
    }
    let waited = wait();
    let status = waited.as_ref().ok().copied();
    match read.and(waited.map_err(|source| Stage::Wait { source })) {
        Ok(status) => Ok(Output { status, stdout, stderr }),
        Err(stage) => {
            let output = PartialOutput { status, stdout, stderr };
            Err(Error::new(name, stage).with_output(output))
        }
    }
}

/// Reads the two streams of a child.
struct Collector<'a> {
    child: &'a Child,
    streams: [Stream; 2],
    has_ended: bool,
    /// The end of the silence that we allow. Only used once the child has ended.
    silence_deadline: Option<Instant>,
}

/// Which descriptors are readable.
struct Ready {
    streams: [bool; 2],
    child: bool,
}

impl<'a> Collector<'a> {
    fn new(child: &'a Child) -> Self {
        Self {
            child,
            streams: [Stream::new(child.take_stdout()), Stream::new(child.take_stderr())],
            has_ended: false,
            silence_deadline: None,
        }
    }

    /// Reads both streams to their ends, or until nothing came for too long after the child's end.
    fn read_all(&mut self) -> Result<(), Stage> {
        while self.streams.iter().any(Stream::is_open) {
            let ready = self.wait().map_err(|source| Stage::Read { source })?;
            let is_silent = ready.streams == [false, false];
            self.read_ready(ready.streams).map_err(|source| Stage::Read { source })?;
            if self.has_ended && is_silent && has_passed(self.silence_deadline) {
                return Err(Stage::StreamHeld);
            }
            let ends_now = self.notice_end(ready.child);
            if ends_now || !is_silent {
                self.silence_deadline = Instant::now().checked_add(self.child.stream_grace);
            }
        }
        Ok(())
    }

    /// Waits until a stream is readable, the child has ended, or it is time to look again.
    fn wait(&self) -> io::Result<Ready> {
        // Without a pidfd, the child's descriptor may be readable for as long as the child runs.
        let end = (!self.has_ended && self.child.is_exact()).then(|| self.child.as_fd());
        let wakeup = match self.has_ended {
            true => self.silence_deadline,
            false => self.child.next_poll(),
        };
        let [stdout, stderr] = self.streams.each_ref().map(Stream::as_fd);
        let [stdout, stderr, child] = wait_readable([stdout, stderr, end], wakeup)?;
        Ok(Ready { streams: [stdout, stderr], child })
    }

    fn read_ready(&mut self, ready: [bool; 2]) -> io::Result<()> {
        for (stream, is_ready) in self.streams.iter_mut().zip(ready) {
            if is_ready {
                stream.read_some()?;
            }
        }
        Ok(())
    }

    /// Reaps the child if it has ended; returns `true` the first time that it has.
    fn notice_end(&mut self, is_readable: bool) -> bool {
        let may_have_ended = is_readable || !self.child.is_exact();
        let ends_now =
            !self.has_ended && may_have_ended && !matches!(self.child.try_wait(), Ok(None));
        self.has_ended |= ends_now;
        ends_now
    }

    fn into_bytes(self) -> [Vec<u8>; 2] {
        self.streams.map(|stream| stream.bytes)
    }
}

/// One of the streams that a [`Collector`] reads.
struct Stream {
    /// `None` after its end, or if it is not ours to read.
    source: Option<File>,
    bytes: Vec<u8>,
}

impl Stream {
    fn new(source: Option<impl Into<OwnedFd>>) -> Self {
        Self { source: source.map(|source| File::from(source.into())), bytes: Vec::new() }
    }

    fn is_open(&self) -> bool {
        self.source.is_some()
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().map(AsFd::as_fd)
    }

    /// Reads some bytes, or the end. Does not block if the stream is readable.
    fn read_some(&mut self) -> io::Result<()> {
        let Some(source) = &mut self.source else {
            return Ok(());
        };
        let mut buffer = [0; 16 * 1024];
        match sys::retry_on_interrupt(|| source.read(&mut buffer))? {
            0 => self.source = None,
            length => self.bytes.extend_from_slice(&buffer[..length]),
        }
        Ok(())
    }
}
