//! fork(2) as a safe function, for servers that are built on it.

use std::io::{self, Write};
use std::process;
use std::time::{Duration, Instant};

use crate::background::{self, END_GRACE};
use crate::group::Group;
use crate::handle::PendingHandle;
use crate::stdio::Pipes;
use crate::{Child, EXIT_SETUP_FAILED, inherited, lifeline, sys, threads};

/// Configures a [`fork`]: a process group of its own, and ignored signals.
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ForkOptions {
    new_group: bool,
    ignored: Vec<i32>,
}

impl ForkOptions {
    /// Makes the options that [`fork`] has.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the copy into a process group of its own from its first instant on. A signal to the
    /// parent's group, such as Ctrl-C in a terminal, never reaches the copy, even if it comes while the
    /// copy is being made.
    pub fn new_process_group(&mut self) -> &mut Self {
        self.new_group = true;
        self
    }

    /// Makes the copy ignore this signal from its first instant on. A program that the copy executes
    /// ignores the signal, too. A child that the copy starts with [`fork`] or
    /// [`command`](crate::command) does not.
    pub fn ignore_signal(&mut self, signal: i32) -> &mut Self {
        self.ignored.push(signal);
        self
    }

    /// Forks as [`fork`] does, with these options.
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
        fork_with(self.new_group, &self.ignored)
    }
}

/// The process we are in after [`fork`]. There are two, so a `match` has two arms, also in later versions.
#[derive(Debug)]
pub enum Fork {
    /// The process that called `fork`. Dropping the handle kills and reaps the new process.
    Parent(Child),
    /// The new process.
    Child,
}

/// Forks this process by fork(2): both processes continue from here, each with its copy of all
/// memory and descriptors. The process must have one thread.
///
/// ```
/// use reexec::{Fork, exit_now, fork};
///
/// # fn main() -> std::io::Result<()> {
/// let greeting = String::from("a copy of this");
/// match fork()? {
///     Fork::Child => exit_now(greeting.len() as u8),
///     Fork::Parent(child) => assert_eq!(child.wait()?.code(), Some(14)),
/// }
/// # Ok(())
/// # }
/// ```
///
/// The new process has an empty signal mask and none of its parent's handlers, ignores only
/// `SIGPIPE`, and is killed when its parent ends. Dropping its copies of the parent's [`Child`]
/// handles does nothing. [`ForkOptions`] change some of this.
///
/// # What the new process must do
///
/// - Close the descriptors that it does not need. It has a copy of *every* descriptor, close-on-exec
///   or not. As long as it holds a connection or a pipe open, the other side sees no end of file.
/// - End itself, best by [`exit_now`]. It must not continue with the parent's work, nor run the
///   parent's destructors and exit handlers.
/// - Not write out the parent's buffers. This function flushes [`io::stdout`]; the caller must flush
///   other writers.
///
/// The time for a fork grows with the memory of the parent, because the page tables are copied. A
/// [`command`](crate::command) takes constant time, and works with any number of threads.
///
/// # Errors
///
/// - [`io::ErrorKind::Unsupported`] if the process has several threads. The copy would have only the
///   calling thread, and the locks of the others would stay locked in it.
/// - `EAGAIN` and `ENOMEM` if the system has no room for another process.
/// - The errors of flushing stdout.
///
/// A filter may refuse prctl(2) or sigaction(2), so that the copy cannot arrange to be killed with
/// its parent, or to ignore a signal. The copy then exits with
/// [`EXIT_SETUP_FAILED`](crate::EXIT_SETUP_FAILED).
pub fn fork() -> io::Result<Fork> {
    fork_with(false, &[])
}

fn fork_with(new_group: bool, ignored: &[i32]) -> io::Result<Fork> {
    threads::require_one("only the calling one would exist in a forked copy; use reexec::command")?;
    // Otherwise each of the processes would write it.
    io::stdout().flush()?;
    let parent = process::id();
    background::reap_abandoned();
    // The pending handle keeps room for the pidfd. Otherwise:
    // 1. The table of descriptors is full.
    // 2. The new process runs, and reads a request from a shared socket.
    // 3. We get no pidfd, kill the process, and report an error. The request is lost.
    let (pending, child_end) = PendingHandle::new()?;
    match sys::fork(new_group, ignored)? {
        sys::Forked::Parent(pid) => {
            drop(child_end);
            let handle = pending.into_handle(pid);
            let group = if new_group { Group::Led } else { Group::Shared };
            let handle = handle
                .inspect_err(|_| background::abandon(pid, group, Instant::now() + END_GRACE))?;
            let (entry, lifeline, pipes) = ("", None, Pipes::default());
            Ok(Fork::Parent(Child::new(pid, handle, entry, group, lifeline, pipes, Duration::ZERO)))
        }
        sys::Forked::Child(dispositions) => {
            // We must not return an error: the caller would believe to be the parent, and both
            // processes would continue as the parent.
            let ready = dispositions.and_then(|()| lifeline::kill_with(parent));
            if ready.is_err() {
                sys::exit_now(EXIT_SETUP_FAILED);
            }
            child_end.into_iter().for_each(inherited::leave_open);
            Ok(Fork::Child)
        }
    }
}

/// Ends this process at once, by _exit(2): for a process that [`fork`] has made.
///
/// It runs no destructor and no exit handler, and flushes no buffer: those are copies of the
/// parent's, and the parent runs its own. So first flush what *this* process has written.
pub fn exit_now(code: u8) -> ! {
    sys::exit_now(code)
}
