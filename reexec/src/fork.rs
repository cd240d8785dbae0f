//! `fork` itself, for servers that are built on it.

use std::io::{self, Write};
use std::process;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use crate::background::{self, END_GRACE};
use crate::handle::PendingHandle;
use crate::layout::Pipes;
use crate::{Child, EXIT_SETUP_FAILED, descriptors, sys, threads};

/// A builder for a [`fork`] into a process group of its own, or with ignored signals.
///
/// ```
/// use reexec::{Fork, ForkOptions, exit_now};
///
/// # fn main() -> std::io::Result<()> {
/// let mut options = ForkOptions::new();
/// options.new_process_group().ignore_signal(libc::SIGTERM);
/// match options.fork()? {
///     Fork::Child => exit_now(7),
///     Fork::Parent(worker) => {
///         worker.signal(libc::SIGTERM)?; // does nothing, however early it comes
///         assert_eq!(worker.wait()?.code(), Some(7));
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ForkOptions {
    new_group: bool,
    ignored: Vec<i32>,
}

impl ForkOptions {
    /// The options of [`fork`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the copy into a process group of its own from the first instant on: a signal to the
    /// parent's group, such as Ctrl-C in a terminal, is the parent's to act on, also if it comes while
    /// the copy is being made.
    pub fn new_process_group(&mut self) -> &mut Self {
        self.new_group = true;
        self
    }

    /// Makes the copy ignore this signal from the first instant on. A program that the copy executes
    /// ignores it, too. A child that the copy starts with [`fork`] or [`command`](crate::command) does
    /// not.
    pub fn ignore_signal(&mut self, signal: i32) -> &mut Self {
        self.ignored.push(signal);
        self
    }

    /// Does what [`fork`] does, with these options.
    ///
    /// # Errors
    ///
    /// Those of [`fork`]; [`io::ErrorKind::InvalidInput`] for a signal that cannot be ignored, as with
    /// [`signal::ignore`](crate::signal::ignore). Nothing has been forked then.
    pub fn fork(&self) -> io::Result<Fork> {
        for signal in &self.ignored {
            sys::check_ignorable(*signal).map_err(|_| {
                let message = format!("ignore_signal: signal {signal} cannot be ignored");
                io::Error::new(io::ErrorKind::InvalidInput, message)
            })?;
        }
        split(self.new_group, &self.ignored)
    }
}

/// Which process we are in after [`fork`].
#[derive(Debug)]
pub enum Fork {
    /// The one that called; the handle kills and reaps the new process when it is dropped.
    Parent(Child),
    /// The new one.
    Child,
}

/// Splits this process in two that go on from here, each with its copy of everything, by
/// `fork(2)`. Only for a process with one thread.
///
/// The new process has an empty signal mask and none of its parent's handlers, ignores nothing but
/// `SIGPIPE`, and is killed when its parent ends. Its copies of the parent's [`Child`] handles do
/// nothing when dropped. [`ForkOptions`] change some of this.
///
/// # What the new process has to do
///
/// - Close what it does not need: it has a copy of *every* descriptor, close-on-exec or not. As
///   long as it holds a connection or a pipe open, nobody sees the end of it.
/// - Come to its end by itself, best by [`exit_now`]: it must not run on into what the parent is
///   doing, nor run what the parent has registered for its own end.
/// - Not write out what its parent had buffered. This function flushes [`io::stdout`]; other
///   writers are the caller's to flush.
///
/// The time it takes grows with the memory of the parent, whose page tables are copied. A
/// [`command`](crate::command) has neither that nor the restriction to one thread.
///
/// # Errors
///
/// [`io::ErrorKind::Unsupported`] if the process has several threads: in the copy, only the
/// calling one would be left, and what the others had locked would stay locked. `EAGAIN` and
/// `ENOMEM` if the system has no room for another process. Those of flushing stdout. A copy that cannot
/// be tied to its parent, or cannot ignore a signal, because a filter refuses prctl(2) or sigaction(2),
/// exits with [`EXIT_SETUP_FAILED`](crate::EXIT_SETUP_FAILED).
pub fn fork() -> io::Result<Fork> {
    split(false, &[])
}

fn split(new_group: bool, ignored: &[i32]) -> io::Result<Fork> {
    threads::refuse("only the calling one would exist in a forked copy; use reexec::command")?;
    // Written once by each process otherwise.
    io::stdout().flush()?;
    let parent = process::id();
    background::reap_abandoned();
    // 1. The table of descriptors is full.
    // 2. The new process runs, and reads what is meant for one like it.
    // 3. We get no pidfd, kill it, and report that there is none.
    // What it has read would be lost. So a pending handle keeps room for the pidfd.
    let (pending, childs) = PendingHandle::new()?;
    match sys::fork(new_group, ignored)? {
        sys::Forked::Parent(pid) => {
            drop(childs);
            let handle = pending.into_handle(pid);
            let handle =
                handle.inspect_err(|_| background::abandon(pid, Instant::now() + END_GRACE))?;
            let (tie, pipes) = (None, Pipes::default());
            Ok(Fork::Parent(Child::new(
                pid,
                handle,
                tie,
                pipes,
                Duration::ZERO,
            )))
        }
        sys::Forked::Child(dispositions) => {
            // An error must not go up from here: the caller would take it for the parent's, and
            // two processes would go on as the parent.
            if dispositions.and_then(|()| die_with(parent)).is_err() {
                sys::exit_now(EXIT_SETUP_FAILED);
            }
            childs.into_iter().for_each(descriptors::keep_open);
            Ok(Fork::Child)
        }
    }
}

/// Ends this process at once, as `_exit(2)`: for one that has come out of [`fork`]. Nothing is
/// dropped, flushed or called that its copy of the parent would drop, flush or call at its end; it
/// is the parent who does that. So write out first what *this* process has buffered.
pub fn exit_now(code: u8) -> ! {
    sys::exit_now(code)
}

/// Ends this process when its parent ends. The parent-death signal is about the parent's *thread*;
/// it has one, so here the two are the same.
fn die_with(parent: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // If the parent ended before that call, the signal will never come: whose child are we now?
    if getppid().as_raw().unsigned_abs() != parent {
        sys::signal_self(libc::SIGKILL)?;
    }
    Ok(())
}
