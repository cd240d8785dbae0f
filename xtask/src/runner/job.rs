//! What a worker process is asked to do, and the worker's side of that.
//!
//! A job is one line of JSON on the worker's stdin. The worker answers with lines of JSON on its stdout.
//! An empty line on stdin means "go on" to a run that pauses, the end of stdin means "stop".

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::exercises;
use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::probe::procfs::MANY;
use crate::runner::programs::{self, Wanted};
use crate::scenarios::{self, Scenario};
use crate::worker::Worker;

/// The name of the entry, and so of the process in `ps`.
pub(crate) const ENTRY: &str = "xtask-worker";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Build the programs, or find them, and print where each is. In a process of its own, as we block
    /// signals meanwhile, which cargo must not inherit.
    Build(Wanted),
    /// Run a scenario, and print its events.
    Run(Run),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) scenario: String,
    pub(crate) control: bool,
    pub(crate) speed: f64,
    /// How many times as slow as at this speed, after a run in which looks came too late.
    pub(crate) slowness: u32,
    /// Whether it pauses at each snapshot.
    pub(crate) pauses: bool,
    /// See [`Scenario::command`].
    pub(crate) number: Option<u32>,
    pub(crate) programs: BTreeMap<String, OsString>,
}

/// The entry.
pub(crate) fn work() -> ExitCode {
    match take_job() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "xtask: {ENTRY}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn take_job() -> io::Result<()> {
    let mut job = String::new();
    io::stdin().read_line(&mut job)?;
    match serde_json::from_str(&job)? {
        Job::Build(wanted) => {
            let programs = programs::locate(&wanted);
            writeln!(io::stdout(), "{}", serde_json::to_string(&programs)?)
        }
        Job::Run(run) => {
            let exercise = exercises::find(&run.scenario).map(|exercise| &exercise.run);
            let scenario = scenarios::find(&run.scenario).or(exercise).ok_or_else(|| {
                io::Error::other(format!("there is no scenario {:?}", run.scenario))
            })?;
            if exercise.is_some() {
                limit_processes()?;
            }
            let mut worker = worker(scenario, run)?;
            let mut needs = scenario.needs.iter();
            let result = needs
                .try_for_each(|need| need.require())
                .map_err(Failure::Missing)
                .and_then(|()| (scenario.act)(&mut worker));
            if let (Some(_), Err(Failure::Missed(_))) = (exercise, &result) {
                // What hinders the answer of a learner? If there is no snapshot, the run says why.
                let _ = worker.snapshot(exercises::GIVEN_UP);
            }
            worker.end(result);
            Ok(())
        }
    }
}

/// Limits the processes of this user to few more than there are threads on the machine: an answer that
/// forks for ever must not fill it before we have noticed. For root, the kernel knows no such limit.
fn limit_processes() -> io::Result<()> {
    let load = fs::read_to_string("/proc/loadavg")?; // as in `0.20 0.18 0.12 1/80 11206`
    let threads = load.split(['/', ' ']).nth(4).and_then(|count| count.parse::<u64>().ok());
    let (_, most) = getrlimit(Resource::RLIMIT_NPROC)?;
    let limit = threads.map_or(most, |threads| most.min(threads + 4 * MANY as u64));
    Ok(setrlimit(Resource::RLIMIT_NPROC, limit, most)?)
}

fn worker(scenario: &Scenario, run: Run) -> io::Result<Worker> {
    let command = scenario.command(run.control, run.number);
    let mut clock = scenario.clock(Clock { speed: run.speed });
    clock.speed /= f64::from(run.slowness);
    // Twice the time it should take, and time for a busy machine.
    let limit = Duration::from_secs_f64(scenario.seconds / clock.speed * 2.0)
        + Duration::from_secs(20) * run.slowness;
    let name = run_name(&run.scenario, run.control);
    Worker::new(&name, run.programs, command, (clock, run.slowness), limit, run.pauses)
}

/// The name that the events of a run carry.
pub(crate) fn run_name(scenario: &str, control: bool) -> String {
    if control { format!("{scenario}/control") } else { scenario.to_owned() }
}
