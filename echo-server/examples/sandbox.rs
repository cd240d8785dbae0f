//! Shows what an attacker can do in a worker of the server. Enters the sandbox of `src/ops/sandbox/`, as
//! a worker does, and tries what a worker does not need.
//!
//! `cargo run -p echo-server --example sandbox`, and then with `--sandbox off`.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode};

use clap::Parser;
use echo_server::{Mode, Model, Sandbox};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::tcgetattr;
use nix::unistd::{Pid, close, pause};
use reexec::Fork;

/// Tries what a worker of the echo server does not need: to open a file, to make a socket, to start a
/// program, to signal a process beside it, to reach into the terminal, to make the supervisor wait
/// when it logs.
///
/// Exit codes: 0 tried, 1 failed (stderr tells why), 2 wrong usage.
#[derive(Parser)]
struct Options {
    /// The server's option of the same name
    #[arg(long, value_enum, default_value_t = Mode::Try)]
    sandbox: Mode,

    /// Which model's worker
    #[arg(long, value_enum, default_value_t = Model::Fork)]
    model: Model,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<ExitCode> {
    let sandbox = Sandbox::new(options.sandbox, options.model)?;
    let terminal = openpty(None, None)?; // as stderr may be one
    let sibling = match reexec::fork()? {
        Fork::Child => {
            pause();
            return Ok(ExitCode::SUCCESS);
        }
        Fork::Parent(sibling) => sibling,
    };
    match reexec::fork()? {
        Fork::Child => {
            // A descriptor gets the lowest number that is free: this socket is our stderr now.
            close(libc::STDERR_FILENO)?;
            let (stderr, _reader) = UnixStream::pair()?;
            for missing in sandbox.enter()? {
                say(&format!("without {missing}"))?;
            }
            try_everything(Pid::from_raw(sibling.id().cast_signed()), &terminal.slave)?;
            report("make writes to stderr wait", stderr.set_nonblocking(false))?;
            Ok(ExitCode::SUCCESS)
        }
        // Only we are outside of the sandbox, and can wait for processes and end them.
        Fork::Parent(worker) => {
            let is_fine = worker.wait()?.success();
            Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    } // the sibling is killed here, if the worker has not done it
}

fn try_everything(sibling: Pid, terminal: &OwnedFd) -> io::Result<()> {
    report("open a file", File::open("/etc/passwd"))?;
    report("make a socket", TcpListener::bind("127.0.0.1:0"))?;
    report("start a program", Command::new("true").status())?;
    report("signal a sibling", kill(sibling, Signal::SIGTERM).map_err(io::Error::from))?;
    report("ask a terminal", tcgetattr(terminal).map_err(io::Error::from))
}

fn report<T>(attempt: &str, result: io::Result<T>) -> io::Result<()> {
    match result {
        Ok(_) => say(&format!("{attempt}: done")),
        Err(error) => say(&format!("{attempt}: {error}")),
    }
}

/// `println!` would panic if nobody reads our output any more (`| head -1`).
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
