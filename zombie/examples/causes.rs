//! Three ways to end: a call of exit, a fatal error, a signal that kills. All three make a zombie,
//! which keeps the status until its parent reads it.
//!
//! `cargo run -p zombie --example causes`, and look with `ps`, or at the last number in
//! /proc/N/stat; then with `-- --wait`.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::io::Write;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use program_support::{exit_code, stdout, wait_for_enter, wait_until_readable};
use reexec::{Child, Resource};

fn main() -> ExitCode {
    reexec::register("exits", || ExitCode::from(3));
    reexec::register("aborts", || process::abort());
    reexec::register("isKilled", || {
        thread::sleep(Duration::MAX);
        ExitCode::SUCCESS
    });
    if let Some(code) = reexec::init() {
        return code;
    }
    let wait = env::args_os().any(|arg| arg == "--wait");
    exit_code("causes", parent(wait))
}

fn parent(wait: bool) -> Result<(), Box<dyn Error>> {
    let mut children = Vec::new();
    for entry in ["exits", "aborts", "isKilled"] {
        children.push((entry, start(entry)?));
    }
    for (entry, child) in &children {
        if wait {
            child.wait()?;
        }
        writeln!(stdout(), "{entry}: {}", child.id())?;
    }
    wait_for_enter()?;

    for (entry, child) in &children {
        writeln!(stdout(), "{entry}, status read: {}", child.wait()?)?;
        // Nobody else starts processes here, so the number is nobody's yet.
        let pid = Pid::from_raw(child.id().cast_signed());
        let exists = kill(pid, None) != Err(Errno::ESRCH);
        writeln!(stdout(), "{entry}, exists: {exists}")?;
    }
    wait_for_enter()?;
    Ok(())
}

/// A child that has ended.
fn start(entry: &str) -> Result<Child, Box<dyn Error>> {
    let child = reexec::command(entry)
        .rlimit(Resource::CoreSize, 0, 0) // or the one that aborts might leave a file
        .spawn()?;
    if entry == "isKilled" {
        child.kill()?;
    }
    wait_until_readable(&child, None)?;
    Ok(child)
}
