//! The command line.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::scenarios::{ALL, Clock};
use crate::{bench, claims};

/// Shows what the chapter says, on this machine.
///
/// Exit codes: 0 every claim held or was skipped, and no process was left; 1 not so, or a run could
/// not go on; 2 usage, a recording that is malformed, or a folder for the report that holds something
/// else; 74 output cannot be written, 77 something is missing that it takes (a sentence says what),
/// 130 interrupted.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) task: Task,
}

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Run scenarios, and say of each claim whether it held
    Demo(Demo),
    Watch(Watch),
    /// List the scenarios: what each shows, how long it takes, what it needs
    List,
    /// Say what is behind a claim: what the chapter says, what holds, and where to look
    Explain(Explain),
    /// Look for what all this takes, and say how to get what is missing
    ///
    /// Exit codes: 0 the demo can run, 77 it cannot.
    Doctor,
    /// Print a script that lets a shell complete what is typed after `xtask`
    ///
    /// It defines `xtask` as `cargo xtask`: `eval "$(cargo xtask completions bash)"`, the same in
    /// zsh after `compinit`, or `cargo xtask completions fish | source`.
    Completions {
        shell: Shell,
    },
    /// Measure times beside those of rivals, in the same run
    #[command(subcommand)]
    Bench(Bench),
    Soak(Soak),
}

#[derive(Args)]
pub(crate) struct Explain {
    /// Which claims, such as C29; or all
    #[arg(required = true, value_name = "CLAIM", ignore_case = true, hide_possible_values = true,
          value_parser = claim_ids())]
    pub(crate) claims: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum Bench {
    /// From the spawn of a child that does nothing until it is reaped, by parents of several sizes
    Spawn(BenchSpawn),
    Echo(BenchEcho),
}

#[derive(Args)]
pub(crate) struct BenchSpawn {
    /// The results as NDJSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// Where to draw the plot; by default bench/spawn.svg in cargo's target folder
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

/// Echo servers, ours and rivals: new connections, messages, bulk, and the memory of idle connections
///
/// One process connects to one server at a time, on this machine, and compares every byte. What is
/// measured: sessions (connect, 24 bytes there and back, half-close, end of stream) by 32 clients at
/// once; messages of 24 bytes there and back on 16 connections; a stream on one connection; the
/// memory for each of 1,000 idle connections, as the PSS of all processes of the server, where a
/// page that several share counts as one: what the kernel needs for them is not in it. Then it looks
/// for zombies, descriptors and processes that are left. Our limits that no rival has are off, and
/// so is the sandbox but for `fork-sandboxed`; `prefork` has a worker for each of the 1,000.
///
/// Exit codes: 0 all is measured, also if a ratio misses its target, and if a rival fails or is
/// missing; 1 one of our servers fails (an error of a connection, 1,000 of them not held, an option
/// it does not know), anyone sends back other bytes, or a process is left; 2 usage, 74 output cannot
/// be written, 77 something is missing that it takes, 130 interrupted.
#[derive(Args)]
pub(crate) struct BenchEcho {
    /// Which servers; by default all
    #[arg(value_name = "SERVER", value_parser = bench::server_names())]
    pub(crate) servers: Vec<String>,

    /// How many times each server has its turn; medians are told
    #[arg(long, value_name = "N", default_value = "5", value_parser = rounds)]
    pub(crate) rounds: usize,

    /// How long each of the three rates is measured in a turn
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = length)]
    pub(crate) seconds: f64,

    /// The results as NDJSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    /// Where to draw the pictures; by default bench in cargo's target folder
    #[arg(long, value_name = "DIR")]
    pub(crate) svg: Option<PathBuf>,
}

/// Load the echo server for minutes, kill its workers, upgrade and resize it, and count what is lost
///
/// Each model has its turn. Clients of many kinds run at the same time: short and long streams,
/// crowds, slow readers, slow writers, idle ones, and some that vanish. They compare every byte.
/// Meanwhile workers are killed (SIGKILL) at random moments, and the server gets USR2, TTIN, TTOU and
/// USR1. Every 20 s the load stops, and processes, descriptors and memory are compared with those of
/// the first such rest. At the end the server gets TERM.
///
/// A model fails if: a stream ended cleanly but incompletely (silent loss); a byte was wrong; a
/// session ended in an error that no killed worker explains; a zombie stayed for longer than 1 s; at
/// a rest there were other numbers of processes or descriptors than at the first, or more memory
/// than 1.5 times that of the first and 2 MiB; an upgrade did not succeed within 40 s; a server
/// ended with another status than 0, or 1 after a worker was killed while it drained; or a process
/// was left.
///
/// A killed worker explains errors of sessions that were open when it was killed: one of them with
/// fork, reexec and prefork, all of them with thread and multiplex. Sessions that began up to 1 s
/// later count as open, because a process may go on for a moment after SIGKILL was sent.
///
/// Exit codes: 0 no model failed, 1 one did, 2 usage, 74 output cannot be written, 77 a required tool
/// or permission is missing, 130 interrupted.
#[derive(Args)]
pub(crate) struct Soak {
    /// Which models; by default all
    #[arg(value_name = "MODEL")]
    pub(crate) models: Vec<Model>,

