//! `cargo xtask bench`, `soak` and `rolling`: builds and runs the crate xtask-bench, so that nothing is left
//! of it, however it ends.
//!
//! There are three processes:
//! 1. xtask handles the signals.
//! 2. The guard clears up after the third, also if xtask is killed: it then reads the end of its stdin.
//! 3. The third becomes cargo, which builds xtask-bench in release, and then becomes xtask-bench.

use std::env;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;

use crate::cmd;
use crate::model::failure::{EXIT_FAILED, EXIT_INTERRUPTED, EXIT_MISSING};
use crate::probe::{need, procfs};
use crate::runner::interrupt;
use crate::runner::programs::workspace;
use crate::worker::cleanup;

/// The names of the entries.
pub(crate) const GUARD: &str = "xtask-guard";
pub(crate) const CARGO: &str = "xtask-cargo";

/// Runs xtask-bench with our arguments, and handles the signals. Returns the exit code.
pub(crate) fn run() -> ExitCode {
    if let Err(why) = procfs::check() {
        say(&format!("{why}; what helps: {}", need::remedy("/proc")));
        return ExitCode::from(EXIT_MISSING);
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    let status = run_guard(&interrupted);
    let left = cmd::clear_up(); // if the guard was killed, what it had started is ours now
    let (code, sentence) = match status {
        Err(error) => (EXIT_MISSING, format!("cannot run xtask-bench: {error}")),
        Ok(_) if interrupted.load(Ordering::SeqCst) => {
            (EXIT_INTERRUPTED, format!("interrupted; {left} processes left"))
        }
        Ok(status) => match exit_code(status) {
            Some(0) if left > 0 => return ExitCode::from(EXIT_FAILED),
            Some(code) => return ExitCode::from(code), // which has been explained there
            None => (EXIT_MISSING, format!("{GUARD} has ended: {status}")),
        },
    };
    say(&sentence);
    ExitCode::from(code)
}

fn run_guard(interrupted: &Arc<AtomicBool>) -> io::Result<ExitStatus> {
    prctl::set_child_subreaper(true)?;
    let guard = reexec::command(GUARD)
        .args(env::args_os().skip(1))
        .stdin(reexec::Stdio::piped())
        // Out of the terminal's foreground group: Ctrl-C is for us, and we then close its stdin.
        .process_group(0)
        .outlive_parent()
        .spawn()
        .map_err(io::Error::other)?; // the whole sentence, not only the error number
    let stdin = Mutex::new(guard.take_stdin());
    let interrupted = Arc::clone(interrupted);
    interrupt::take_signals(move || {
        interrupted.store(true, Ordering::SeqCst);
        let _ = stdin.lock().unwrap_or_else(PoisonError::into_inner).take();
    })?;
    guard.wait()
}

/// The entry of the guard: waits for the end of xtask-bench or of stdin, and leaves no process.
pub(crate) fn guard() -> ExitCode {
    let result = wait_for_bench();
    let _ = cleanup::kill_and_reap_all(); // xtask adopts what is left, and tells of it
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!("cannot run xtask-bench: {error}"));
            ExitCode::from(EXIT_MISSING)
        }
    }
}

fn wait_for_bench() -> io::Result<u8> {
    prctl::set_child_subreaper(true)?;
    // Killed if the guard ends: a death signal outlasts execve.
    let bench = reexec::command(CARGO)
        .args(env::args_os().skip(1))
        .stdin(reexec::Stdio::null())
        .spawn()
        .map_err(io::Error::other)?;
    let stdin = io::stdin();
    loop {
        let mut fds = [
            PollFd::new(bench.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[1].any() == Some(true) {
            return Ok(EXIT_INTERRUPTED); // the bench is killed when its handle is dropped
        }
        if let Some(status) = bench.try_wait()? {
            let ended = || io::Error::other(format!("it has ended: {status}"));
            return exit_code(status).ok_or_else(ended);
        }
    }
}

/// The entry of the process that becomes cargo, and then xtask-bench. It returns only if there is no cargo.
///
/// cargo is not quiet, because the first build takes a while: it shows how far it is.
pub(crate) fn become_cargo() -> ExitCode {
    say("cargo builds xtask-bench, in release, and runs it");
    // Set by cargo for what it runs, so that it is the same one again.
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let error = Command::new(&cargo)
        .args(["run", "--release", "--package", "xtask-bench"])
        .arg("--manifest-path")
        .arg(workspace().join("Cargo.toml"))
        .arg("--")
        .args(env::args_os().skip(1))
        .exec();
    say(&format!("{} cannot be run: {error}", cargo.display()));
    ExitCode::from(EXIT_MISSING)
}

fn exit_code(status: ExitStatus) -> Option<u8> {
    status.code().and_then(|code| u8::try_from(code).ok())
}

/// Prints a line on stderr. It does not matter if that fails.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "xtask: {what}");
}
