//! The handle of a running child.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::process::{self, ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::background::{self, END_GRACE, Unattended};
use crate::group::Group;
use crate::handle::Handle;
use crate::lifeline::Lifeline;
use crate::poll::{earliest, has_passed, pause, wait_readable};
use crate::stdio::Pipes;
use crate::{Usage, sys};

/// How often we ask whether a child has ended when it is about to end.
pub(crate) const END_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// A handle of a child, which is running or has ended.
///
/// All methods except [`Child::detach`] and [`Child::wait_with_output`] take `&self`, and can be
/// called from any thread at any time. They wait and signal by a pidfd (pidfd_open(2)), so they never
/// reach another process that got the child's number after the child's end.
///
/// **Dropping the handle kills the child and reaps it**, which takes as long as the kernel needs to
/// end a killed process. So the child never stays behind as a zombie, however the function that owns
/// the handle is left. The processes that the child has started live on. To kill those, too, set
/// [`Command::kill_group_with_child`](crate::Command::kill_group_with_child).
///
/// This process may lose the right to signal the child: it may have given up its privileges, the
/// child may have become another user by executing a set-user-id program, or a filter may forbid it.
/// Dropping then closes the child's lifeline, so that the kernel sends the signal of
/// [`Command::parent_death_signal`](crate::Command::parent_death_signal), and waits up to one second
/// for the end. A child that ends later is reaped in the background.
///
/// [`AsFd`] gives the pidfd. It becomes readable when the child has ended, whether or not the child
/// has been reaped, so poll(2) and the event loops built on it can wait for the end of many children.
///
/// An old kernel or a seccomp filter may refuse pidfds. All methods then use the child's number,
/// which no other process can get before this handle has reaped the child, and notice the end up to
/// 20 ms late. [`AsFd`] gives a pipe. The pipe ends when the child and every process that it has
/// forked without exec have ended, or when the child executes another program.
///
/// In a process that ignores `SIGCHLD`, the kernel discards statuses. Waiting still works, but
/// returns an error that says so.
///
/// ```
/// # fn main() -> std::process::ExitCode {
/// #     reexec::register("reader", || std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).map(drop));
/// #     reexec::init().unwrap_or_else(|| std::process::Termination::report(parent()))
/// # }
/// # fn parent() -> std::io::Result<()> {
/// use std::os::unix::process::ExitStatusExt;
/// use std::time::Duration;
///
/// // "reader" reads its stdin to the end.
/// let child = reexec::command("reader").stdin(reexec::Stdio::piped()).spawn()?;
/// assert_eq!(child.try_wait()?, None, "it runs");
/// let status = child.terminate(Duration::from_secs(5))?;
/// assert_eq!(status.signal(), Some(libc::SIGTERM));
///
/// let child = reexec::command("reader").stdin(reexec::Stdio::piped()).spawn()?;
/// drop(child); // kills and reaps it
/// # Ok(())
/// # }
/// ```
pub struct Child {
    pid: u32,
    handle: Handle,
    /// The name of its entry, for errors; empty if it was forked.
    pub(crate) entry: String,
    /// The process group that it leads, if it leads one.
    group: Group,
    /// The process that started the child. In a forked copy of that process, the child is a sibling,
    /// so dropping the copy of this handle must not kill it.
    parent: u32,
    state: Mutex<State>,
    pipes: Mutex<Pipes>,
    /// Closed with the handle, or by the kernel when this process ends.
    lifeline: Mutex<Option<Lifeline>>,
    /// See [`Command::stream_grace`](crate::Command::stream_grace).
    pub(crate) stream_grace: Duration,
    /// Set by the start, if a template has made the child.
    pub(crate) from_template: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Not reaped, so no other process has its number.
    Unreaped,
    Reaped(ExitStatus, Usage),
    /// Its status is unknown: other code has reaped it, or it was left to the background.
    Lost,
}

impl Child {
    /// Makes the handle of a process that was just started.
    pub(crate) fn new(
        pid: i32,
        handle: Handle,
        entry: &str,
        group: Group,
        lifeline: Option<Lifeline>,
        pipes: Pipes,
        stream_grace: Duration,
    ) -> Child {
        Child {
            pid: pid.unsigned_abs(),
            handle,
            entry: entry.to_owned(),
            group,
            parent: process::id(),
            state: Mutex::new(State::Unreaped),
            pipes: Mutex::new(pipes),
            lifeline: Mutex::new(lifeline),
            stream_grace,
            from_template: false,
        }
    }

    /// Returns the child's process id. Another process may get the number after the child has been
    /// reaped: to signal the child, use [`Child::signal`].
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Takes this process's end of the child's stdin. Returns `None` if it is no pipe, or was taken.
    pub fn take_stdin(&self) -> Option<ChildStdin> {
        self.pipes().stdin.take()
    }

    /// Takes this process's end of the child's stdout. Returns `None` if it is no pipe, or was taken.
    pub fn take_stdout(&self) -> Option<ChildStdout> {
        self.pipes().stdout.take()
    }

