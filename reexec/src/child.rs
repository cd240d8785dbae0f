//! The handle of a running child.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::process::{self, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::handle::Handle;
use crate::layout::Pipes;
use crate::output::{self, OutputError};
use crate::readiness::{earliest, pause, wait_readable};
use crate::{Usage, background, sys};

/// Between two looks at a child that is about to end.
pub(crate) const ABOUT_TO_END: Duration = Duration::from_millis(1);

/// A running child, or one that has ended.
///
/// All methods but the two that give it up take `&self`, and may be called from any thread at any
/// time. Waiting and signalling go through a pidfd (pidfd_open(2)), so neither can ever meet a
/// stranger that was given the child's number after its end.
///
/// **Dropping it kills the child and reaps it**, which takes as long as the kernel needs to end a
/// killed process. So no zombie is left behind, whichever way the owner is left. Only the child
/// itself: for what it has started, make it a group of its own with
/// [`Command::process_group`](crate::Command::process_group) and signal that.
///
/// Where this process may not signal the child, because it has given up its privileges, or the child
/// has become another user by executing a set-user-id program, or a filter forbids it: dropping
/// closes the child's lifeline, so that the kernel sends the signal of
/// [`Command::die_with_parent`](crate::Command::die_with_parent), and waits up to one second for the
/// end. A child that goes on after that is reaped in the background when it ends.
///
/// [`AsFd`] gives the pidfd. It becomes readable when the child has ended, also before it is
/// reaped, so `poll(2)` and the event loops built on it can wait for the end of many children.
///
/// Where pidfds are refused, by an old kernel or by a seccomp filter, it all works with the child's
/// number, which nobody else can get before this handle has reaped the child. The methods here then
/// notice the end up to 20 ms late. [`AsFd`] gives a pipe, which ends with the child *and* with
/// every process that the child has forked without exec, or when the child executes another program.
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
    tie: Mutex<Option<OwnedFd>>,
    /// How long a silent stream may stay open after the child's end; see
    /// [`Command::stream_grace`](crate::Command::stream_grace).
    stream_grace: Duration,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Not reaped: its number is its own.
    Unreaped,
    Reaped(ExitStatus, Usage),
    /// Ended, and the status went elsewhere. Or not ours to wait for any more.
    Lost,
}

