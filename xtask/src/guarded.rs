//! Runs `bench` and `soak` so that nothing is left of them, however they end.
//!
//! It takes three processes. The first takes signals. The last does the work, and starts everything
//! that the work takes. The one between is there to clear up after it, also if the first is killed.

use std::env;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;

use crate::cli::{Options, Task};
use crate::model::failure::{EXIT_FAILED, EXIT_INTERRUPTED, EXIT_MISSING, Failure};
use crate::probe::procfs;
use crate::runner::interrupt;
use crate::worker::cleanup;
use crate::{bench, cmd, soak};

/// The names of the entries.
pub(crate) const GUARD: &str = "xtask-guard";
pub(crate) const MEASURE: &str = "xtask-measure";

/// Has it measured by others, and takes the signals. Returns the exit code.
pub(crate) fn run() -> ExitCode {
    if let Err(why) = procfs::check() {
        say(&format!("xtask: {why}; what helps: {}", procfs::REMEDY));
        return ExitCode::from(EXIT_MISSING);
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    let status = guarded(&interrupted);
    let left = cmd::clear_up(); // if the guard was killed, what it had started is ours now
    let (code, sentence) = match status {
        Err(error) => (EXIT_MISSING, format!("cannot measure: {error}")),
        Ok(_) if interrupted.load(Ordering::SeqCst) => (
            EXIT_INTERRUPTED,
            format!("interrupted; {left} processes left"),
        ),
        Ok(status) => match status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(0) if left > 0 => return ExitCode::from(EXIT_FAILED),
            Some(code) => return ExitCode::from(code), // which has been explained there
            None => (EXIT_MISSING, format!("{GUARD} has ended: {status}")),
        },
    };
    say(&format!("xtask: {sentence}"));
    ExitCode::from(code)
}

fn guarded(interrupted: &Arc<AtomicBool>) -> io::Result<std::process::ExitStatus> {
    prctl::set_child_subreaper(true)?;
    let guard = reexec::command(GUARD)
        .args(env::args_os().skip(1))
        .stdin(reexec::Stdio::piped())
        // Out of the terminal's foreground group: Ctrl-C is for us, who then close its stdin.
        .process_group(0)
        .outlive_parent()
        .spawn()
        .map_err(io::Error::other)?; // the whole sentence, not only the error number
    let orders = Mutex::new(guard.take_stdin());
    let interrupted = Arc::clone(interrupted);
    interrupt::take_signals(move || {
        interrupted.store(true, Ordering::SeqCst);
        let _ = orders.lock().unwrap_or_else(PoisonError::into_inner).take();
    })?;
    guard.wait()
}

/// The entry of the guard: lets the other measure until the end of stdin, which comes with the end
/// of xtask, too, and leaves no process.
pub(crate) fn guard() -> ExitCode {
    let result = watch();
    let _ = cleanup::kill_and_reap_all(); // what is left comes to xtask, which tells of it
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!("xtask: cannot measure: {error}"));
            ExitCode::from(EXIT_MISSING)
        }
    }
}

fn watch() -> io::Result<u8> {
    prctl::set_child_subreaper(true)?;
    let child = reexec::command(MEASURE)
        .args(env::args_os().skip(1))
        .stdin(reexec::Stdio::null())
        .spawn()
        .map_err(io::Error::other)?;
    let stdin = io::stdin();
    loop {
        let mut fds = [
            PollFd::new(child.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[1].any() == Some(true) {
            return Ok(EXIT_INTERRUPTED); // the child is killed when its handle is dropped
        }
        if let Some(status) = child.try_wait()? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return code.ok_or_else(|| io::Error::other(format!("{MEASURE} has ended: {status}")));
        }
    }
}

/// The entry of the process that does what was asked for.
pub(crate) fn measure() -> ExitCode {
    let result = match Options::parse().task {
        Task::Bench(options) => bench::run(&options),
        Task::Soak(options) => soak::run(&options),
        _ => Ok(()),
    };
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    let code = failure.exit_code();
    say(&format!("xtask: {}", failure.sentence()));
    ExitCode::from(code)
}

/// What a server leaves behind comes to us, and is ended with it.
pub(crate) fn become_subreaper() -> Result<(), Failure> {
    prctl::set_child_subreaper(true)
        .map_err(|error| Failure::Missing(format!("cannot become a subreaper: {error}")))
}

/// How far it is; nobody waits for it.
pub(crate) fn say(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}
