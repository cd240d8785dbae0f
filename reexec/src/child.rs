//! The handle of a running child.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{self, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Usage;
use crate::handle::Handle;
use crate::layout::Pipes;
use crate::readiness::wait_readable;

/// How long a stream of a child that has ended may stay open, and how often it is read after that:
/// what is in the pipe then is still wanted, but somebody else may go on writing.
const STREAM_GRACE: Duration = Duration::from_secs(1);
const READS_AFTER_GRACE: usize = 64;

/// Between two looks at a child that is about to end.
pub(crate) const ABOUT_TO_END: Duration = Duration::from_millis(1);

/// A running child, or one that has ended.
///
/// All methods but the two that give it up take `&self`, and may be called from any thread at any
/// time. Waiting and signalling go through a pidfd (pidfd_open(2)), so neither can ever meet a stranger that was
/// given the child's number after its end.
///
/// **Dropping it kills the child and reaps it**, which takes as long as the kernel needs to end a
/// killed process. So no zombie is left behind, whichever way the owner is left. Only the child
/// itself: for what it has started, make it a group of its own with
/// [`Command::process_group`](crate::Command::process_group) and signal that. And not a child that
/// has become another user, by executing a set-user-id program, if this process may not signal it.
///
/// [`AsFd`] gives the pidfd. It becomes readable when the child has ended, also before it is
/// reaped, so `poll(2)` and the event loops built on it can wait for the end of many children.
///
/// Where pidfds are refused, by an old kernel or by a seccomp filter, it all works with the child's
/// number, which nobody else can get before this handle has reaped the child; [`AsFd`] then gives
/// a pipe that ends with the child and with every process that the child has forked without exec,
/// or when it executes another program.
///
/// In a process that ignores `SIGCHLD` the kernel discards statuses: waiting still works, but
/// ends in an error that says so.
#[derive(Debug)]
pub struct Child {
    pid: u32,
    handle: Handle,
    /// The process that started the child. In a forked copy of it, this handle is a copy too, and
    /// the child is a sibling: dropping the copy must not kill it.
    owner: u32,
    state: Mutex<State>,
    pipes: Mutex<Pipes>,
    /// The only write end of the child's lifeline. Closed with the handle, or by the kernel when
    /// this process ends: then the child gets its signal.
    tie: Option<OwnedFd>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Not reaped: its number is its own.
    Unreaped,
    Reaped(ExitStatus, Usage),
    /// Ended, and the status went elsewhere.
    Lost,
}

impl Child {
    /// Takes over a process that was just started.
    pub(crate) fn new(pid: i32, handle: Handle, tie: Option<OwnedFd>, pipes: Pipes) -> Child {
        Child {
            pid: pid.unsigned_abs(),
            handle,
            owner: process::id(),
            state: Mutex::new(State::Unreaped),
            pipes: Mutex::new(pipes),
            tie,
        }
    }

    /// The child's process id. After the child has been reaped the number may be another's: to
    /// signal the child, use [`Child::signal`].
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Our end of the child's stdin, if it is a pipe and was not taken yet.
    pub fn take_stdin(&self) -> Option<ChildStdin> {
        self.pipes().stdin.take()
    }

    /// Our end of the child's stdout, if it is a pipe and was not taken yet.
    pub fn take_stdout(&self) -> Option<ChildStdout> {
        self.pipes().stdout.take()
    }

