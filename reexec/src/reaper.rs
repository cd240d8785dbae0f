//! Waits for many children at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::process::{self, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::background::END_GRACE;
use crate::child::END_POLL_INTERVAL;
use crate::poll::{earliest, has_passed, pause, poll_timeout};
use crate::{Child, Usage, sys};

/// The key of the signalfd, among the keys of children.
const SIGCHLD_KEY: u64 = u64::MAX;

/// Waits for many children, and reports the end of each once. The caller gives each child a token of
/// type `T`, such as the index of a slot, and gets the token back with the child's end.
///
/// A reaper watches the pidfds of *its* children. It costs nothing while they run, it needs no
/// signals, which merge, and it leaves other children of the process alone.
///
/// It takes only a [`Child`]. To wait for a [`Job`](crate::Job) or a `Call`, poll the descriptor that its
/// [`AsFd`] gives.
///
/// [`AsFd`] gives a descriptor that is readable when a child has ended, for a poll loop of your own.
/// Dropping the reaper kills and reaps the children that are left in it.
///
/// ```
/// # fn main() -> std::process::ExitCode {
/// #     reexec::register("worker", || ());
/// #     reexec::init().unwrap_or_else(|| std::process::Termination::report(parent()))
/// # }
/// # fn parent() -> std::io::Result<()> {
/// let mut reaper = reexec::Reaper::new()?;
/// for slot in 0..4 {
///     reaper.add(reexec::command("worker").spawn()?, slot)?;
/// }
/// let mut ended = Vec::new();
/// while !reaper.is_empty() {
///     for exit in reaper.wait(None)? {
///         assert!(exit.status?.success());
///         ended.extend(exit.token);
///     }
/// }
/// ended.sort();
/// assert_eq!(ended, [0, 1, 2, 3]);
/// # Ok(())
/// # }
/// ```
pub struct Reaper<T> {
    epoll: Epoll,
    /// Boxed, so that a change of the map writes to little memory: in a process that forks, the kernel
    /// copies each page that is written to.
    children: BTreeMap<u64, Box<(Child, T)>>,
    /// The keys of the children without a pidfd.
    inexact: BTreeSet<u64>,
    next_key: u64,
    /// The process that made this reaper. A forked copy of it has a copy that must not be used.
    process: u32,
    /// Tells of the ends of children that are not in this reaper, and so have no pidfd. Only with
    /// [`Reaper::for_all_children`].
    sigchld: Option<SignalFd>,
}

/// Reports the end of one process.
#[derive(Debug)]
#[non_exhaustive]
pub struct Exit<T> {
    /// The token that was given to [`Reaper::add`]; `None` for a child that was not added, which only
    /// [`Reaper::for_all_children`] reports.
    pub token: Option<T>,
    /// The process id. Another process may get it from now on.
    pub id: u32,
    /// The exit status; an error if it is lost, see [`Child::wait`].
    pub status: io::Result<ExitStatus>,
    /// The resources that the child has used; zero if the status is lost.
    pub usage: Usage,
}

