//! Waiting for many children at once.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::child::ABOUT_TO_END;
use crate::readiness::{earliest, pause, time_left};
use crate::{Child, Usage, sys};

/// What stands for SIGCHLD among the keys of children.
const SIGCHLD_KEY: u64 = u64::MAX;

/// Takes over children, and tells of the end of each, once, to whoever put it in: `T` is what the
/// owner knows it by, such as the index of a slot.
///
/// It watches the pidfds of *its* children. So it costs nothing while they run, however many they
/// are; no signal takes part, and signals that merge are no concern; children of others are left
/// alone.
///
/// [`AsFd`] gives a descriptor that is readable when there is something to wait for, for a poll
/// loop of your own. Dropped, it kills and reaps what is left in it.
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// let mut reaper = reexec::Reaper::new()?;
/// for slot in 0..4 {
///     reaper.add(reexec::command("worker").spawn()?, slot)?;
/// }
/// while !reaper.is_empty() {
///     for exit in reaper.wait(None)? {
///         // `exit.owner` is the slot
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Reaper<T> {
    epoll: Epoll,
    children: BTreeMap<u64, (Child, T)>,
    /// The keys of those without a pidfd.
    inexact: BTreeSet<u64>,
    next_key: u64,
    /// The process that made it; what a forked copy has is a copy.
    owner: u32,
    /// Only where strangers are to be reaped: they have no pidfd, so this has to tell of them.
    strangers: Option<SignalFd>,
}

/// The end of one process.
#[derive(Debug)]
#[non_exhaustive]
pub struct Exit<T> {
    /// What its owner knows it by; `None` for a stranger, which only a
    /// [`Reaper::for_everybody`] meets.
    pub owner: Option<T>,
    /// Its number, which may be another's from now on.
    pub id: u32,
    /// How it has ended; an error if the status is lost, see [`Child::wait`].
    pub status: io::Result<ExitStatus>,
    /// What it has used; zero if the status is lost.
    pub usage: Usage,
}

