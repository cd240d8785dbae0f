//! The recording of a scenario: the events of its run and of its control, each in a file.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::model::event::{Event, What};
use crate::model::failure::Failure;
use crate::probe::ps;
use crate::runner::job::run_name;
use crate::scenarios::{self, Scenario};
use crate::verdict::result::ScenarioResult;

/// The file that verdicts and everything on the page are made from.
pub(crate) const EVENTS: &str = "events.ndjson";
/// The folder of the control, within that of its scenario.
pub(crate) const CONTROL: &str = "control";

/// Writes the folder of the scenario anew, with the recordings in it.
pub(crate) fn write(folder: &Path, result: &ScenarioResult) -> io::Result<()> {
    let folder = folder.join(result.scenario.name);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => write_run(&folder, &result.events)?,
    }
    match result.scenario.has_control() {
        true => write_run(&folder.join(CONTROL), &result.control_events),
        false => Ok(()),
    }
}

fn write_run(folder: &Path, events: &[Event]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(EVENTS), ndjson(events)?)
}

pub(crate) fn ndjson(values: &[impl serde::Serialize]) -> io::Result<String> {
    values.iter().map(|value| Ok(serde_json::to_string(value)? + "\n")).collect()
}

/// Reads the recordings of these scenarios in the folder, or of all that are there, and judges them.
pub(crate) fn read(folder: &Path, names: &[String]) -> Result<Vec<ScenarioResult>, Failure> {
    let all = is_about_all(names);
    let wanted = |scenario: &&'static Scenario| {
        names.iter().any(|name| name == scenario.name)
            || (all && folder.join(scenario.name).is_dir())
    };
    let results: Vec<ScenarioResult> = scenarios::all()
        .filter(wanted)
        .map(|scenario| read_scenario(folder, scenario))
        .collect::<Result<_, _>>()?;
    if results.is_empty() {
        return Err(Failure::Missing(format!(
            "there is no folder of a scenario in {}; `cargo xtask demo all --report {0}` makes them",
            folder.display()
        )));
    }
    Ok(results)
}

/// Whether these names mean whatever has been recorded.
pub(crate) fn is_about_all(names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|name| name == "all")
}

fn read_scenario(folder: &Path, scenario: &'static Scenario) -> Result<ScenarioResult, Failure> {
    let folder = folder.join(scenario.name);
    let own = read_run(&folder, &run_name(scenario.name, false))?;
    let control = match scenario.has_control() {
        true => read_run(&folder.join(CONTROL), &run_name(scenario.name, true))?,
        false => Vec::new(),
    };
    Ok(ScenarioResult::new(scenario, own, control))
}

fn read_run(folder: &Path, run: &str) -> Result<Vec<Event>, Failure> {
    let path = folder.join(EVENTS);
    let text = fs::read_to_string(&path).map_err(|error| {
        let why = format!("cannot read {}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::InvalidData => Failure::Refused(why),
            _ => Failure::Missing(why),
        }
    })?;
    let mut events: Vec<Event> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let event = read_event(line, run, events.last()).map_err(|why| {
            Failure::Refused(format!("{}, line {}: {why}", path.display(), index + 1))
        })?;
        events.push(event);
    }
    let place = path.display();
    match events.last().map(|event| &event.what) {
        Some(What::End { .. } | What::Failed { .. }) => Ok(events),
        Some(_) => Err(Failure::Refused(format!(
            "{place} is cut off: its last event is not the end of the run"
        ))),
        None => Err(Failure::Refused(format!("{place} has no events"))),
    }
}

/// Parses an event of this run that can have come after `previous`.
fn read_event(line: &str, run: &str, previous: Option<&Event>) -> Result<Event, String> {
    let event: Event = serde_json::from_str(line).map_err(|error| {
        format!("this is no event: {error}; if an older xtask has recorded it, record it again")
    })?;
    if event.scenario != run {
        let scenario = event.scenario;
        return Err(format!("this event is of {scenario:?}, not {run:?}"));
    }
    if Duration::try_from_secs_f64(event.t).is_err() {
        return Err("its time is none".to_owned());
    }
    if previous.is_some_and(|previous| event.t < previous.t) {
        return Err("this event is earlier than the one before it".to_owned());
    }
    if event.source != event.what.source() {
        return Err("an event of this kind has another source".to_owned());
    }
    if let What::Snapshot(snapshot) = &event.what
        && !ps::is_complete(snapshot)
    {
        return Err("ps has printed no table, or its exit code contradicts it".to_owned());
    }
    Ok(event)
}
