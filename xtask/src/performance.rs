//! The process in which one run takes place: told what to play, it sets the stage, plays, and
//! clears up.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::scenarios::{self, Clock, Scenario};
use crate::stage::{Stage, Stop};

/// The name of the entry, and so of the process in `ps`.
pub(crate) const ENTRY: &str = "xtask-stage";

/// What a stage process is told to play, as the first line of its stdin.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) scenario: String,
    pub(crate) twin: bool,
    pub(crate) speed: f64,
    /// Whether each moment lasts until a line comes in.
    pub(crate) pauses: bool,
    pub(crate) programs: BTreeMap<String, PathBuf>,
}

/// The entry.
pub(crate) fn run() -> ExitCode {
    match perform() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "xtask: {ENTRY}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform() -> io::Result<()> {
    let mut part = String::new();
    io::stdin().read_line(&mut part)?;
    let part: Part = serde_json::from_str(&part)?;
    let scenario = scenarios::find(&part.scenario)
        .ok_or_else(|| io::Error::other(format!("there is no scenario {:?}", part.scenario)))?;
    let mut stage = set(scenario, part)?;
    match (scenario.act)(&mut stage) {
        Ok(()) | Err(Stop::Missed | Stop::Ordered) => {}
        Err(Stop::Skipped(why)) => stage.skipped(why),
        Err(Stop::Failed(why)) => stage.failed(why),
    }
    stage.end();
    Ok(())
}

fn set(scenario: &Scenario, part: Part) -> io::Result<Stage> {
    let clock = Clock { speed: part.speed };
    // Twice the time it should take, and time for a busy machine.
    let limit = Duration::from_secs_f64(scenario.seconds / part.speed * 2.0 + 20.0);
    let (program, args) = match &scenario.twin {
        Some(twin) if part.twin => (twin.program, twin.args),
        _ => (scenario.program, scenario.args),
    };
    Stage::new(
        &run_name(&part.scenario, part.twin),
        part.programs,
        program,
        args(clock),
        limit,
        clock,
        part.pauses,
    )
}

/// What the events of a run are marked with.
pub(crate) fn run_name(scenario: &str, twin: bool) -> String {
    if twin {
        format!("{scenario}/twin")
    } else {
        scenario.to_owned()
    }
}
