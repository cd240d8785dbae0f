//! Does it help to send SIGCHLD to the parent of a zombie by hand? Only if the parent reaps when
//! the signal comes, and has missed the first one because it installed its handler too late.
//!
//! `cargo run -p goroutine-wait --example late-handler`, and the `ps` that it suggests, before and
//! after `kill -CHLD` with the printed pid; then with `-- --action default` and `-- --action ignore`.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;
use std::{mem, process};

use clap::{Parser, ValueEnum};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use program_support::{
    exit_code, seconds, stdout, suggest_ps, wait_until_ended, wait_until_readable,
};

/// Leaves a zombie, and does as told when SIGCHLD is sent by hand.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// What the parent does when the signal comes
    #[arg(long, value_enum, default_value_t = Action::Reap)]
    action: Action,

    /// How long the parent goes on after the last signal
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    parent_sleep: Duration,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Action {
    Default,
    Ignore,
    Reap,
}

fn main() -> ExitCode {
    reexec::register("childProcess", || {});
    if let Some(code) = reexec::init() {
        return code;
    }
    exit_code("late-handler", parent(&Options::parse()))
}

fn parent(options: &Options) -> io::Result<()> {
    let child = reexec::command("childProcess").spawn().map_err(io::Error::other)?; // the whole sentence, not only the error number
    wait_until_ended(child.id())?;
    let zombie = child.id();
    mem::forget(child); // a zombie from now on; its SIGCHLD came before anybody waited for it

    let sigchld = SigSet::from(Signal::SIGCHLD);
    match options.action {
        Action::Default => {}
        Action::Ignore => reexec::signal::ignore(libc::SIGCHLD)?,
        Action::Reap => sigchld.thread_block()?, // pending until we read it below
    }
    let arrivals = SignalFd::with_flags(&sigchld, SfdFlags::SFD_CLOEXEC)?;
    writeln!(stdout(), "My pid is: {}", process::id())?;
    suggest_ps(&[process::id(), zombie]);
    while wait_until_readable(&arrivals, Some(options.parent_sleep))? {
        arrivals.read_signal()?;
        reap_all()?;
    }
    writeln!(stdout(), "End parent process.")
}

fn reap_all() -> io::Result<()> {
    while let Ok(WaitStatus::Exited(pid, code)) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        writeln!(stdout(), "Removed zombie: {pid}, exit status {code}")?;
    }
    Ok(())
}
