//! A wrong answer: the parent ignores SIGCHLD when the zombie is there already.

use std::io;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

fn main() -> io::Result<()> {
    start_child()?;

    reexec::signal::ignore(Signal::SIGCHLD as i32)?;
    thread::sleep(Duration::from_millis(2500)); // the parent's work
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
