//! Runs every scenario of the chapter and shows what the process table says: `cargo xtask demo all`.
//!
//! The modules are layers. Each imports only modules above it, which `tests/layers.rs` checks. (Without
//! the blank lines, rustfmt would sort them.)

#![forbid(unsafe_code)]

mod model;

mod probe;

mod worker;

mod evidence;

mod scenarios;

mod exercises;

mod verdict;

mod runner;

mod view;

mod cmd;

mod cli;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use cli::{Options, Task};
use model::failure::{EXIT_FAILED, EXIT_MISSING};

fn main() -> ExitCode {
    reexec::register(runner::job::ENTRY, runner::job::work);
    reexec::register(cmd::bench::GUARD, cmd::bench::guard);
    reexec::register(cmd::bench::CARGO, cmd::bench::become_cargo);
    reexec::register(probe::need::ENTRY, || ExitCode::SUCCESS);
    if let Some(code) = reexec::init() {
        return code; // one of these processes has done its work
    }
    runner::interrupt::stop_ignoring_sigchld();
    view::output::respect_dumb_terminals();
    let result = match Options::parse().task {
        Task::Demo(options) => cmd::demo::run(&options),
        Task::Watch(options) => cmd::watch::run(&options),
        Task::List(options) => cmd::list::run(&options),
        Task::Explain(options) => cmd::explain::run(&options),
        Task::Exercise(options) => cmd::exercise::run(&options),
        Task::Doctor => return cmd::exit(cmd::doctor::run(), EXIT_MISSING),
        Task::Completions { shell } => cmd::completions::run(shell, Options::command()),
        Task::Bench(_) | Task::Soak(_) | Task::Rolling(_) => return cmd::bench::run(),
    };
    cmd::exit(result, EXIT_FAILED)
}
