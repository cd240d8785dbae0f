//! Two kinds of adopters. Ordinary inits reap a child when SIGCHLD tells them that it has ended.
//! Others, in some containers, look from time to time, and zombies stay until they look.
//!
//! `cargo run -p zombie --example init-waits`, Enter, and `ps` with the printed number; then with
//! `-- --every 20`.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::mem;
use std::os::unix::process::parent_id;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use clap::Parser;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use program_support::{exit_code, seconds, stdout, wait_for_enter};

/// Adopts an orphan, which ends at Enter, and reaps it.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// Look for zombies this often, instead of when SIGCHLD comes
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    every: Option<Duration>,
}

fn main() -> ExitCode {
    reexec::register("parent", || exit_code("init-waits", parent()));
    reexec::register("orphan", || exit_code("init-waits", wait_for_enter()));
    if let Some(code) = reexec::init() {
        return code;
    }
    exit_code("init-waits", adopter(&Options::parse()))
}

fn adopter(options: &Options) -> io::Result<()> {
    prctl::set_child_subreaper(true)?; // adopts our orphaned descendants
    let sigchld = SigSet::from(Signal::SIGCHLD);
    sigchld.thread_block()?; // pending until we wait for it below
    reexec::command("parent").status().map_err(io::Error::other)?; // the whole sentence, not only the error number
    match options.every {
        None => {
            while wait_for_all()? {
                sigchld.wait()?;
            }
        }
        Some(time) => {
            while wait_for_all()? {
                writeln!(stdout(), "Looked by: {}", process::id())?;
                thread::sleep(time);
            }
        }
    }
    writeln!(stdout(), "No child is left.")
}

/// Reaps every child that has ended, and returns whether any is left.
fn wait_for_all() -> io::Result<bool> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return Ok(true),
            Ok(_) => {}
            Err(Errno::ECHILD) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Starts a child and ends. The child's grandparent adopts it.
fn parent() -> io::Result<()> {
    let orphan = reexec::command("orphan").outlive_parent().spawn().map_err(io::Error::other)?;
    writeln!(stdout(), "Orphan of {}: {}", parent_id(), orphan.id())?;
    mem::forget(orphan); // dropped, the handle would kill it
    Ok(())
}
