//! The report as files.

use std::fs;
use std::io;
use std::path::Path;

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
    /// Writes the scenario's folder anew: its events, its transcript and its pictures; and those
    /// of its twin in a folder within.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let name = self.scenario.name;
        let folder = folder.join(name);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => write_run(&folder, name, &self.events)?,
        }
        fs::write(folder.join("verdicts.ndjson"), ndjson(&self.verdicts)?)?;
        if let Some(twin) = &self.scenario.twin {
            let title = format!("{name}, twin: {}", twin.about);
            write_run(&folder.join(TWIN), &title, &self.twins_events)?;
        }
        Ok(())
    }
}

/// Writes the page that shows all of them.
pub(crate) fn write_index(folder: &Path, told: &[Told]) -> io::Result<()> {
    fs::write(folder.join(INDEX), html::page(told))
}

/// The picture of a look at the process table.
pub(super) fn picture(number: usize) -> String {
    format!("ps-{number}.svg")
}

fn write_run(folder: &Path, title: &str, events: &[Event]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(EVENTS), ndjson(events)?)?;
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
