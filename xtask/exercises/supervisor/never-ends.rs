//! A wrong answer: it replaces also the workers that it has ended itself.

use std::io;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use reexec::Reaper;

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
    let stop = sigterm(SfdFlags::SFD_NONBLOCK)?;
    let mut workers = Reaper::new()?;
    for _ in 0..3 {
        workers.add(reexec::command("worker").spawn()?, ())?;
    }
    while !workers.is_empty() {
        if stop.read_signal()?.is_some() {
            for (worker, ()) in workers.iter() {
                worker.signal(Signal::SIGTERM as i32)?;
            }
        }
        for _ in workers.wait(Some(Duration::from_millis(100)))? {
            workers.add(reexec::command("worker").spawn()?, ())?;
        }
    }
    Ok(())
}

/// From now on, SIGTERM does not end this process, but can be read. With `SfdFlags::SFD_NONBLOCK`,
/// reading does not sleep, and returns `None` as long as the signal has not come.
fn sigterm(flags: SfdFlags) -> io::Result<SignalFd> {
    let signals = SigSet::from_iter([Signal::SIGTERM]);
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, flags)?)
}