    /// Takes this process's end of the child's stderr. Returns `None` if it is no pipe, or was taken.
    pub fn take_stderr(&self) -> Option<ChildStderr> {
        self.pipes().stderr.take()
    }

    /// Waits until the child has ended, and reaps it. Later calls return the same status.
    ///
    /// First closes this process's end of the child's stdin, unless it was taken, as
    /// [`std::process::Child::wait`] does. Otherwise a child that reads its input to the end would
    /// wait for us while we wait for it.
    ///
    /// # Errors
    ///
    /// If the status is lost (see [`Child`]); the text says so.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        drop(self.take_stdin());
        // We wait without the lock, and without reaping. Otherwise:
        // 1. This thread waits, with the lock held.
        // 2. Another thread wants to kill the child, and waits for the lock, for ever.
        // The thread that gets the lock first after the child's end reaps it.
        loop {
            if !self.is_settled() {
                self.handle.await_end()?;
            }
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
        }
    }

    /// Waits as [`Child::wait`] does, at most for `timeout`. Returns `None` if the child still runs
    /// then. Leaves stdin open.
    ///
    /// The child runs on after that. To end it, drop the handle, or call [`Child::terminate`].
    ///
    /// # Errors
    ///
    /// Those of [`Child::wait`].
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// Waits until the deadline; with no deadline, for ever.
    pub(crate) fn wait_until(&self, deadline: Option<Instant>) -> io::Result<Option<ExitStatus>> {
        loop {
            let wakeup = earliest(deadline, self.next_poll());
            let [is_readable] = wait_readable([Some(self.as_fd())], wakeup)?;
            let status = self.try_wait()?;
            if status.is_some() || has_passed(deadline) {
                return Ok(status);
            }
            if is_readable {
                // A child without a pidfd has closed its pipe, and is about to end.
                pause(END_POLL_INTERVAL);
            }
        }
    }

    /// Reaps the child if it has ended, and returns its status; returns `None` if it is running.
    ///
    /// # Errors
    ///
    /// Those of [`Child::wait`].
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        let mut state = self.state();
        match *state {
            State::Reaped(status, _) => return Ok(Some(status)),
            State::Lost => return Err(self.lost_status_error()),
            State::Unreaped => {}
        }
        match self.handle.try_reap(self.group()) {
            Ok(None) => Ok(None),
            Ok(Some((status, usage))) => {
                *state = State::Reaped(status, usage);
                Ok(Some(status))
            }
            Err(error) if sys::is(&error, libc::ECHILD) => {
                // A forked copy is not the parent, and cannot know the child's state.
                if self.is_parent() {
                    *state = State::Lost;
                }
                Err(self.lost_status_error())
            }
            Err(error) => Err(error),
        }
    }

    /// Terminates the child and reaps it: sends `SIGTERM`, and kills the child if it has not ended
    /// within `grace`. If the child had ended before, returns the status that it had.
    ///
    /// `SIGTERM` ends an entry without a handler for it immediately. If this process may not signal
    /// the child, it closes the child's lifeline instead, so that the kernel sends that signal.
    ///
    /// # Errors
    ///
    /// Those of [`Child::wait`]; those of [`Child::kill`] if the child still runs then.
    pub fn terminate(&self, grace: Duration) -> io::Result<ExitStatus> {
        if self.signal(libc::SIGTERM).is_err() {
            self.cut_lifeline();
        }
        if let Some(status) = self.wait_timeout(grace)? {
            return Ok(status);
        }
        match self.kill() {
            Ok(()) => self.wait(),
            Err(refused) => self.wait_timeout(END_GRACE)?.ok_or(refused),
        }
    }

    /// Gives up the handle and lets the child run. It is reaped in the background when it ends.
    ///
    /// The child still ends with this process, unless
    /// [`Command::outlive_parent`](crate::Command::outlive_parent) was set. Nobody reads the pipes
    /// that were not taken, so the child blocks when they are full. To learn how children end, put
    /// them into a [`Reaper`](crate::Reaper) instead.
    ///
    /// One thread waits for all detached children, and ends with the last of them. Until then,
    /// [`fork`](crate::fork()) fails.
    ///
    /// # Errors
    ///
    /// `EAGAIN` if there is no room for that thread, `EMFILE` if there is none for its descriptor. The
    /// child is then killed and reaped.
    pub fn detach(self) -> io::Result<()> {
        drop(self.take_stdin()); // a child that reads its input to the end would never end
        background::detach(Box::new(self))
    }

    /// Returns the resources that the child has used; `None` until it has been reaped.
    pub fn usage(&self) -> Option<Usage> {
        match *self.state() {
            State::Reaped(_, usage) => Some(usage),
            State::Unreaped | State::Lost => None,
        }
    }

    /// Sends a signal, such as `libc::SIGTERM`, to the child. Does nothing if the child has ended.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such signal, or if libc keeps it for itself, as 32 and 33. `EPERM` if
    /// the child has become another user, or this process has, or in a forked copy of the process
    /// that started the child. The error of a seccomp filter that refuses pidfd_send_signal(2) and
    /// kill(2).
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.signal_by(signal, |handle, is_unreaped| match is_unreaped {
            true => match handle.signal(signal) {
                // The kernel or other code has reaped it, so it has ended.
                Err(error) if sys::is(&error, libc::ESRCH) => Ok(()),
                result => result,
            },
            false => Ok(()),
        })
    }

    /// Checks that the signal may be sent, and calls `send` with whether the child is unreaped. No
    /// other thread reaps it meanwhile.
    pub(crate) fn signal_by(
        &self,
        signal: i32,
        send: impl FnOnce(&Handle, bool) -> io::Result<()>,
    ) -> io::Result<()> {
        sys::check_signal(signal)?;
        if !self.is_parent() {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let state = self.state();
        send(&self.handle, matches!(*state, State::Unreaped))
    }

    /// Sends `SIGKILL` to the child, as [`std::process::Child::kill`] does. The child must still be
    /// waited for.
    ///
    /// If this process may not signal the child, it closes the child's lifeline, so that the kernel
    /// sends that signal instead. This still returns an error, because the signal was not `SIGKILL`.
    ///
    /// # Errors
    ///
    /// Those of [`Child::signal`].
    pub fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL).inspect_err(|_| self.cut_lifeline())
    }

    /// Closes the lifeline, so that the kernel sends the child its signal.
    ///
    /// A forked copy of this process only closes its copy of the lifeline, which has no effect.
    fn cut_lifeline(&self) {
        let mut lifeline = self.lifeline.lock().unwrap_or_else(PoisonError::into_inner);
        drop(lifeline.take());
    }

    /// Kills and reaps the child. If this process may not kill it, waits for its end until the
    /// deadline, and then leaves it to the background.
    pub(crate) fn kill_and_reap(&self, deadline: Instant) {
        if !self.is_parent() || self.is_settled() {
            return;
        }
        self.kill_group_if_asked();
        let reaped = self.kill().and_then(|()| self.wait());
        if reaped.is_err() && !self.is_settled() {
            // A filter forbids the kill, or the wait.
            background::abandon(self.pid as i32, self.group, deadline);
        }
        let mut state = self.state();
        if matches!(*state, State::Unreaped) {
            *state = State::Lost;
        }
    }

    /// Returns the group that the child leads. A forked copy of this process must not kill it.
    pub(crate) fn group(&self) -> Group {
        match self.is_parent() {
            true => self.group,
            false => Group::Shared,
        }
    }

    /// Kills the group of a child that is about to be killed or reaped, if the command asked for that.
    pub(crate) fn kill_group_if_asked(&self) {
        if self.group == Group::KilledWithChild {
            let kill = libc::SIGKILL;
            let _ = self.signal_by(kill, |handle, unreaped| handle.signal_group(kill, unreaped));
        }
    }

    /// See [`Handle::is_exact`].
    pub(crate) fn is_exact(&self) -> bool {
        self.handle.is_exact()
    }

    /// See [`Handle::next_poll`].
    pub(crate) fn next_poll(&self) -> Option<Instant> {
        self.handle.next_poll()
    }

    /// Whether nothing is left to wait for: the child has been reaped, or its status is lost.
    pub(crate) fn is_settled(&self) -> bool {
        !matches!(*self.state(), State::Unreaped)
    }

    /// Visits the descriptors of this handle, without taking a lock or memory: in a forked copy,
    /// those would write to shared pages.
    pub(crate) fn visit_descriptors(&mut self, visit: &mut dyn FnMut(RawFd)) {
        visit(self.handle.as_fd().as_raw_fd());
        let lifeline = self.lifeline.get_mut();
        let lifeline = lifeline.unwrap_or_else(PoisonError::into_inner);
        lifeline.as_ref().map(AsRawFd::as_raw_fd).map(&mut *visit);
        let pipes = self.pipes.get_mut().unwrap_or_else(PoisonError::into_inner);
        pipes.descriptors().for_each(visit);
    }

    /// Records how the child has ended, after a wait for any child has reaped it.
    pub(crate) fn set_reaped(&self, status: ExitStatus, usage: Usage) {
        *self.state() = State::Reaped(status, usage);
    }

    pub(crate) fn is_parent(&self) -> bool {
        self.parent == process::id()
    }

    fn lost_status_error(&self) -> io::Error {
        let message = if self.is_parent() {
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

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("entry", &self.entry)
            .field("id", &self.pid)
            .field("state", &*self.state())
            .finish_non_exhaustive()
    }
}

impl Unattended for Child {
    fn reap_if_ended(&self) -> bool {
        let _ = self.try_wait();
        self.is_settled()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn next_poll(&self) -> Option<Instant> {
        self.handle.next_poll()
    }
}

impl AsFd for Child {
    /// Returns the pidfd; see [`Child`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl AsRawFd for Child {
    /// Returns the pidfd; see [`Child`].
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill_and_reap(Instant::now() + END_GRACE);
    }
}
