//! The lifeline: a pipe by which the kernel sends a child a signal when its parent process ends.
//!
//! The parent holds the only write end. When the parent ends, however it ends, the kernel closes
//! that end, and sends the signal that the child has asked for on its read end.
//!
//! `PR_SET_PDEATHSIG` is no substitute: it fires when the *thread* that spawned the child ends, and
//! the kernel clears it when the child changes its credentials.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::pipe2;

use crate::fd_map::FdMap;
use crate::inherited;
use crate::poll::wait_readable;
use crate::sys;

/// The parent's end. The child gets its signal when this is closed.
#[derive(Debug)]
pub(crate) struct Lifeline(OwnedFd);

/// What the parent tells the child about the child's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChildEnd {
    /// The number at which the child finds the read end.
    pub(crate) fd: RawFd,
    /// The signal that the child asks for.
    pub(crate) signal: i32,
}

impl Lifeline {
    /// Makes a lifeline, and puts the child's end into `map`.
    ///
    /// Each child has a pipe of its own: the receiver of the signal is a property of the open file,
    /// which children with a common pipe would share.
    pub(crate) fn new(map: &mut FdMap<'_>, signal: i32) -> io::Result<(Lifeline, ChildEnd)> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        let fd = map.give_next(read);
        Ok((Lifeline(write), ChildEnd { fd, signal }))
    }
}

impl AsRawFd for Lifeline {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// In the child: asks the kernel for `signal` when the parent process has ended.
///
/// 1. The parent ends.
/// 2. We arm the signal. The event has passed, so the kernel never sends it.
///
/// So we look at the pipe after arming: if the parent ended before, the pipe is at its end by now,
/// and we send the signal ourselves.
pub(crate) fn arm(read_end: OwnedFd, signal: i32) -> io::Result<()> {
    sys::signal_on_activity(&read_end, signal)?;
    let [has_ended] = wait_readable([Some(read_end.as_fd())], Some(Instant::now()))?;
    if has_ended {
        sys::signal_self(signal)?;
    }
    // Closing it would disarm the signal.
    inherited::leave_open(read_end);
    Ok(())
}

/// In a forked copy: asks the kernel to kill this process when `parent` ends. The kernel's parent-death
/// signal comes when the parent's *thread* ends; the parent has one thread, so that is the same here.
pub(crate) fn kill_with(parent: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // 1. The parent ends, and another process adopts us.
    // 2. We arm the signal. It will never come, so we send it ourselves.
    //
    // The number is 0 if the parent is in another PID namespace. Whoever adopts us is there, too, so we
    // cannot notice that the parent has ended. The signal itself comes all the same.
    if ![0, parent].contains(&sys::parent_id()) {
        sys::signal_self(libc::SIGKILL)?;
    }
    Ok(())
}
