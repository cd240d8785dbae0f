//! Removes zombies on SIGCHLD: the C edition's `remove_zombie.c`. Its handler waits once for each
//! signal. But signals merge: while one is pending, more of the same kind are lost.
//!
//! `cargo run -p goroutine-wait --example remove-zombie`, and the `ps` that it suggests, before and
//! after `Removed:`; then with `-- --once` as in the chapter.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use std::{mem, process};

use clap::{Parser, value_parser};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use program_support::{exit_code, seconds, stdout, suggest_ps, wait_until_readable};

/// Lets children end while SIGCHLD is blocked, and removes the zombies when it comes.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// Wait once for each signal, as the chapter's handler does
    #[arg(long)]
    once: bool,

    /// How many children end, 1 to 1000
    #[arg(long, value_name = "NUMBER", default_value = "10")]
    #[arg(value_parser = value_parser!(u32).range(1..=1000))]
    children: u32,

    /// How long SIGCHLD stays blocked when all have ended, and how long the parent goes on then
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    sleep: Duration,
}

fn main() -> ExitCode {
    reexec::register("childProcess", || {});
    if let Some(code) = reexec::init() {
        return code;
    }
    exit_code("remove-zombie", parent(&Options::parse()))
}

fn parent(options: &Options) -> io::Result<()> {
    reexec::workspace::count(libc::SIGCHLD)?; // all that a handler may do
    let sigchld = SigSet::from(Signal::SIGCHLD);
    sigchld.thread_block()?; // as the kernel does while the handler runs
    let mut pids = vec![process::id()];
    for _ in 0..options.children {
        pids.push(start_and_let_end()?);
    }
    writeln!(stdout(), "My pid is: {}", process::id())?;
    writeln!(stdout(), "Children that have ended: {}", options.children)?;
    suggest_ps(&pids);
    thread::sleep(options.sleep);

    sigchld.thread_unblock()?; // the handler has run when this returns
    let signals = reexec::workspace::counted(libc::SIGCHLD);
    writeln!(stdout(), "Signals that came: {signals}")?;
    let most = if options.once { signals } else { usize::MAX };
    writeln!(stdout(), "Removed: {}", remove_zombies(most)?)?;
    thread::sleep(options.sleep);

    writeln!(stdout(), "End parent process.")
}

/// Starts a child, waits until it has ended, without reaping it, and returns its pid.
fn start_and_let_end() -> io::Result<u32> {
    let child = reexec::command("childProcess").spawn().map_err(io::Error::other)?; // the whole sentence, not only the error number
    wait_until_readable(&child, None)?;
    let pid = child.id();
    mem::forget(child); // dropped, our handle would reap it
    Ok(pid)
}

/// Reaps children that have ended, at most `most`, and returns how many.
fn remove_zombies(most: usize) -> io::Result<usize> {
    let mut removed = 0;
    while removed < most {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
            Ok(_) => removed += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(removed)
}
