//! Reaps a child beside other work, in one loop. The child's pidfd becomes readable when it ends,
//! so `poll` waits for that and for everything else at once, here for what the child writes. The
//! parent never asks in vain, and needs no second thread.
//!
//! `cargo run -p goroutine-wait --example pidfd`, and the `ps` that it suggests: the parent sleeps in
//! poll.

#![forbid(unsafe_code)]

use std::env;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{self, ChildStdout, ExitCode};
use std::thread;
use std::time::Duration;

use clap::Parser;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use program_support::{exit_code, seconds, stdout, suggest_ps};

/// Waits for a child and for its lines at once.
///
/// Exit codes: 0 done, 1 failed (a sentence on stderr says why), 2 usage.
#[derive(Parser)]
struct Options {
    /// How long the child lives
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    child_sleep: Duration,
}

fn main() -> ExitCode {
    reexec::register("childProcess", || child_process(&Options::parse()));
    if let Some(code) = reexec::init() {
        return code;
    }
    Options::parse(); // only to refuse wrong usage; the child reads the times
    exit_code("pidfd", parent())
}

/// Prints two lines to its stdout, a pipe to the parent.
fn child_process(options: &Options) -> ExitCode {
    let lines = [format!("My pid is: {}", process::id()), "still here".to_owned()];
    for line in lines {
        if let Err(error) = writeln!(stdout(), "{line}") {
            return exit_code("pidfd", Err(error));
        }
        thread::sleep(options.child_sleep / 2);
    }
    ExitCode::from(24)
}

fn parent() -> io::Result<()> {
    let child = reexec::command("childProcess")
        .args(env::args_os().skip(1)) // a new program: it knows only what we tell it
        .stdout(reexec::Stdio::piped())
        .spawn()
        .map_err(io::Error::other)?; // the whole sentence, not only the error number
    suggest_ps(&[process::id(), child.id()]);
    let mut lines = child.take_stdout();
    let mut returns = 0;
    let status = loop {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut watched = vec![readable(child.as_fd())];
        watched.extend(lines.iter().map(|pipe| readable(pipe.as_fd())));
        poll(&mut watched, PollTimeout::NONE)?;
        returns += 1;

        let written = watched.get(1).is_some_and(|pipe| pipe.any() != Some(false));
        if written && !pass_on(&mut lines)? {
            lines = None; // the child has closed its end
        } else if let Some(status) = child.try_wait()? {
            break status; // and reaped
        }
    };
    writeln!(stdout(), "Child ended with {status}")?;
    writeln!(stdout(), "Returns of poll: {returns}")
}

/// Prints what the pipe holds, and returns whether there was anything before its end.
fn pass_on(lines: &mut Option<ChildStdout>) -> io::Result<bool> {
    let mut buffer = [0; 1024];
    let length = lines.as_mut().map_or(Ok(0), |pipe| pipe.read(&mut buffer))?;
    if length > 0 {
        let text = String::from_utf8_lossy(&buffer[..length]);
        writeln!(stdout(), "{}", text.trim_end())?;
    }
    Ok(length > 0)
}
