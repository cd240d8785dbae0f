//! A wrong answer: it catches the signals that can be caught.

use std::env;
use std::io;
use std::process::{self, Command};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

fn main() -> io::Result<()> {
    match env::args().nth(1).as_deref() {
        Some("child") => child_process(),
        _ => parent(),
    }
}

fn child_process() -> io::Result<()> {
    println!("Child: {}", process::id());
    thread::sleep(Duration::from_secs(10));
    Ok(())
}

fn parent() -> io::Result<()> {
    let mut child = Command::new(env::current_exe()?).arg("child").spawn()?;
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
    signals.thread_block()?;
    SignalFd::new(&signals)?.read_signal()?;
    child.kill()?;
    child.wait().map(drop)
}
