//! A wrong answer: a signalfd for a signal that is not blocked.

use std::io;
use std::os::fd::AsFd;
use std::process::Command;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

fn main() -> io::Result<()> {
    let sigchld = SigSet::from(Signal::SIGCHLD);
    let signals = SignalFd::with_flags(&sigchld, SfdFlags::SFD_CLOEXEC)?;
    start_child()?;

    let mut news = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    // The parent's work: it lasts until no signal has come for 2.5 seconds.
    while poll(&mut news, PollTimeout::from(2500_u16))? > 0 {
        signals.read_signal()?;
        reap();
    }
    println!("The work is done.");
    Ok(())
}

/// Starts a child. Returns only when the child has ended, without reaping it: that could always
/// happen, and here it does.
fn start_child() -> io::Result<()> {
    let child = Command::new("true").spawn()?;
    println!("Child: {}", child.id());
    let pid = Pid::from_raw(child.id() as i32);
    let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
    Ok(())
}

fn reap() {
    while let Ok(WaitStatus::Exited(pid, code)) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        println!("Ended: {pid}, exit status {code}");
    }
}
