//! Traces the system calls that start a process, in three ways. All of them use a call of the clone
//! family and execve. Mostly the new process borrows its parent's memory until the execve (CLONE_VM,
//! CLONE_VFORK). If something must be done in between, such as becoming another user, it is a fork.
//!
//! `cargo run -p reexec --example system-calls`. It requires strace.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, ExitStatus};

use nix::unistd::geteuid;
use program_support::{EXIT_NOT_POSSIBLE, check_strace, exit_code, stdout};

/// This program again, with the argument for which it does nothing: it is there, whatever the folders of
/// this machine.
const PROGRAM: &str = "/proc/self/exe";
const NOTHING: &str = "nothing";

fn main() -> ExitCode {
    reexec::register("childProcess", || ExitCode::SUCCESS);
    if let Some(code) = reexec::init() {
        return code;
    }
    if env::args().any(|arg| arg == NOTHING) {
        return ExitCode::SUCCESS;
    }
    if let Some(way) = env::args().nth(1).filter(|way| !way.starts_with("--")) {
        return exit_code("system-calls", start(&way).map(drop));
    }
    if let Err(why) = check_strace() {
        exit_code("system-calls", Err(why));
        return ExitCode::from(EXIT_NOT_POSSIBLE);
    }
    let ways = if env::args().any(|arg| arg == "--fork") {
        ["user", "user", "user"]
    } else {
        ["command", "reexec", "user"]
    };
    let mut traces = ways.iter().map(|way| trace(way));
    exit_code("system-calls", traces.try_for_each(|trace| trace))
}

/// Starts a process in one of the ways.
fn start(way: &str) -> Result<ExitStatus, Box<dyn Error>> {
    Ok(match way {
        "command" => Command::new(PROGRAM).arg(NOTHING).status()?,
        "reexec" => reexec::command("childProcess").status()?,
        _ => Command::new(PROGRAM).arg(NOTHING).uid(geteuid().as_raw()).status()?,
    })
}

/// Prints the calls that strace has seen.
fn trace(way: &str) -> io::Result<()> {
    let output = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=clone,clone3,fork,vfork,execve"])
        .args(["-e", "signal=none"])
        .arg(env::current_exe()?)
        .arg(way)
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("strace: {}", output.status)));
    }
    let calls = String::from_utf8_lossy(&output.stderr).into_owned();
    for call in calls.lines().skip(1) {
        writeln!(stdout(), "{way}: {call}")?; // without the first, our own start
    }
    Ok(())
}