impl<T> Reaper<T> {
    /// Makes a reaper of the children that are added to it.
    ///
    /// # Errors
    ///
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            children: BTreeMap::new(),
            inexact: BTreeSet::new(),
            next_key: 0,
            process: process::id(),
            sigchld: None,
        })
    }

    /// Makes a reaper of all children that this process has or adopts. Process 1 of a container needs
    /// one.
    ///
    /// Process 1 adopts all orphans. Any other process becomes a child subreaper
    /// (`PR_SET_CHILD_SUBREAPER` in prctl(2)), and adopts the orphans among its descendants.
    ///
    /// Call this before other threads are started: it blocks `SIGCHLD` in the calling thread, and
    /// threads inherit that. Dropping the reaper undoes neither that nor the adopting.
    ///
    /// No other code in the process may wait for children, because this reaper would take their
    /// statuses. So spawn and wait in one thread, add every [`Child`] before the next wait, and use
    /// neither [`Command::status`] nor `output`, `call` or [`std::process::Command`].
    ///
    /// [`Command::status`]: crate::Command::status
    ///
    /// # Errors
    ///
    /// Those of [`Reaper::new`].
    pub fn for_all_children() -> io::Result<Self> {
        let mut reaper = Self::new()?;
        if process::id() != 1 {
            prctl::set_child_subreaper(true)?;
        }
        let signals = SigSet::from_iter([Signal::SIGCHLD]);
        signals.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let arrivals = SignalFd::with_flags(&signals, flags)?;
        reaper.epoll.add(&arrivals, EpollEvent::new(EpollFlags::EPOLLIN, SIGCHLD_KEY))?;
        reaper.sigchld = Some(arrivals);
        Ok(reaper)
    }

    /// Adds a child. After an error the child is killed and reaped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`: see epoll_ctl(2). [`io::ErrorKind::Unsupported`] in a forked copy.
    pub fn add(&mut self, child: Child, token: T) -> io::Result<()> {
        self.check_process()?;
        let key = self.next_key;
        self.epoll.add(&child, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        self.next_key += 1;
        if !child.is_exact() {
            self.inexact.insert(key);
        }
        self.children.insert(key, Box::new((child, token)));
        Ok(())
    }

    /// Returns the number of children whose ends have not been reported.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether no child is left to wait for.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// Returns the children that are in it with their tokens, for instance to signal them.
    pub fn iter(&self) -> impl Iterator<Item = (&Child, &T)> {
        self.children.values().map(|entry| (&entry.0, &entry.1))
    }

    /// Waits until a child has ended, and reaps the children that have ended: up to 64, or all of them
    /// with [`Reaper::for_all_children`].
    ///
    /// One call may report several ends. So do not call it once for each child, but until
    /// [`Reaper::is_empty`] returns true: with `None`, it waits for ever if there is no child left.
    ///
    /// Returns an empty vector when `timeout` has passed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. [`io::ErrorKind::Unsupported`] in a forked copy of the process that made it.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<Exit<T>>> {
        self.check_process()?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            // Before we wait: a child may have ended before SIGCHLD was blocked.
            let mut exits = self.reap_all()?;
            let timeout = if exits.is_empty() {
                poll_timeout(earliest(deadline, self.next_poll()))
            } else {
                EpollTimeout::ZERO
            };
            let mut events = [EpollEvent::empty(); 64];
            let count = sys::retry_on_interrupt(|| Ok(self.epoll.wait(&mut events, timeout)?))?;
            for event in &events[..count] {
                if event.data() == SIGCHLD_KEY {
                    self.discard_signals()?;
                } else {
                    exits.extend(self.reap(event.data()));
                }
            }
            exits.extend(self.reap_inexact());
            exits.extend(self.reap_all()?);
            if !exits.is_empty() || has_passed(deadline) {
                return Ok(exits);
            }
            if count > 0 {
                // A child without a pidfd is about to end, or has executed another program; or the
                // signal was about a child that has been reaped. Neither is worth a busy loop.
                pause(END_POLL_INTERVAL);
            }
        }
    }

    /// Fails in a forked copy of the process. The copy shares the kernel's list of watched descriptors
    /// with its parent, and would remove entries from it.
    fn check_process(&self) -> io::Result<()> {
        if self.process == process::id() {
            return Ok(());
        }
        let message = format!("this reaper belongs to process {}", self.process);
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    /// Reaps the child with this key, if it is still here and has really ended.
    fn reap(&mut self, key: u64) -> Option<Exit<T>> {
        let child = &self.children.get(&key)?.0;
        let status = child.try_wait().transpose()?;
        self.remove(key, status)
    }

    /// Returns when to ask again whether the children without a pidfd have ended.
    fn next_poll(&self) -> Option<Instant> {
        let key = self.inexact.first()?;
        self.children.get(key)?.0.next_poll()
    }

    /// Reaps the children without a pidfd that have ended.
    fn reap_inexact(&mut self) -> Vec<Exit<T>> {
        let keys: Vec<_> = self.inexact.iter().copied().collect();
        keys.into_iter().filter_map(|key| self.reap(key)).collect()
    }

    /// Removes a child that has ended.
    fn remove(&mut self, key: u64, status: io::Result<ExitStatus>) -> Option<Exit<T>> {
        let (child, token) = *self.children.remove(&key)?;
        self.inexact.remove(&key);
        // Closing our pidfd is not enough: a forked copy of this process may keep its copy open, and
        // the kernel would report the entry for ever. Nothing can be done if this fails.
        let _ = self.epoll.delete(&child);
        let usage = child.usage().unwrap_or_default();
        Some(Exit { token: Some(token), id: child.id(), status, usage })
    }

    /// With [`Reaper::for_all_children`], reaps all children that have ended; otherwise none.
    fn reap_all(&mut self) -> io::Result<Vec<Exit<T>>> {
        let mut exits = Vec::new();
        while self.sigchld.is_some() {
            let kill_group_of = |pid: i32| {
                let mut children = self.iter();
                let child = children.find(|(child, _)| child.id() == pid.unsigned_abs());
                child.inspect(|(child, _)| child.kill_group_if_asked());
            };
            let end = match sys::try_reap_any(kill_group_of) {
                Ok(Some(end)) => end,
                Err(error) if !sys::is(&error, libc::ECHILD) => return Err(error),
                Ok(None) | Err(_) => break,
            };
            let id = end.pid.unsigned_abs();
            let found = self.children.iter().find(|(_, entry)| entry.0.id() == id);
            let exit = match found.map(|(key, entry)| (*key, &entry.0)) {
                Some((key, child)) => {
                    child.set_reaped(end.status, end.usage);
                    self.remove(key, Ok(end.status))
                }
                None => Some(Exit { token: None, id, status: Ok(end.status), usage: end.usage }),
            };
            exits.extend(exit);
        }
        Ok(exits)
    }

    /// Discards the signals that have come. Signals merge, so their number tells nothing.
    fn discard_signals(&self) -> io::Result<()> {
        while let Some(sigchld) = &self.sigchld
            && sigchld.read_signal()?.is_some()
        {}
        Ok(())
    }
}

impl<T: fmt::Debug> fmt::Debug for Reaper<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let children: Vec<_> = self.iter().collect();
        f.debug_struct("Reaper").field("children", &children).finish_non_exhaustive()
    }
}

impl<T> AsFd for Reaper<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl<T> AsRawFd for Reaper<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<T> Drop for Reaper<T> {
    fn drop(&mut self) {
        // A forked worker of a server has copies of the handles of all its siblings. To drop a
        // thousand of them takes time. But tokens with destructors must be dropped.
        if self.process != sys::own_id() && !mem::needs_drop::<T>() {
            sys::close_and_forget(mem::take(&mut self.children), |children, visit| {
                for entry in children.values_mut() {
                    entry.0.visit_descriptors(visit);
                }
            });
            return;
        }
        // We kill all before we wait for the first, so that they end at the same time.
        for (child, _) in self.iter() {
            let _ = child.kill();
        }
        let deadline = Instant::now() + END_GRACE;
        for (child, _) in self.iter() {
            child.kill_and_reap(deadline);
        }
    }
}
