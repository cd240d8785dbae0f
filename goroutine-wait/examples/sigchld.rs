//! SIGCHLD tells a parent more than the end of a child. By default the parent notices nothing of
//! it.
//!
//! `cargo run -p goroutine-wait --example sigchld`, and in another terminal, with the printed number,
//! `kill -STOP N`, `kill -CONT N`, `kill N`; then the same with `-- --no-child-stop`.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Write};
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use program_support::{exit_code, seconds, stdout, wait_until_readable};

/// Prints each SIGCHLD: when a child ends, and when it is stopped or goes on.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// Get SIGCHLD for the end only (SA_NOCLDSTOP)
    #[arg(long)]
    no_child_stop: bool,

    /// How long the child lives, if nobody kills it
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    child_sleep: Duration,
}

fn main() -> ExitCode {
    reexec::register("shortLived", || {});
    reexec::register("childProcess", || exit_code("sigchld", child_process(&Options::parse())));
    if let Some(code) = reexec::init() {
        return code;
    }
    let options = Options::parse();
    exit_code("sigchld", by_default().and_then(|()| told(&options)))
}

fn child_process(options: &Options) -> io::Result<()> {
    writeln!(stdout(), "My pid is: {}", process::id())?;
    thread::sleep(options.child_sleep);
    Ok(())
}

/// Shows the default action of SIGCHLD: nothing happens, but the status is kept. If the parent
/// ignored the signal, the status would be lost.
fn by_default() -> io::Result<()> {
    let child = reexec::command("shortLived").spawn().map_err(io::Error::other)?; // the whole sentence, not only the error number
    wait_until_readable(&child, None)?; // a signal with a handler would end this with EINTR
    writeln!(stdout(), "By default nothing happened when a child ended.")?;
    writeln!(stdout(), "Its status was kept: {}", child.wait()?)
}

fn told(options: &Options) -> io::Result<()> {
    let sigchld = SigSet::from(Signal::SIGCHLD);
    sigchld.thread_block()?; // before we start the child, or its first signal could be lost
    let arrivals = SignalFd::with_flags(&sigchld, SfdFlags::SFD_CLOEXEC)?;
    if options.no_child_stop {
        reexec::workspace::set_no_child_stop()?;
    }
    let child = reexec::command("childProcess")
        .args(env::args_os().skip(1))
        .spawn()
        .map_err(io::Error::other)?;
    loop {
        if let Some(told) = arrivals.read_signal()? {
            writeln!(stdout(), "SIGCHLD: process {} {}", told.ssi_pid, what(told.ssi_code))?;
        }
        // We ask, and do not rely on the signal: of signals that merged we have seen only one.
        if let Some(status) = child.try_wait()? {
            return writeln!(stdout(), "End parent process. The child's {status}");
        }
    }
}

fn what(code: i32) -> &'static str {
    match code {
        libc::CLD_EXITED => "has ended by itself",
        libc::CLD_KILLED | libc::CLD_DUMPED => "was ended by a signal",
        libc::CLD_STOPPED => "was stopped",
        libc::CLD_CONTINUED => "goes on",
        _ => "did something else",
    }
}
