//! The server with another protocol. These are the modules of `src/lib.rs`, in the same order, but
//! `protocol.rs` is the one beside this file. YOUR-PROTOCOL.md explains it.
//!
//! `cargo run -p echo-server --example line-server`, and `nc 127.0.0.1 9190` in other terminals.

#![forbid(unsafe_code)]
#![allow(unreachable_pub, reason = "the library exports some of it")]

#[allow(dead_code, reason = "some of it is for the client")]
#[path = "../../src/exit.rs"]
mod exit;

#[path = "../../src/log/mod.rs"]
mod log;

#[path = "../../src/options.rs"]
mod options;

#[path = "../../src/signals.rs"]
mod signals;

#[path = "../../src/poll.rs"]
mod poll;

mod protocol;

#[path = "../../src/session/mod.rs"]
mod session;

#[path = "../../src/ops/mod.rs"]
mod ops;

#[path = "../../src/server/mod.rs"]
mod server;

#[path = "../../src/worker/mod.rs"]
mod worker;

#[path = "../../src/run.rs"]
mod run;

use std::process::ExitCode;

use clap::Parser;
use options::Options;

fn main() -> ExitCode {
    reexec::register(worker::terms::ENTRY, worker::run);
    if let Some(code) = reexec::init() {
        return code;
    }
    run::run(&Options::parse())
}
