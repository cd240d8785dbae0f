//! The subcommands: a file for each.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod exercise;
pub(crate) mod explain;
pub(crate) mod list;
mod practice;
pub(crate) mod watch;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{NonEmptyStringValueParser, PossibleValue, TypedValueParser};
use clap::{Arg, Args, ColorChoice};
use nix::sys::prctl;

use crate::model::bilingual::Language;
use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::runner::Runner;
use crate::runner::programs::Wanted;
use crate::scenarios::{self, ledger};
use crate::worker::cleanup;

/// For whom a text is printed.
#[derive(Args)]
pub(crate) struct Reader {
    /// en or zh; by default as LC_ALL, LC_MESSAGES or LANG says
    #[arg(long, value_name = "LANGUAGE", value_parser = language)]
    lang: Option<Language>,
}

impl Reader {
    pub(crate) fn language(&self) -> Language {
        self.lang.unwrap_or_else(Language::of_environment)
    }
}

fn language(name: &str) -> Result<Language, String> {
    Language::named(name).ok_or_else(|| "neither en nor zh".to_owned())
}

/// Accepts any word, and lets a shell complete those that name a claim or a scenario.
#[derive(Clone)]
pub(crate) struct Topics;

impl TypedValueParser for Topics {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        NonEmptyStringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let claims = ledger::ALL.iter().map(|claim| claim.id);
        let names = claims.chain(scenarios::all().map(|scenario| scenario.name));
        Some(Box::new(names.chain(["all"]).map(PossibleValue::new)))
    }
}

/// The options of what runs scenarios.
#[derive(Args)]
pub(crate) struct Running {
    /// How much faster than in the chapter the programs sleep, 0.1 to 20; less where a state would
    /// be over before ps has listed it
    #[arg(long, value_name = "FACTOR", default_value_t = Clock::default().speed, value_parser = speed)]
    speed: f64,

    /// Sleep as long as in the chapter
    #[arg(long, conflicts_with = "speed")]
    real_time: bool,

    /// Colours; by default on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t, display_order = 20)]
    color: ColorChoice,

    /// Take the programs from this folder; without it, cargo builds them, for the target and in the
    /// profile of xtask
    #[arg(long, value_name = "DIR", display_order = 23)]
    programs: Option<PathBuf>,
}

impl Running {
    pub(crate) fn runner(&self) -> Result<Runner, Failure> {
        let speed = if self.real_time { 1.0 } else { self.speed };
        let folder = self.programs.as_ref().map(OsString::from);
        Runner::new(Clock { speed }, Wanted { folder, answer: None })
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.1..=20.0).contains(&speed) { Ok(speed) } else { Err("not between 0.1 and 20".to_owned()) }
}

/// The exit code of a command: 0 for true, `if_false` for false, or that of the failure, which is
/// printed on stderr.
pub(crate) fn exit(result: Result<bool, Failure>, if_false: u8) -> ExitCode {
    let failure = match result {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => return ExitCode::from(if_false),
        Err(failure) => failure,
    };
    let left = clear_up(); // a command that has a result has cleared up already
    let code = failure.exit_code();
    let left = match failure {
        Failure::Interrupted => format!("; {left} processes left"),
        _ => String::new(),
    };
    let _ = writeln!(io::stderr(), "xtask: {}{left}", failure.sentence());
    ExitCode::from(code)
}

/// Ends the processes that are left of the runs, which should be none, and counts those that cannot be
/// ended. If there are any, prints why on stderr.
///
/// This process is a subreaper: if a worker was killed, it has adopted what that had started. Before it
/// has become one, it has started nothing that could be left; its children are then somebody else's.
pub(crate) fn clear_up() -> usize {
    if !prctl::get_child_subreaper().unwrap_or(true) {
        return 0;
    }
    let Some(left) = cleanup::kill_and_reap_all() else {
        return 0;
    };
    let _ = writeln!(io::stderr(), "xtask: {}", left.why);
    left.processes
}
