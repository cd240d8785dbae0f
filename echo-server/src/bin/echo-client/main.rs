//! The client of the chapter's C edition, `echo_mpclient.c`, which splits its input and output over
//! two processes: the parent receives, the child sends.
//!
//! `cargo run -p echo-server --bin echo-client`, while `cargo run -p echo-server` runs in another
//! terminal.

#![forbid(unsafe_code)]

mod blocking;
mod connect;
mod failure;
mod input;
mod one_process;
mod options;
mod screen;
mod sender;
mod split;
mod tally;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use failure::{Failure, cannot};
use input::Input;
use options::Options;
use screen::Screen;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

/// Runs the client. Returns in both processes, if there are two: the child's result becomes its exit code.
fn run(options: &Options) -> Result<(), Failure> {
    // A careless launcher may have ignored SIGCHLD. Then we would not learn how our child ends.
    reexec::start_clean().map_err(cannot("close what our launcher has left open"))?;
    let input = Input::of_stdin().map_err(cannot("use stdin"))?;
    let screen = Screen::on_stdout().map_err(cannot("use stdout"))?;
    let connection = connect::to(&options.address)?;

    if options.one_process {
        one_process::run(&connection, input, screen, options.stall_timeout)
    } else {
        split::run(&connection, input, screen)
    }
}

fn report(failure: &Failure) -> ExitCode {
    if let Some(message) = &failure.message {
        let _ = writeln!(io::stderr(), "echo-client: {message}");
    }
    ExitCode::from(failure.code)
}
