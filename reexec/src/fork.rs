//! fork(2) as a safe function, for servers that are built on it.

use std::io::{self, Write};
use std::process;
use std::time::{Duration, Instant};

use crate::background::{self, END_GRACE};
use crate::group::Group;
use crate::handle::{Handle, PendingHandle};
use crate::stdio::Pipes;
use crate::sys::{ForkSpec, Forked};
use crate::{Child, EXIT_SETUP_FAILED, inherited, lifeline, sys, threads};

/// Configures a [`fork`]: a process group of its own, ignored signals, and handlers of libraries.
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
    spec: ForkSpec,
    run_atfork_handlers: bool,
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
        self.spec.new_group = true;
        self
    }

    /// Makes the copy ignore this signal from its first instant on. A program that the copy executes
    /// ignores the signal, too. A child that the copy starts with [`fork`] or
    /// [`command`](crate::command) does not.
    pub fn ignore_signal(&mut self, signal: i32) -> &mut Self {
        self.spec.ignored.push(signal);
        self
    }

    /// Makes the copy also ignore what this process ignores, as after fork(2). Otherwise the copy resets
    /// each signal, which takes sixty system calls, because none tells about all signals.
    ///
    /// This is for a server that knows what it ignores, for instance after
    /// [`start_clean`](crate::start_clean).
    pub fn keep_ignored_signals(&mut self) -> &mut Self {
        self.spec.keep_ignored = true;
        self
    }

    /// Runs the handlers that libraries have registered by pthread_atfork(3), as libc's fork(3) does.
    /// The fork then takes longer. See [`fork`](crate::fork()#handlers-of-libraries) for when that is
    /// necessary.
    pub fn run_atfork_handlers(&mut self) -> &mut Self {
        self.run_atfork_handlers = true;
        self
    }

    /// Forks as [`fork`] does, with these options.
    ///
    /// # Errors
    ///
    /// Those of [`fork`]; [`io::ErrorKind::InvalidInput`] for a signal that cannot be ignored, as with
    /// [`signal::ignore`](crate::signal::ignore). Nothing has been forked then.
    pub fn fork(&self) -> io::Result<Fork> {
        for signal in &self.spec.ignored {
            sys::check_ignorable(*signal).map_err(|_| {
                let message = format!("ignore_signal: signal {signal} cannot be ignored");
                io::Error::new(io::ErrorKind::InvalidInput, message)
            })?;
        }
        threads::require_one(
            "only the calling one would exist in a forked copy; use reexec::command",
        )?;
        // Otherwise each of the processes would write it.
        io::stdout().flush()?;
        background::reap_abandoned();
        let parent = process::id();
        match self.make_copy()? {
            Forked::Parent((pid, handle)) => {
                let (entry, lifeline, pipes) = ("", None, Pipes::default());
                let grace = Duration::ZERO;
                let group = self.group();
                Ok(Fork::Parent(Child::new(pid, handle, entry, group, lifeline, pipes, grace)))
            }
            Forked::Child(set_up) => {
                // We must not return an error: the caller would believe to be the parent, and both
                // processes would continue as the parent.
                if set_up.and_then(|()| lifeline::kill_with(parent)).is_err() {
                    sys::exit_now(EXIT_SETUP_FAILED);
                }
                Ok(Fork::Child)
            }
        }
    }

    /// Makes the copy and, in the parent, its handle.
    fn make_copy(&self) -> io::Result<Forked<(i32, Handle)>> {
        if !self.run_atfork_handlers
            && let Some(forked) = sys::fork_with_pidfd(&self.spec)?
        {
            return Ok(forked.map(|(pid, pidfd)| (pid, Handle::of_pidfd(pid, pidfd))));
        }
        // The pending handle keeps room for the pidfd. Otherwise:
        // 1. The table of descriptors is full.
        // 2. The new process runs, and reads a request from a shared socket.
        // 3. We get no pidfd, kill the process, and report an error. The request is lost.
        let (pending, child_end) = PendingHandle::new()?;
        match sys::fork(&self.spec)? {
            Forked::Parent(pid) => {
                drop(child_end);
                let abandon =
                    |_: &_| background::abandon(pid, self.group(), Instant::now() + END_GRACE);
                let handle = pending.into_handle(pid).inspect_err(abandon)?;
                Ok(Forked::Parent((pid, handle)))
            }
            Forked::Child(set_up) => {
                child_end.into_iter().for_each(inherited::leave_open);
                Ok(Forked::Child(set_up))
            }
        }
    }

    fn group(&self) -> Group {
        match self.spec.new_group {
            true => Group::Led,
            false => Group::Shared,
        }
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

/// Forks this process: both processes continue from here, each with its copy of all memory and
/// descriptors. The process must have one thread.
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
/// handles does nothing. [`ForkOptions`] change some of this. A copy in another PID namespace than its
/// parent's cannot notice that the parent has ended before the copy's first steps, and lives on then.
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
/// # Handlers of libraries
///
/// Handlers of pthread_atfork(3) do not run, and nobody can find out whether there are any. Most of them
/// take locks, which no other thread holds here. But some generators of random numbers, such as that of
/// `rand` 0.8, notice by a handler that they are in a copy: without it, each copy gets the same numbers.
/// If your program has such a library, call [`ForkOptions::run_atfork_handlers`].
///
/// The copy is made by clone3(2), together with its pidfd. On an old kernel, with musl, or if a filter
/// refuses that, it is made by libc's fork(3). The copy is the same then, but handlers do run.
///
/// # Errors
///
/// - [`io::ErrorKind::Unsupported`] if the process has several threads. The copy would have only the
///   calling thread, and the locks of the others would stay locked in it.
/// - `EAGAIN` and `ENOMEM` if the system has no room for another process, `EMFILE` and `ENFILE` if
///   there is none for its pidfd. No process has run then.
/// - The errors of flushing stdout.
///
/// A filter may refuse prctl(2) or sigaction(2), so that the copy cannot arrange to be killed with
/// its parent, or to ignore a signal. The copy then exits with
/// [`EXIT_SETUP_FAILED`](crate::EXIT_SETUP_FAILED).
pub fn fork() -> io::Result<Fork> {
    ForkOptions::new().fork()
}

/// Ends this process at once, by _exit(2): for a process that [`fork`] has made.
///
/// It runs no destructor and no exit handler, and flushes no buffer: those are copies of the
/// parent's, and the parent runs its own. So first flush what *this* process has written.
pub fn exit_now(code: u8) -> ! {
    sys::exit_now(code)
}
