//! Restarts children that fail, and stops all of them step by step at the end.
//!
//! `cargo run -p reexec --example supervise`
//!
//! Slot 0 does its work and ends. Slot 1 crashes and is started again, at most three times. Slot 2
//! would run for ever, and ends at `SIGTERM`. Slot 3 blocks that signal, and is killed.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use reexec::{Exit, Reaper, Resource};

const SLOTS: usize = 4;
const STARTS: usize = 3;
/// How long we supervise, and then how long a child may take to end.
const WATCH: Duration = Duration::from_millis(500);
const GRACE: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    reexec::register("worker", worker);
    if let Some(code) = reexec::init() {
        return code;
    }
    match supervise() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "supervise: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs in a child, and does what its slot says.
fn worker() {
    match env::args().nth(1).as_deref() {
        Some("0") => return,
        Some("1") => process::abort(),
        Some("3") => {
            // If this fails, the child ends at SIGTERM, and is not killed.
            let _ = SigSet::from_iter([Signal::SIGTERM]).thread_block();
        }
        _ => {}
    }
    thread::sleep(Duration::from_secs(60));
}

fn supervise() -> Result<(), Box<dyn Error>> {
    let mut children = Reaper::new()?;
    let mut starts = [0; SLOTS];
    for slot in 0..SLOTS {
        start(&mut children, &mut starts, slot)?;
    }
    let end = Instant::now() + WATCH;
    while Instant::now() < end {
        for exit in children.wait(Some(end.saturating_duration_since(Instant::now())))? {
            let Some(slot) = print_exit(&exit)? else {
                continue;
            };
            if exit.status.is_ok_and(|status| !status.success()) && starts[slot] < STARTS {
                start(&mut children, &mut starts, slot)?;
            }
        }
    }
    stop(children)?;
    Ok(())
}

fn start(
    children: &mut Reaper<usize>,
    starts: &mut [usize],
    slot: usize,
) -> Result<(), Box<dyn Error>> {
    starts[slot] += 1;
    let child = reexec::command("worker")
        .arg(slot.to_string())
        .rlimit(Resource::CoreSize, 0, 0) // one of them aborts
        .spawn()?;
    children.add(child, slot)?;
    Ok(())
}

/// Sends `SIGTERM` to all, gives all of them the same time, and kills the rest.
fn stop(mut children: Reaper<usize>) -> io::Result<()> {
    for (child, _) in children.iter() {
        child.signal(libc::SIGTERM)?;
    }
    let deadline = Instant::now() + GRACE;
    while !children.is_empty() && Instant::now() < deadline {
        for exit in children.wait(Some(deadline.saturating_duration_since(Instant::now())))? {
            print_exit(&exit)?;
        }
    }
    for (child, _) in children.iter() {
        child.kill()?;
    }
    while !children.is_empty() {
        for exit in children.wait(None)? {
            print_exit(&exit)?;
        }
    }
    Ok(())
}

/// Prints which slot has ended, and how; returns the slot.
fn print_exit(exit: &Exit<usize>) -> io::Result<Option<usize>> {
    let Some(slot) = exit.token else {
        return Ok(None);
    };
    match &exit.status {
        Ok(status) => writeln!(io::stdout(), "slot {slot} has ended: {status}")?,
        Err(error) => writeln!(io::stdout(), "slot {slot} has ended: {error}")?,
    }
    Ok(Some(slot))
}
