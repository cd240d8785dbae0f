//! Two kinds of adopters. Ordinary inits wait when they are told that a child has ended; others, as
//! in some containers, look from time to time, and zombies stay until then.
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

/// An adopter, and an orphan that ends.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// Look for zombies from time to time, instead of when one is there
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
    prctl::set_child_subreaper(true)?; // as init is for all
    let sigchld = SigSet::from(Signal::SIGCHLD);
    sigchld.thread_block()?; // taken by wait below, also one that comes before
    reexec::command("parent")
        .status()
        .map_err(io::Error::other)?; // the whole sentence, not only the error number
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

/// Waits for whoever has ended. Whether anybody is left.
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

/// Ends, and leaves a child behind, which its grandparent adopts.
fn parent() -> io::Result<()> {
    let orphan = reexec::command("orphan")
        .outlive_parent()
        .spawn()
        .map_err(io::Error::other)?;
    writeln!(stdout(), "Orphan of {}: {}", parent_id(), orphan.id())?;
    mem::forget(orphan); // dropped, the handle would kill it
    Ok(())
}
