//! The report as files.

use std::fs;
use std::io;
use std::path::Path;

use super::machine::Machine;
use super::story::Story;
use super::{Told, html, printable, terminal, text, timeline};
use crate::event::Event;

/// The page.
pub(crate) const INDEX: &str = "index.html";
/// What verdicts and pictures are made from.
pub(crate) const EVENTS: &str = "events.ndjson";
/// The folder of the twin, within that of its scenario.
pub(crate) const TWIN: &str = "twin";
pub(super) const TIMELINE: &str = "timeline.svg";
pub(super) const TRANSCRIPT: &str = "transcript.txt";

impl Told {
    /// Writes the scenario's folder anew: its recording and that of its twin, and what is made of
    /// them.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let scenarios = folder.join(self.scenario.name);
        match fs::remove_dir_all(&scenarios) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => record(&scenarios, &self.events)?,
        }
        if self.scenario.twin.is_some() {
            record(&scenarios.join(TWIN), &self.twins_events)?;
        }
        self.draw(folder)
    }

    /// Writes what is made of the recordings: verdicts, transcripts and pictures.
    fn draw(&self, folder: &Path) -> io::Result<()> {
        let name = self.scenario.name;
        let folder = folder.join(name);
        fs::write(folder.join("verdicts.ndjson"), ndjson(&self.verdicts)?)?;
        draw_run(&folder, name, &self.events)?;
        if let Some(twin) = &self.scenario.twin {
            let title = format!("{name}, twin: {}", twin.about);
            draw_run(&folder.join(TWIN), &title, &self.twins_events)?;
        }
        Ok(())
    }
}

/// Why no report may be written there, if so. The folders of scenarios are written anew, and somebody
/// may have one of such a name: the sources of `zombie`.
pub(crate) fn refuses(folder: &Path) -> Option<String> {
    let is_empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    let is_foreign = !is_empty && !Machine::is_noted(folder);
    is_foreign.then(|| {
        let folder = folder.display();
        format!("{folder} holds what no report has written; --report takes a new or empty folder")
    })
}

/// Notes that the folder is a report's, and takes away the page of an earlier one, which would be
/// wrong as soon as there are other recordings.
pub(crate) fn begin(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    Machine::here().write(folder)?;
    match fs::remove_file(folder.join(INDEX)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes the page that shows all of them.
pub(crate) fn write_index(folder: &Path, told: &[Told]) -> io::Result<()> {
    let machine = Machine::read(folder);
    fs::write(folder.join(INDEX), html::page(told, machine.as_ref()))
}

/// Writes everything but the recordings again, from which these were read; the page only if they
/// are `all` that there is, or it would lose the others.
pub(crate) fn redraw(folder: &Path, told: &[Told], all: bool) -> io::Result<()> {
    for scenario in told {
        scenario.draw(folder)?;
    }
    if all {
        write_index(folder, told)?;
    }
    Ok(())
}

/// The picture of a look at the process table.
pub(super) fn picture(number: usize) -> String {
    format!("ps-{number}.svg")
}

fn record(folder: &Path, events: &[Event]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(EVENTS), ndjson(events)?)
}

fn draw_run(folder: &Path, title: &str, events: &[Event]) -> io::Result<()> {
    fs::write(folder.join(TRANSCRIPT), plain_transcript(events))?;
    let picture_of_run = timeline::file(&Story::new(events), &printable(title));
    fs::write(folder.join(TIMELINE), picture_of_run)?;
    for look in terminal::looks(events) {
        fs::write(folder.join(picture(look.number)), look.file())?;
        fs::write(folder.join(format!("ps-{}.txt", look.number)), look.text())?;
    }
    Ok(())
}

pub(super) fn plain_transcript(events: &[Event]) -> String {
    let styled = text::transcript(events, usize::MAX);
    anstream::adapter::strip_str(&styled).to_string()
}

fn ndjson(values: &[impl serde::Serialize]) -> io::Result<String> {
    let mut out = String::new();
    for value in values {
        out += &serde_json::to_string(value)?;
        out.push('\n');
    }
    Ok(out)
}
