//! Reaps children that nobody waits for: detached ones, and ones that could not be killed.
//!
//! One thread does it for all of them, and ends with the last one, because a process with two
//! threads cannot [`fork`](crate::fork()).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::group::{self, Group};
use crate::handle::POLL_INTERVAL;
use crate::poll::{pause, poll_timeout};
use crate::sys::{self, WaitTarget};

/// How long a child that we may not kill has to end by itself before the thread takes over. Its
/// lifeline is closed, so most end at once.
pub(crate) const END_GRACE: Duration = Duration::from_secs(1);

const STACK: usize = 64 * 1024;

/// A child that the thread reaps.
pub(crate) trait Unattended: Send {
    /// Reaps the child if it has ended; returns `true` if nothing is left to reap.
    fn reap_if_ended(&self) -> bool;

    /// Returns a descriptor that becomes readable when the child has ended, if there is one.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// Returns when to ask again, if the descriptor may tell of the end late, or if there is none.
    fn next_poll(&self) -> Option<Instant>;
}

/// The handle of a child, shared with this thread.
impl<T: Unattended + Sync> Unattended for Arc<T> {
    fn reap_if_ended(&self) -> bool {
        (**self).reap_if_ended()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        (**self).fd()
    }

    fn next_poll(&self) -> Option<Instant> {
        (**self).next_poll()
    }
}

/// A child that has no handle. No other process has its number before it is reaped here.
struct Abandoned {
    pid: i32,
    group: Group,
}

impl Unattended for Abandoned {
    fn reap_if_ended(&self) -> bool {
        !matches!(group::try_reap(self.wait_target(), self.group), Ok(None))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn next_poll(&self) -> Option<Instant> {
        Some(Instant::now() + POLL_INTERVAL)
    }
}

impl Abandoned {
    fn wait_target(&self) -> WaitTarget<'_> {
        WaitTarget { pid: self.pid, pidfd: None }
    }
}

/// The work of the thread, and whether there is a thread.
struct Background {
    /// The process that this is about. A forked copy has this memory, but neither the thread nor the
    /// children.
    process: u32,
    /// Children that the thread has not taken yet.
    queue: Vec<Box<dyn Unattended>>,
    /// Wakes the thread; `None` if there is no thread.
    wake: Option<Arc<EventFd>>,
}

static BACKGROUND: Mutex<Background> = Mutex::new(Background::new(0));

/// Reaps the child when it ends. After an error the child is dropped.
pub(crate) fn detach(child: Box<dyn Unattended>) -> io::Result<()> {
    let mut background = background();
    background.queue.push(child);
    let Err(error) = background.wake_or_start() else {
        return Ok(());
    };
    let child = background.queue.pop();
    drop(background); // dropping the child may take this lock
    drop(child);
    Err(error)
}

/// Kills and reaps a child that has no handle, or that its handle cannot kill.
///
/// If we may not kill it, waits for its end until the deadline; the thread reaps it later if it has
/// not ended by then. The caller must have closed its lifeline and its control channel, because
/// their ends end the child.
pub(crate) fn abandon(pid: i32, group: Group, deadline: Instant) {
    let child = Abandoned { pid, group };
    if sys::is_unreaped(child.wait_target()) {
        // So no other process has the number.
        group::kill(child.wait_target(), group);
        let _ = sys::kill(pid, libc::SIGKILL);
    }
    while !child.reap_if_ended() {
        if Instant::now() >= deadline {
            return leave(Box::new(child));
        }
        pause(Duration::from_millis(1));
    }
}

/// Reaps the child when it ends; without a thread, the next spawn does.
pub(crate) fn leave(child: Box<dyn Unattended>) {
    let mut background = background();
    background.queue.push(child);
    let _ = background.wake_or_start();
}

/// Reaps abandoned children if no thread could be started for them. Costs next to nothing if there
/// are none.
pub(crate) fn reap_abandoned() {
    let mut background = match BACKGROUND.try_lock() {
        Ok(background) => background,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    if background.process == process::id() && background.wake.is_none() {
        background.queue.retain(|child| !child.reap_if_ended());
    }
}

fn background() -> MutexGuard<'static, Background> {
    // Nothing panics half-way through a change.
    let mut background = BACKGROUND.lock().unwrap_or_else(PoisonError::into_inner);
    if background.process != process::id() {
        *background = Background::new(process::id());
    }
    background
}

impl Background {
    const fn new(process: u32) -> Self {
        Self { process, queue: Vec::new(), wake: None }
    }

    fn wake_or_start(&mut self) -> io::Result<()> {
        if let Some(wake) = &self.wake {
            // It fails only if the thread is awake already, or about to be.
            let _ = wake.write(1);
            return Ok(());
        }
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags)?);
        let wakes_thread = Arc::clone(&wake);
        let thread = thread::Builder::new().name("reexec reaper".to_owned()).stack_size(STACK);
        // The thread inherits the mask. So it runs no handler of the program, and takes no signal
        // that the program waits for in another thread.
        let started = sys::with_signals_blocked(|| thread.spawn(move || run(&wakes_thread)))?;
        drop(started); // nobody joins it
        self.wake = Some(wake);
        Ok(())
    }
}

/// Runs the thread: reaps children until none is left.
fn run(wake: &EventFd) {
    let mut children: Vec<Box<dyn Unattended>> = Vec::new();
    loop {
        // Before we look at the queue, so that whatever is added later wakes us again.
        if wake.read().is_err_and(|error| error != Errno::EAGAIN) {
            pause(POLL_INTERVAL); // it stays readable
        }
        let mut background = background();
        children.append(&mut background.queue);
        if children.is_empty() {
            background.wake = None;
            return;
        }
        drop(background);
        let ready = wait(wake, &children);
        if reap_ready(&mut children, &ready) {
            // The child without a pidfd is about to end, or has executed another program; or a
            // filter refuses to wait. Neither is worth a busy loop.
            pause(POLL_INTERVAL);
        }
    }
}

/// Waits until a child may have ended, or the queue has changed; says which descriptors are ready.
fn wait(wake: &EventFd, children: &[Box<dyn Unattended>]) -> Vec<bool> {
    let deadline = children.iter().filter_map(|child| child.next_poll()).min();
    let watched = children.iter().filter_map(|child| child.fd());
    let mut polled: Vec<_> =
        watched.chain([wake.as_fd()]).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    if poll(&mut polled, poll_timeout(deadline)).is_err() {
        // Interrupted or refused: any child may have ended.
        pause(POLL_INTERVAL);
        return children.iter().map(|child| child.fd().is_some()).collect();
    }
    let mut results = polled.iter().map(|fd| fd.any().unwrap_or(true));
    let children = children.iter();
    children.map(|child| child.fd().is_some() && results.next() == Some(true)).collect()
}

/// Reaps the children that have ended; returns `true` if one is ready but has not ended.
fn reap_ready(children: &mut Vec<Box<dyn Unattended>>, ready: &[bool]) -> bool {
    let mut ready = ready.iter();
    let mut is_early = false;
    children.retain(|child| {
        let is_ready = ready.next() == Some(&true);
        let may_have_ended = is_ready || child.next_poll().is_some();
        let has_ended = may_have_ended && child.reap_if_ended();
        is_early |= is_ready && !has_ended;
        !has_ended
    });
    is_early
}
