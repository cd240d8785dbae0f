//! The chapter's echo server, `echo_mpserv.c`, which its Go edition left out.
//!
//! `cargo run -p echo-server`, and `nc 127.0.0.1 9190` in other terminals.

#![forbid(unsafe_code)]

mod backoff;
mod listener;
mod log;
mod options;
mod supervisor;
mod worker;

use std::io::{self, Write};
use std::net::TcpListener;
use std::process::{self, ExitCode};

use clap::Parser;
use log::log;
use nix::unistd::{Pid, setpgid};
use options::{Model, Options};
use supervisor::{Role, Supervisor};

const EXIT_CUT_OFF: u8 = 1;
const EXIT_USAGE: u8 = 2; // as clap
const EXIT_CANNOT_LISTEN: u8 = 69; // EX_UNAVAILABLE
const EXIT_INTERNAL: u8 = 70; // EX_SOFTWARE

fn main() -> ExitCode {
    let options = Options::parse();
    // Whatever we were started with, workers are to have nothing but stdio and a connection.
    if let Err(error) = reexec::clean_start() {
        return fail(EXIT_INTERNAL, &error);
    }
    let listener = match listener::open(&options.address) {
        Ok(listener) => listener,
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return fail(EXIT_USAGE, &error);
        }
        Err(error) => return fail(EXIT_CANNOT_LISTEN, &error),
    };
    match serve(listener, &options) {
        Ok(code) => code,
        Err(error) => fail(EXIT_INTERNAL, &error),
    }
}

fn serve(listener: TcpListener, options: &Options) -> io::Result<ExitCode> {
    let address = listener.local_addr()?;
    let supervisor = Supervisor::new(listener, options.max_children, options.drain_timeout)?;
    let Model::Fork = options.model;
    announce(&format!(
        "listening on {address} (fork, pid {})",
        process::id()
    ))?;

    match supervisor.run()? {
        Role::Worker(connection) => {
            // Out of the terminal's foreground group: Ctrl-C is for the supervisor, which lets us
            // finish.
            setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
            worker::echo(connection).map(|()| ExitCode::SUCCESS)
        }
        Role::Supervisor { drained: true } => Ok(ExitCode::SUCCESS),
        Role::Supervisor { drained: false } => Ok(ExitCode::from(EXIT_CUT_OFF)),
    }
}

/// After this line a client can connect, and TERM is taken.
fn announce(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
        .and_then(|()| io::stdout().flush())
        .map_err(|error| io::Error::new(error.kind(), format!("cannot write to stdout: {error}")))
}

fn fail(code: u8, error: &io::Error) -> ExitCode {
    log(format_args!("{error}"));
    ExitCode::from(code)
}
