//! A parent that ignores SIGCHLD gets no zombies, but no statuses either.
//!
//! `cargo run -p goroutine-wait --example ignore-sigchld`, and `ps` on the printed numbers; then with
//! `-- --no-child-wait` (the same by a flag) and `-- --default` (the zombies again).

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;
use std::{env, mem};

use clap::Parser;
use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use program_support::{exit_code, seconds, stdout, wait_until_ended};

/// Starts children, and ignores SIGCHLD.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// Do not ignore the signal, but set SA_NOCLDWAIT
    #[arg(long, conflicts_with = "default")]
    no_child_wait: bool,

    /// Leave SIGCHLD at its default
    #[arg(long)]
    default: bool,

    /// How long the parent sleeps before it waits; its last child lives twice as long
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = seconds)]
    parent_sleep: Duration,
}

fn main() -> ExitCode {
    reexec::register("shortLived", || {});
    reexec::register("longLived", || thread::sleep(2 * Options::parse().parent_sleep));
    if let Some(code) = reexec::init() {
        return code;
    }
    exit_code("ignore-sigchld", parent(&Options::parse()))
}

fn parent(options: &Options) -> Result<(), Box<dyn Error>> {
    start("shortLived", "Ended before, pid")?;
    match options {
        Options { default: true, .. } => {}
        Options { no_child_wait: true, .. } => reexec::workspace::set_no_child_wait()?,
        _ => reexec::signal::ignore(libc::SIGCHLD)?,
    }
    start("shortLived", "Ended since, pid")?;
    start("longLived", "Lives on, pid")?;
    innocent_program();
    thread::sleep(options.parent_sleep);

    writeln!(stdout(), "Parent waits for any child.")?;
    while let Some(status) = wait()? {
        writeln!(stdout(), "wait: {status:?}")?;
    }
    writeln!(stdout(), "wait: there is no child")?;
    writeln!(stdout(), "End parent process.")?;
    Ok(())
}

fn start(entry: &str, what: &str) -> Result<(), Box<dyn Error>> {
    let child = reexec::command(entry).args(env::args_os().skip(1)).spawn()?;
    writeln!(stdout(), "{what}: {}", child.id())?;
    if entry == "shortLived" {
        wait_until_ended(child.id())?;
    }
    mem::forget(child); // dropped, our handle would kill and reap it
    Ok(())
}

/// Waits for any child. Returns `None` when there is none any more: the kernel says so only when
/// the children that leave no zombie have ended, too.
fn wait() -> io::Result<Option<WaitStatus>> {
    match waitpid(None, None) {
        Ok(status) => Ok(Some(status)),
        Err(Errno::ECHILD) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Runs a program that knows nothing of this, and yet ignores SIGCHLD: exec keeps ignored signals.
/// In the mask that it prints, 10000 is SIGCHLD. Such a program cannot learn how its own children
/// end.
fn innocent_program() {
    let mut grep = Command::new("grep");
    // Its status is lost because we ignore SIGCHLD. It only has to print.
    let _ = grep.args(["SigIgn", "/proc/self/status"]).status();
}
