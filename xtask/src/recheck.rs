//! `cargo xtask demo --recheck DIR`: judges what an earlier run has written down,
//! and draws it again.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::event::{Event, What};
use crate::performance::run_name;
use crate::report::{EVENTS, TWIN, Told};
use crate::scenarios::{ALL, Scenario};
use crate::{procfs, ps};

/// Why the recordings cannot be judged.
pub(crate) enum Failure {
    Missing(String),
    Malformed(String),
}

/// Reads the recordings of these scenarios in the folder, or of all that are there.
pub(crate) fn read(folder: &Path, names: &[String]) -> Result<Vec<Told>, Failure> {
    let all = is_about_all(names);
    let wanted = |scenario: &&Scenario| {
        names.iter().any(|name| name == scenario.name)
            || (all && folder.join(scenario.name).is_dir())
    };
    let told: Vec<Told> = ALL
        .iter()
        .filter(wanted)
        .map(|scenario| read_scenario(folder, scenario))
        .collect::<Result<_, _>>()?;
    if told.is_empty() {
        return Err(Failure::Missing(format!(
            "there is no folder of a scenario in {}; `cargo xtask demo all --report {0}` makes them",
            folder.display()
        )));
    }
    Ok(told)
}

/// Whether these names mean whatever has been recorded.
pub(crate) fn is_about_all(names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|name| name == "all")
}

fn read_scenario(folder: &Path, scenario: &'static Scenario) -> Result<Told, Failure> {
    let folder = folder.join(scenario.name);
    let own = read_run(&folder, &run_name(scenario.name, false))?;
    let twins = match scenario.twin {
        Some(_) => read_run(&folder.join(TWIN), &run_name(scenario.name, true))?,
        None => Vec::new(),
    };
    Ok(Told::new(scenario, own, twins))
}

fn read_run(folder: &Path, run: &str) -> Result<Vec<Event>, Failure> {
    let path = folder.join(EVENTS);
    let text = fs::read_to_string(&path).map_err(|error| {
        let why = format!("cannot read {}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::InvalidData => Failure::Malformed(why),
            _ => Failure::Missing(why),
        }
    })?;
    let mut events: Vec<Event> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let event = read_event(line, run, events.last()).map_err(|why| {
            Failure::Malformed(format!("{}, line {}: {why}", path.display(), index + 1))
        })?;
        events.push(event);
    }
    let place = path.display();
    match events.last().map(|event| &event.what) {
        Some(What::End { .. } | What::Failed { .. }) => Ok(events),
        Some(_) => Err(Failure::Malformed(format!(
            "{place} is cut off: its last event is not the end of the run"
        ))),
        None => Err(Failure::Malformed(format!("{place} holds no events"))),
    }
}

/// An event of this run that can have come after `previous`, and says the same in all its parts.
fn read_event(line: &str, run: &str, previous: Option<&Event>) -> Result<Event, String> {
    let event: Event =
        serde_json::from_str(line).map_err(|error| format!("this is no event: {error}"))?;
    if event.scenario != run {
        return Err(format!(
            "this event is of {:?}, not {run:?}",
            event.scenario
        ));
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
    if !agrees_with_raw(&event.what) {
        return Err("the raw line of /proc says something else".to_owned());
    }
    if let What::Snapshot {
        text, exit_code, ..
    } = &event.what
        && !ps::is_picture(text, *exit_code)
    {
        return Err("ps has printed no picture, or its exit code says something else".to_owned());
    }
    Ok(event)
}

fn agrees_with_raw(what: &What) -> bool {
    match what {
        What::State {
            process,
            state,
            ppid,
            name,
            raw,
        } => procfs::parse_stat(raw.as_bytes()).is_some_and(|stat| {
            (stat.process, stat.state, stat.ppid) == (*process, *state, *ppid) && stat.name == *name
        }),
        _ => true,
    }
}
