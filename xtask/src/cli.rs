//! The command line.

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use xtask_bench_options::{Bench, Rolling, Soak};

use crate::cmd::completions::shells;
use crate::cmd::demo::Demo;
use crate::cmd::exercise::ExerciseOptions;
use crate::cmd::explain::Explain;
use crate::cmd::list::List;
use crate::cmd::watch::Watch;

/// Shows what the chapter says, on this machine.
///
/// Exit codes: 0 every claim held or was skipped, and no process was left; 1 otherwise, or if a run
/// could not go on; 2 usage, a recording that is malformed, or a folder for the report that contains
/// something else; 74 output cannot be written, 77 a required tool or permission is missing (a sentence
/// says which), 130 interrupted, also by q.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) task: Task,
}

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Run scenarios, and report for each claim whether it held
    Demo(Demo),
    Watch(Watch),
    /// List the scenarios of each section, or those that are about a word
    List(List),
    /// Explain a claim, a scenario, or what is about a word, in a screen
    ///
    /// A claim: what the chapter says, what holds here, the code to read. A scenario: what happens, the
    /// claims it shows, its control, how to see it by hand.
    Explain(Explain),
    Exercise(ExerciseOptions),
    /// Check for everything that xtask can use, and say how to get what is missing
    ///
    /// Exit codes: 0 the demo can run, perhaps only with --programs; 77 it cannot.
    Doctor,
    /// Print a script that lets a shell complete what is typed after `xtask`
    ///
    /// It defines `xtask` as `cargo xtask`: `eval "$(cargo xtask completions bash)"`, the same in
    /// zsh after `compinit`, or `cargo xtask completions fish | source`.
    Completions {
        #[arg(value_parser = shells())]
        shell: Shell,
    },
    #[command(subcommand)]
    Bench(Bench),
    Soak(Soak),
    Rolling(Rolling),
}