impl<T> Reaper<T> {
    /// A reaper of its own children.
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
            owner: process::id(),
            strangers: None,
        })
    }

    /// A reaper of every child that this process has or adopts, for process 1 of a container; any
    /// other process becomes a child subreaper (`PR_SET_CHILD_SUBREAPER` in prctl(2)), and so
    /// adopts what its descendants leave behind.
    ///
    /// To be called before other threads are started, for it blocks `SIGCHLD` in the calling
    /// thread, and theirs inherit that; dropping it undoes neither this nor the adopting.
    ///
    /// Nobody else in the process may wait for children then. So spawn and wait in one thread, and
    /// put in every [`Child`] before the next wait; do without [`Command::status`], with `output`,
    /// and without [`std::process::Command`]: their children would be taken from them.
    ///
    /// [`Command::status`]: crate::Command::status
    ///
    /// # Errors
    ///
    /// Those of [`Reaper::new`].
    pub fn for_everybody() -> io::Result<Self> {
        let mut reaper = Self::new()?;
        if process::id() != 1 {
            prctl::set_child_subreaper(true)?;
        }
        let signals = SigSet::from_iter([Signal::SIGCHLD]);
        signals.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let arrivals = SignalFd::with_flags(&signals, flags)?;
        reaper
            .epoll
            .add(&arrivals, EpollEvent::new(EpollFlags::EPOLLIN, SIGCHLD_KEY))?;
        reaper.strangers = Some(arrivals);
        Ok(reaper)
    }

    /// Takes over a child. If that fails, the child is killed and reaped.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC`: see epoll_ctl(2). [`io::ErrorKind::Unsupported`] in a forked copy.
    pub fn add(&mut self, child: Child, owner: T) -> io::Result<()> {
        self.refuse_copies()?;
        let key = self.next_key;
        self.epoll
            .add(&child, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        self.next_key += 1;
        if !child.is_exact() {
            self.inexact.insert(key);
        }
        self.children.insert(key, (child, owner));
        Ok(())
    }

    /// How many children are in it that have not been told of.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether there is nothing left to wait for.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// The children in it, to be signalled for instance.
    pub fn iter(&self) -> impl Iterator<Item = (&Child, &T)> {
        self.children.values().map(|(child, owner)| (child, owner))
    }

    /// Waits until a child has ended, and reaps those that have: up to 64 of them, or, with
    /// [`Reaper::for_everybody`], all. Empty when `timeout` has passed; `None` waits for ever, also
    /// if there is no child.
    ///
    /// # Errors
    ///
    /// `ENOMEM`. [`io::ErrorKind::Unsupported`] in a forked copy of the process that made it.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<Exit<T>>> {
        self.refuse_copies()?;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            // First: a stranger may have ended before SIGCHLD was blocked.
            let mut exits = self.reap_everybody()?;
            let patience = if exits.is_empty() {
                time_left(earliest(deadline, self.next_look()))
            } else {
                EpollTimeout::ZERO
            };
            let mut events = [EpollEvent::empty(); 64];
            let count = sys::retry(|| Ok(self.epoll.wait(&mut events, patience)?))?;
            for event in &events[..count] {
                if event.data() == SIGCHLD_KEY {
                    self.drain_signals()?;
                } else {
                    exits.extend(self.reap(event.data()));
                }
            }
            exits.extend(self.reap_inexact());
            exits.extend(self.reap_everybody()?);
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if !exits.is_empty() || is_late {
                return Ok(exits);
            }
            if count > 0 {
                // Without pidfds: one is about to end, or has executed another program; or else this
                // was a stranger's signal. Not worth a busy loop.
                pause(ABOUT_TO_END);
            }
        }
    }

    /// The kernel's list of what we watch is shared with a forked copy, which would take out of it
    /// what it finds.
    fn refuse_copies(&self) -> io::Result<()> {
        if self.owner == process::id() {
            return Ok(());
        }
        let message = format!("this reaper belongs to process {}", self.owner);
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    /// The child under this key, if it has not been told of and has really ended.
    fn reap(&mut self, key: u64) -> Option<Exit<T>> {
        let (child, _) = self.children.get(&key)?;
        let status = child.try_wait().transpose()?;
        self.take(key, status)
    }

    /// When to look at children whose descriptor may be late in telling of their end.
    fn next_look(&self) -> Option<Instant> {
        let key = self.inexact.first()?;
        self.children.get(key)?.0.next_look()
    }

    /// Those of them that have ended.
    fn reap_inexact(&mut self) -> Vec<Exit<T>> {
        let keys: Vec<_> = self.inexact.iter().copied().collect();
        keys.into_iter().filter_map(|key| self.reap(key)).collect()
    }

    fn take(&mut self, key: u64, status: io::Result<ExitStatus>) -> Option<Exit<T>> {
        let (child, owner) = self.children.remove(&key)?;
        self.inexact.remove(&key);
        // Explicitly: a forked copy of this process may keep the pidfd open, and with it the
        // entry, which would be reported for ever. There is nothing to do if it fails.
        let _ = self.epoll.delete(&child);
        let usage = child.usage().unwrap_or_default();
        Some(Exit {
            owner: Some(owner),
            id: child.id(),
            status,
            usage,
        })
    }

    /// Whatever has ended, own children and strangers, in the mode in which that is allowed.
    fn reap_everybody(&mut self) -> io::Result<Vec<Exit<T>>> {
        let mut exits = Vec::new();
        while self.strangers.is_some() {
            let end = match sys::try_reap_any() {
                Ok(Some(end)) => end,
                Err(error) if !sys::is(&error, libc::ECHILD) => return Err(error),
                Ok(None) | Err(_) => break,
            };
            let id = end.pid.unsigned_abs();
            let key = self
                .children
                .iter()
                .find(|(_, (child, _))| child.id() == id);
            let exit = match key.map(|(key, (child, _))| (*key, child)) {
                Some((key, child)) => {
                    child.settle(end.status, end.usage);
                    self.take(key, Ok(end.status))
                }
                None => Some(Exit {
                    owner: None,
                    id,
                    status: Ok(end.status),
                    usage: end.usage,
                }),
            };
            exits.extend(exit);
        }
        Ok(exits)
    }

    /// However many have come: they merge, so their number says nothing.
    fn drain_signals(&self) -> io::Result<()> {
        while let Some(signals) = &self.strangers
            && signals.read_signal()?.is_some()
        {}
        Ok(())
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
        // The worker of a server has copies of all its siblings' handles, and a thousand of them
        // take their time. But an owner that is more than a number may hold something, too.
        if self.owner != process::id() && !mem::needs_drop::<T>() {
            sys::close_and_forget(mem::take(&mut self.children), |children, visit| {
                for (child, _) in children.values_mut() {
                    child.each_descriptor(visit);
                }
            });
            return;
        }
        // All of them before the first is waited for, so that they end at the same time.
        for (child, _) in self.children.values() {
            let _ = child.kill();
        }
        let deadline = Instant::now() + END_GRACE;
        for (child, _) in self.children.values() {
            child.release(deadline);
        }
    }
}