    /// Our end of the child's stderr, if it is a pipe and was not taken yet.
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        self.pipes().stderr.take()
    }

    /// Waits until the child has ended, and reaps it. Later calls return the same status.
    ///
    /// Closes our end of the child's stdin first, unless it was taken, as
    /// [`std::process::Child::wait`] does: a child that reads to the end of its input would
    /// otherwise wait for us while we wait for it.
    ///
    /// # Errors
    ///
    /// If the status has been discarded, see [`Child`]; the text says so.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        drop(self.take_stdin());
        // Without the lock, and without reaping:
        // 1. This thread waits, with the lock held.
        // 2. Another one wants to kill the child, and waits for the lock, for ever.
        // So we only look here, and whoever gets the lock first reaps.
        loop {
            if matches!(*self.state(), State::Unreaped) {
                self.handle.await_end()?;
            }
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
        }
    }

    /// As [`Child::wait`], but gives up when `timeout` has passed: `None` then, and the child
    /// goes on. Leaves stdin open.
    ///
    /// # Errors
    ///
    /// Those of [`Child::wait`].
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let [ended] = wait_readable([Some(self.as_fd())], deadline)?;
            let status = self.try_wait()?;
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if status.is_some() || !ended || is_late {
                return Ok(status);
            }
            // Without a pidfd: the child has closed what it had, and is about to be a zombie.
            thread::sleep(ABOUT_TO_END);
        }
    }

    /// The status if the child has ended, which is then reaped; `None` if it is running.
    ///
    /// # Errors
    ///
    /// Those of [`Child::wait`].
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        let mut state = self.state();
        match *state {
            State::Reaped(status, _) => return Ok(Some(status)),
            State::Lost => return Err(self.lost()),
            State::Unreaped => {}
        }
        match self.handle.try_reap() {
            Ok(None) => Ok(None),
            Ok(Some((status, usage))) => {
                *state = State::Reaped(status, usage);
                Ok(Some(status))
            }
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                // A forked copy is not the parent; it knows nothing about the child's state.
                if self.is_owner() {
                    *state = State::Lost;
                }
                Err(self.lost())
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the child to end, with `SIGTERM`, which immediately ends an entry that has no handler
    /// for it; kills the child if it has not ended within `grace`; reaps it. If it has ended
    /// before, returns the status it had.
    ///
    /// # Errors
    ///
    /// Those of [`Child::signal`] and [`Child::wait`].
    pub fn stop(&self, grace: Duration) -> io::Result<ExitStatus> {
        self.signal(libc::SIGTERM)?;
        if let Some(status) = self.wait_timeout(grace)? {
            return Ok(status);
        }
        self.kill()?;
        self.wait()
    }

    /// Gives up the handle, and lets the child go on: a thread of its own waits for it, so that it
    /// leaves no zombie when it ends. It still ends with this process, unless
    /// [`Command::outlive_parent`](crate::Command::outlive_parent) was set. To hear of the end of
    /// children that nobody waits for, put them into a [`Reaper`](crate::Reaper).
    ///
    /// # Errors
    ///
    /// `EAGAIN` if there is no room for a thread; the child is then killed and reaped.
    pub fn detach(self) -> io::Result<()> {
        const STACK: usize = 64 * 1024;
        thread::Builder::new()
            .name(format!("reap {}", self.pid))
            .stack_size(STACK)
            .spawn(move || {
                // Nobody is left to tell of an error.
                let _ = self.wait();
            })
            .map(drop)
    }

    /// What the child has used; `None` until it has been reaped.
    pub fn usage(&self) -> Option<Usage> {
        match *self.state() {
            State::Reaped(_, usage) => Some(usage),
            State::Unreaped | State::Lost => None,
        }
    }

    /// Collects what the child writes to those of stdout and stderr that are pipes and were not
    /// taken, both at the same time; closes our end of stdin first; reaps the child.
    ///
    /// It reads to the end of both streams. A process that the child has left behind may hold one
    /// open for ever; so, once the child has ended, it waits for that end only another second.
    ///
    /// # Errors
    ///
    /// Those of [`Child::wait`], and of reading. [`io::ErrorKind::TimedOut`], with a
    /// [`StreamHeld`] inside that has all that was read, if a stream did not end in time.
    pub fn wait_with_output(self) -> io::Result<Output> {
        drop(self.take_stdin());
        let (stdout, stderr) = (self.take_stdout(), self.take_stderr());
        let mut streams = [Stream::new(stdout), Stream::new(stderr)];
        let mut deadline = None;
        let mut late_reads = 0;
        let mut ended_early = false;
        let ended = loop {
            let [out, err] = &streams;
            let end = (deadline.is_none() && !ended_early).then(|| self.as_fd());
            if out.source.is_none() && err.source.is_none() {
                break true;
            }
            let next_look = ended_early.then(|| Instant::now() + ABOUT_TO_END);
            let ready = wait_readable([out.as_fd(), err.as_fd(), end], deadline.or(next_look))?;
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            late_reads += usize::from(is_late);
            if deadline.is_some() && ready == [false; 3] || late_reads > READS_AFTER_GRACE {
                break false;
            }
            for (stream, ready) in streams.iter_mut().zip(ready) {
                if ready {
                    stream.read_some()?;
                }
            }
            if ready[2] || (ended_early && deadline.is_none()) {
                // Without a pidfd, it may have executed another program, and live.
                let has_ended = !matches!(self.try_wait(), Ok(None));
                deadline = has_ended.then(|| Instant::now() + STREAM_GRACE);
                ended_early = !has_ended;
            }
        };
        let status = self.wait()?;
        let [stdout, stderr] = streams.map(|stream| stream.bytes);
        let output = Output {
            status,
            stdout,
            stderr,
        };
        if ended {
            Ok(output)
        } else {
            Err(StreamHeld { output }.into())
        }
    }

    /// Sends a signal, such as `libc::SIGTERM`, to the child. Does nothing if it was reaped; a
    /// zombie takes signals, without effect.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such signal; `EPERM` if the child has become another user, or in a
    /// forked copy of the process that started the child.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        if !self.is_owner() {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let state = self.state();
        match *state {
            State::Unreaped => match self.handle.signal(signal) {
                // Reaped by the kernel, or by a foreign wait: ended all the same.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                result => result,
            },
            State::Reaped(..) | State::Lost => Ok(()),
        }
    }

    /// Sends `SIGKILL`, as [`std::process::Child::kill`]; the child still has to be waited for.
    ///
    /// # Errors
    ///
    /// Those of [`Child::signal`].
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// What a forked copy of this process has copies of. Without taking a lock or memory, which
    /// would be to write.
    pub(crate) fn each_descriptor(&mut self, visit: &mut dyn FnMut(RawFd)) {
        visit(self.handle.as_fd().as_raw_fd());
        self.tie.as_ref().map(AsRawFd::as_raw_fd).map(&mut *visit);
        let pipes = self.pipes.get_mut().unwrap_or_else(PoisonError::into_inner);
        pipes.descriptors().for_each(visit);
    }

    /// Takes in how the child has ended, from somebody who has waited for everybody.
    pub(crate) fn settle(&self, status: ExitStatus, usage: Usage) {
        *self.state() = State::Reaped(status, usage);
    }

    fn is_owner(&self) -> bool {
        self.owner == process::id()
    }

    fn lost(&self) -> io::Error {
        let message = if self.is_owner() {
            "its exit status is lost (ECHILD): SIGCHLD is ignored in this process, or something \
             else in it waited for any child"
        } else {
            "it is the child of the process that started it (ECHILD), not of this forked copy"
        };
        io::Error::other(format!("waiting for process {}: {message}", self.pid))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock leaves the state half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pipes(&self) -> MutexGuard<'_, Pipes> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Child {
    /// The pidfd; see [`Child`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsRawFd for Child {
    /// The pidfd; see [`Child`].
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.is_owner() && matches!(*self.state(), State::Unreaped) && self.kill().is_ok() {
            // An error means that the child has ended and the status is lost: nothing to reap.
            let _ = self.wait();
        }
    }
}

/// One of the streams that [`Child::wait_with_output`] collects.
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
        match source.read(&mut buffer) {
            Ok(0) => self.source = None,
            Ok(length) => self.bytes.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The child has ended, but a process that it left behind keeps one of its output streams open.
#[derive(Debug)]
#[non_exhaustive]
pub struct StreamHeld {
    /// What was read until then, and how the child has ended.
    pub output: Output,
}

impl fmt::Display for StreamHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the child has ended ({}), but another process still holds its stdout or stderr open",
            self.output.status
        )
    }
}

impl Error for StreamHeld {}

impl From<StreamHeld> for io::Error {
    fn from(held: StreamHeld) -> Self {
        io::Error::new(io::ErrorKind::TimedOut, held)
    }
}
