//! Runs every scenario of the chapter and shows what the process table says: `cargo xtask demo all`.

#![forbid(unsafe_code)]

mod bench;
mod census;
mod claims;
mod company;
mod completions;
mod demo;
mod doctor;
mod event;
mod explain;
mod guarded;
mod hold;
mod interrupt;
mod lesson;
mod list;
mod loopback;
mod options;
mod outcome;
mod output;
mod performance;
mod procfs;
mod programs;
mod ps;
mod recheck;
mod record;
mod report;
mod scenarios;
mod soak;
mod stage;
mod threads;
mod tree;
mod verdict;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use options::{Options, Task};

fn main() -> ExitCode {
    reexec::register(performance::ENTRY, performance::run);
    reexec::register(programs::BUILD, programs::print);
    reexec::register(guarded::GUARD, guarded::guard);
    reexec::register(guarded::MEASURE, guarded::measure);
    reexec::register(doctor::ENTRY, || ExitCode::SUCCESS);
    reexec::register(soak::CONTROL, soak::control);
    if let Some(code) = reexec::init() {
        return code; // a process in which one run took place, the programs were built, or something was measured or soaked
    }
    interrupt::hear_of_children();
    output::respect_dumb_terminals();
    match Options::parse().task {
        Task::Demo(options) => demo::run(&options),
        Task::Watch(options) => watch::run(&options),
        Task::List => list::run(),
        Task::Explain(options) => explain::run(&options),
        Task::Doctor => doctor::run(),
        Task::Completions { shell } => completions::run(shell),
        Task::Bench(_) | Task::Soak(_) => guarded::run(),
    }
}
