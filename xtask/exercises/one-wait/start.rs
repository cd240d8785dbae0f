//! Exercise one-wait: `cargo xtask exercise one-wait` says what should come true.

use std::io;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};

fn main() -> io::Result<()> {
    let sigchld = SigSet::from(Signal::SIGCHLD);
    sigchld.thread_block()?;
    let signals = SignalFd::with_flags(&sigchld, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;

    let mut long_lived = Command::new("sleep").arg("5").spawn()?;
    println!("Long-lived: {}", long_lived.id());
    for _ in 0..10 {
        let child = Command::new("sleep").arg("0.7").spawn()?;
        println!("Child: {}", child.id());
    }

    for piece in 1..=8 {
        thread::sleep(Duration::from_millis(500)); // a piece of the parent's own work
        if signals.read_signal()?.is_some() {
            let status = waitpid(None, Some(WaitPidFlag::WNOHANG))?;
            println!("Ended: {status:?}");
        }
        println!("Work: {piece}");
    }
    long_lived.kill()?;
    long_lived.wait()?;
    Ok(())
}
