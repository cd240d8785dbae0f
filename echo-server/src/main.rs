//! The echo server's program; the library beside it does the work.
//!
//! `cargo run -p echo-server`, and `nc 127.0.0.1 9190` in other terminals.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use echo_server::Options;

fn main() -> ExitCode {
    // A worker of the model `reexec` is this program, executed again: `init` runs it.
    reexec::register(echo_server::WORKER, echo_server::worker);
    if let Some(code) = reexec::init() {
        return code;
    }
    let options = Options::parse();
    echo_server::run(&options)
}
