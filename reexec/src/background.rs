//! Reaping without anybody who waits: children that were detached, and children that could not be
//! killed. One thread does it for all of them, and ends with the last one, because a process with
//! two threads cannot [`fork`](crate::fork()).

use std::io;
use std::os::fd::AsFd;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::Child;
use crate::handle::LOOK_AGAIN;
use crate::readiness::{pause, time_left};
use crate::sys::{self, WaitTarget};

/// How long a child that may not be killed has to end by other means, before it is left to the
/// thread: its lifeline is cut, and most end by that.
pub(crate) const END_GRACE: Duration = Duration::from_secs(1);

const STACK: usize = 64 * 1024;

/// What the thread has to do, and whether there is one.
struct Background {
    /// The process that all this is about. A forked copy has the memory, but neither the thread nor
    /// the children.
    owner: u32,
    /// Children that the thread has not taken over yet.
    detached: Vec<Child>,
    /// Numbers of children without a handle. Each is the child's own until it is reaped here.
    abandoned: Vec<i32>,
    /// Wakes the thread; `None` if there is none.
    wake: Option<Arc<EventFd>>,
}

static BACKGROUND: Mutex<Background> = Mutex::new(Background::of(0));

/// Takes over a child, and reaps it when it ends. After an error the child is killed and reaped.
pub(crate) fn detach(child: Child) -> io::Result<()> {
    let mut background = background();
    background.detached.push(child);
    let Err(error) = background.wake_or_start() else {
        return Ok(());
    };
    let child = background.detached.pop();
    drop(background); // dropping a child may come back here
    drop(child);
    Err(error)
}

/// Kills and reaps a child that has no handle, or whose handle cannot kill it. If it may not be
/// killed, waits for its end until the deadline; if it has not come by then, the thread reaps it
/// later.
///
/// Its lifeline and its control channel must be closed: it ends by one of them.
pub(crate) fn abandon(pid: i32, deadline: Instant) {
    let child = WaitTarget { pid, pidfd: None };
    if sys::is_unreaped(child) {
        // The number is the child's own, then.
        let _ = sys::kill(pid, libc::SIGKILL);
    }
    while !is_over(pid) {
        if Instant::now() >= deadline {
            let mut background = background();
            background.abandoned.push(pid);
            // Without a thread, the next spawn looks after it.
            let _ = background.wake_or_start();
            return;
        }
        pause(Duration::from_millis(1));
    }
}

/// Reaps those that ended without a thread to reap them. Costs next to nothing if there are none.
pub(crate) fn reap_abandoned() {
    let mut background = match BACKGROUND.try_lock() {
        Ok(background) => background,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    if background.owner == process::id() && background.wake.is_none() {
        background.abandoned.retain(|pid| !is_over(*pid));
    }
}

/// Whether there is nothing left to reap.
fn is_over(pid: i32) -> bool {
    !matches!(sys::try_reap(WaitTarget { pid, pidfd: None }), Ok(None))
}

fn background() -> MutexGuard<'static, Background> {
    // Nothing panics half-way through a change.
    let mut background = BACKGROUND.lock().unwrap_or_else(PoisonError::into_inner);
    if background.owner != process::id() {
        *background = Background::of(process::id());
    }
    background
}

impl Background {
    /// With nothing to do.
    const fn of(owner: u32) -> Self {
        Self {
            owner,
            detached: Vec::new(),
            abandoned: Vec::new(),
            wake: None,
        }
    }

    fn wake_or_start(&mut self) -> io::Result<()> {
        if let Some(wake) = &self.wake {
            // It can only fail because it is awake already, or about to be.
            let _ = wake.write(1);
            return Ok(());
        }
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags)?);
        let threads = Arc::clone(&wake);
        let thread = thread::Builder::new()
            .name("reexec reaper".to_owned())
            .stack_size(STACK);
        // The thread inherits the mask: no handler of the program runs on it, and no signal that the
        // program waits for in another thread goes to it.
        let started = sys::without_signals(|| thread.spawn(move || reap_all(&threads)))?;
        drop(started); // nobody joins it
        self.wake = Some(wake);
        Ok(())
    }
}

/// The thread.
fn reap_all(wake: &EventFd) {
    let mut children = Vec::new();
    let mut abandoned = Vec::new();
    loop {
        // Before looking at what there is to do: what comes after that wakes us again.
        if wake.read().is_err_and(|error| error != Errno::EAGAIN) {
            pause(LOOK_AGAIN); // it stays readable
        }
        let mut background = background();
        children.append(&mut background.detached);
        abandoned.append(&mut background.abandoned);
        if children.is_empty() && abandoned.is_empty() {
            background.wake = None;
            return;
        }
        drop(background);
        let ready = wait(wake, &children, !abandoned.is_empty());
        let before = children.len();
        let mut may_have_ended = ready.iter();
        children.retain(|child| {
            let may_have_ended = may_have_ended.next() != Some(&false) || !child.is_exact();
            !may_have_ended || !has_ended(child)
        });
        abandoned.retain(|pid| !is_over(*pid));
        if before - children.len() < ready.iter().filter(|ready| **ready).count() {
            // Without pidfds: one is about to end, or has executed another program. Or else to wait
            // is refused. Not worth a busy loop.
            pause(LOOK_AGAIN);
        }
    }
}

fn has_ended(child: &Child) -> bool {
    let _ = child.try_wait();
    child.is_reaped()
}

/// Waits until there may be something to do; returns which children seem to have ended.
fn wait(wake: &EventFd, children: &[Child], look_again: bool) -> Vec<bool> {
    let looks = children.iter().filter_map(Child::next_look);
    let looks = looks.chain(look_again.then(|| Instant::now() + LOOK_AGAIN));
    let deadline = looks.min();
    let watched = children.iter().map(AsFd::as_fd).chain([wake.as_fd()]);
    let mut polled: Vec<_> = watched
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    if poll(&mut polled, time_left(deadline)).is_err() {
        // Interrupted or refused: any of them may have ended. It looks again a little later.
        pause(LOOK_AGAIN);
        return vec![true; children.len()];
    }
    polled.truncate(children.len());
    polled.iter().map(|fd| fd.any().unwrap_or(true)).collect()
}
