//! What `cargo xtask bench`, `soak` and `rolling` run, after they have compiled it in release.
//!
//! Started by xtask it has a guard, which ends whatever is left of it.

#![forbid(unsafe_code)]

mod output;

mod programs;

mod process;

mod load;

mod servers;

mod plot;

mod measure;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nix::sys::prctl;
use xtask_bench_options::{Bench, Fault, Rolling, Soak};

use crate::output::{Failure, say};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    #[command(subcommand)]
    Bench(Bench),
    Soak(Soak),
    Rolling(Rolling),
    /// The server with a fault that a soak starts as its control
    #[command(hide = true)]
    Control {
        fault: Fault,
    },
}

fn main() -> ExitCode {
    let Err(failure) = run(&Options::parse().task) else {
        return ExitCode::SUCCESS;
    };
    say(&format!("xtask: {}", failure.why));
    ExitCode::from(failure.exit_code)
}

fn run(task: &Task) -> Result<(), Failure> {
    if let Task::Control { fault } = task {
        return servers::control::serve(*fault).map_err(|error| Failure::failed(error.to_string()));
    }
    // What a server leaves behind comes to us, and we end it.
    prctl::set_child_subreaper(true)
        .map_err(|error| Failure::missing(format!("cannot become a subreaper: {error}")))?;
    match task {
        Task::Bench(Bench::Spawn(options)) => measure::spawn::run(options),
        Task::Bench(Bench::Echo(options)) => measure::echo::run(options),
        Task::Soak(options) => measure::soak::run(options),
        Task::Rolling(options) => measure::rolling::run(options),
        Task::Control { .. } => Ok(()),
    }
}