impl Child {
    /// Takes over a process that was just started.
    pub(crate) fn new(
        pid: i32,
        handle: Handle,
        tie: Option<OwnedFd>,
        pipes: Pipes,
        stream_grace: Duration,
    ) -> Child {
        Child {
            pid: pid.unsigned_abs(),
            handle,
            owner: process::id(),
            state: Mutex::new(State::Unreaped),
            pipes: Mutex::new(pipes),
            tie: Mutex::new(tie),
            stream_grace,
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
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// With no deadline, waits for ever.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> io::Result<Option<ExitStatus>> {
        loop {
            let look = earliest(deadline, self.next_look());
            let [ended] = wait_readable([Some(self.as_fd())], look)?;
            let status = self.try_wait()?;
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if status.is_some() || is_late {
                return Ok(status);
            }
            if ended {
                // Without a pidfd: the child has closed what it had, and is about to be a zombie.
                pause(ABOUT_TO_END);
            }
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
            Err(error) if sys::is(&error, libc::ECHILD) => {
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
    /// A child that may not be signalled gets the signal of its lifeline instead, at once.
    ///
    /// # Errors
    ///
    /// Those of [`Child::wait`]; those of [`Child::kill`], if the child still runs then.
    pub fn stop(&self, grace: Duration) -> io::Result<ExitStatus> {
        if self.signal(libc::SIGTERM).is_err() {
            self.cut_lifeline();
        }
        if let Some(status) = self.wait_timeout(grace)? {
            return Ok(status);
        }
        match self.kill() {
            Ok(()) => self.wait(),
            Err(refused) => self.wait_timeout(background::END_GRACE)?.ok_or(refused),
        }
    }

    /// Gives up the handle, and lets the child go on: it is reaped when it ends, and leaves no
    /// zombie. It still ends with this process, unless
    /// [`Command::outlive_parent`](crate::Command::outlive_parent) was set. To hear of the end of
    /// children that nobody waits for, put them into a [`Reaper`](crate::Reaper).
    ///
    /// What it writes to pipes that were not taken is not read: it stands still when they are full.
    ///
    /// One thread waits for all detached children, and ends with the last of them; until then
    /// [`fork`](crate::fork()) refuses.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if there is no room for that thread, `EMFILE` if there is none for its descriptor; the
    /// child is then killed and reaped.
    pub fn detach(self) -> io::Result<()> {
        drop(self.take_stdin()); // a child that reads to its end would never end
        background::detach(self)
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
    /// open for ever. So, once the child has ended, it waits for the next byte, or the end, only as
    /// long as [`Command::stream_grace`](crate::Command::stream_grace) says: one second by default.
    ///
    /// # Errors
    ///
    /// [`OutputError`], with what was read until then.
    pub fn wait_with_output(self) -> Result<Output, OutputError> {
        drop(self.take_stdin());
        output::collect(&self, self.stream_grace)
    }

    /// Sends a signal, such as `libc::SIGTERM`, to the child. Does nothing if it was reaped; a
    /// zombie takes signals, without effect.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such signal, or if libc keeps it for itself, as 32 and 33. `EPERM` if
    /// the child has become another user, or this process has, or in a forked copy of the process
    /// that started the child. What a seccomp filter answers to pidfd_send_signal(2) and kill(2).
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        sys::check_signal(signal)?;
        if !self.is_owner() {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let state = self.state();
        match *state {
            State::Unreaped => match self.handle.signal(signal) {
                // Reaped by the kernel, or by a foreign wait: ended all the same.
                Err(error) if sys::is(&error, libc::ESRCH) => Ok(()),
                result => result,
            },
            State::Reaped(..) | State::Lost => Ok(()),
        }
    }

    /// Sends `SIGKILL`, as [`std::process::Child::kill`]; the child still has to be waited for.
    ///
    /// A child that may not be signalled gets the signal of its lifeline instead, which is closed;
    /// the error says so that it was not `SIGKILL`.
    ///
    /// # Errors
    ///
    /// Those of [`Child::signal`].
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
            .inspect_err(|_| self.cut_lifeline())
    }

    /// Lets the kernel send the child what it would get at our end. In a forked copy of this
    /// process, which may not signal the child, it closes the copy of the lifeline and no more.
    fn cut_lifeline(&self) {
        drop(
            self.tie
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    /// Kills and reaps the child. If it may not be killed, waits for its end until the deadline, and
    /// then leaves it to the background.
    pub(crate) fn release(&self, deadline: Instant) {
        if !self.is_owner() || !matches!(*self.state(), State::Unreaped) {
            return;
        }
        let reaped = self.kill().and_then(|()| self.wait());
        if reaped.is_err() && !self.is_reaped() {
            // It may not be killed, or not be waited for like this.
            background::abandon(self.pid as i32, deadline);
        }
        let mut state = self.state();
        if matches!(*state, State::Unreaped) {
            *state = State::Lost;
        }
    }

    /// See [`Handle::is_exact`].
    pub(crate) fn is_exact(&self) -> bool {
        self.handle.is_exact()
    }

    /// See [`Handle::next_look`].
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.handle.next_look()
    }

    /// Whether there is nothing left to wait for.
    pub(crate) fn is_reaped(&self) -> bool {
        !matches!(*self.state(), State::Unreaped)
    }

    /// What a forked copy of this process has copies of. Without taking a lock or memory, which
    /// would be to write.
    pub(crate) fn each_descriptor(&mut self, visit: &mut dyn FnMut(RawFd)) {
        visit(self.handle.as_fd().as_raw_fd());
        let tie = self.tie.get_mut().unwrap_or_else(PoisonError::into_inner);
        tie.as_ref().map(AsRawFd::as_raw_fd).map(&mut *visit);
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
        self.release(Instant::now() + background::END_GRACE);
    }
}