    /// How long the load lasts, for each model; the rests come on top
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = soak_length)]
    pub(crate) seconds: f64,

    /// Chooses sizes, pauses and moments; by default another one each time, which is printed
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    /// Soak a small server that loses a byte now and then, to prove that it is noticed: exit code 1
    #[arg(long, conflicts_with = "models")]
    pub(crate) control: bool,

    /// The results as NDJSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// The models of the echo server, as on its command line.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Model {
    Fork,
    Reexec,
    Prefork,
    Thread,
    Multiplex,
}

/// Run scenarios side by side, and say of each claim whether it held.
#[derive(Args)]
pub(crate) struct Demo {
    /// Which scenarios; `cargo xtask list` tells of each
    #[arg(required_unless_present = "recheck", value_name = "SCENARIO", value_parser = scenario_names())]
    pub(crate) scenarios: Vec<String>,

    #[command(flatten)]
    pub(crate) pace: Pace,

    /// Stop at each moment: print numbers and commands to paste into another terminal, and go on
    /// at Enter; needs a terminal
    ///
    /// One scenario after another. Who lives is held by SIGSTOP until then, and sleeps afterwards
    /// for what was left of its sleep. At the end of input, it goes on without stopping.
    #[arg(long, conflicts_with_all = ["json", "recheck"])]
    pub(crate) pause: bool,

    /// Ask at each moment what state processes are in, before showing it, and keep score; needs a
    /// terminal
    #[arg(long, conflicts_with_all = ["json", "recheck"])]
    pub(crate) predict: bool,

    /// Events and verdicts as NDJSON on stdout; what is for people goes to stderr
    #[arg(long)]
    pub(crate) json: bool,

    /// Colours; by default on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,

    /// Where to write down what happened, a folder for each scenario: a new or empty folder, or that of
    /// an earlier report, whose page and folders of these scenarios are replaced; by default demo in
    /// cargo's target folder
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,

    /// Run nothing: judge again what an earlier run has recorded in this folder, and draw its
    /// pictures again; and its page, if no scenario is named
    #[arg(long, value_name = "DIR", conflicts_with_all = ["speed", "real_time", "report", "programs"])]
    pub(crate) recheck: Option<PathBuf>,

    /// Take the programs from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    pub(crate) programs: Option<PathBuf>,
}

impl Demo {
    /// Whether somebody is to look, or to answer, while it runs.
    pub(crate) fn is_lesson(&self) -> bool {
        self.pause || self.predict
    }
}

/// Run a scenario, and show its processes as they come, change and go
///
/// A line for each change, and on a terminal the tree of processes below, drawn over again. Marked
/// are zombies.
///
/// Exit codes: 0 the story came to its end (that of a twin need not), 1 it did not, and those of
/// demo.
#[derive(Args)]
pub(crate) struct Watch {
    /// Which scenario; `cargo xtask list` tells of each
    #[arg(value_parser = PossibleValuesParser::new(ALL.iter().map(|scenario| scenario.name)))]
    pub(crate) scenario: String,

    /// Run its twin instead: the same without what the claims are about
    #[arg(long)]
    pub(crate) twin: bool,

    #[command(flatten)]
    pub(crate) pace: Pace,

    /// Colours; by default on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,

    /// Take the programs from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    pub(crate) programs: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Pace {
    /// How much faster than in the chapter the programs sleep, 0.1 to 20; less where a moment would
    /// be over before ps can look
    #[arg(long, value_name = "FACTOR", default_value_t = Clock::default().speed, value_parser = speed)]
    speed: f64,

    /// Sleep as long as in the chapter
    #[arg(long, conflicts_with = "speed")]
    real_time: bool,
}

impl Pace {
    pub(crate) fn clock(&self) -> Clock {
        Clock {
            speed: if self.real_time { 1.0 } else { self.speed },
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

fn scenario_names() -> PossibleValuesParser {
    ["all"]
        .into_iter()
        .chain(ALL.iter().map(|scenario| scenario.name))
        .collect::<Vec<_>>()
        .into()
}

fn claim_ids() -> PossibleValuesParser {
    let ids = claims::ALL.iter().map(|statement| statement.id);
    ids.chain(["all"]).collect::<Vec<_>>().into()
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.1..=20.0).contains(&speed) {
        Ok(speed)
    } else {
        Err("not between 0.1 and 20".to_owned())
    }
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rounds @ 1..=1_000) => Ok(rounds),
        _ => Err("not between 1 and 1,000".to_owned()),
    }
}

fn length(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("not between 0.1 and 60".to_owned()),
    }
}

fn soak_length(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (1.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("not between 1 and 86,400".to_owned()),
    }
}
