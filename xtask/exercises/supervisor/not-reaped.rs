//! A wrong answer: a new worker for each SIGCHLD, but no wait for the old one.

use std::io;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

fn main() -> ExitCode {
    reexec::register("worker", worker);
    if let Some(code) = reexec::init() {
        return code;
    }
    match supervise() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs in a child: works until SIGTERM, and finishes what it has begun.
fn worker() -> io::Result<()> {
    let stop = sigterm(SfdFlags::empty())?;
    println!("Worker: {}", process::id());
    stop.read_signal()?; // sleeps until SIGTERM comes
    thread::sleep(Duration::from_millis(300));
    println!("Finished: {}", process::id());
    Ok(())
}

fn supervise() -> io::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD]);
    signals.thread_block()?;
    let arrivals = SignalFd::new(&signals)?;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(reexec::command("worker").spawn()?);
    }
    while let Some(signal) = arrivals.read_signal()? {
        if signal.ssi_signo == Signal::SIGTERM as u32 {
            break;
        }
        workers.push(reexec::command("worker").spawn()?);
    }
    for worker in &workers {
        worker.signal(Signal::SIGTERM as i32)?;
    }
    workers.iter().try_for_each(|worker| worker.wait().map(drop))
}

/// From now on, SIGTERM does not end this process, but can be read. With `SfdFlags::SFD_NONBLOCK`,
/// reading does not sleep, and returns `None` as long as the signal has not come.
fn sigterm(flags: SfdFlags) -> io::Result<SignalFd> {
    let signals = SigSet::from_iter([Signal::SIGTERM]);
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, flags)?)
}
