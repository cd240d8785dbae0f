//! Writes the report.

use std::fs;
use std::io;
use std::path::Path;

use crate::model::bilingual::Language::{self, Chinese, English};
use crate::model::event::Event;
use crate::runner::recording::{self, CONTROL, ndjson};
use crate::verdict::result::ScenarioResult;
use crate::view::machine::Machine;
use crate::view::story::Story;
use crate::view::text::{self, printable};
use crate::view::{idea, ideas, page, snapshot, timeline};

/// The page in English.
pub(crate) const INDEX: &str = page::INDEX.en;

/// Writes what is made of the recordings: verdicts, transcripts, snapshots and timelines.
fn draw(folder: &Path, result: &ScenarioResult) -> io::Result<()> {
    let name = result.scenario.name;
    let folder = folder.join(name);
    fs::write(folder.join("verdicts.ndjson"), ndjson(&result.verdicts)?)?;
    draw_run(&folder, |_| name.to_owned(), &result.events)?;
    if result.scenario.has_control() {
        let title = |language| page::title_of_control(result.scenario, language);
        draw_run(&folder.join(CONTROL), title, &result.control_events)?;
    }
    Ok(())
}

/// Why no report may be written there, if so. Folders of scenarios are written anew, and somebody may
/// have a folder of such a name that is something else: the sources of `zombie`.
pub(crate) fn refuses(folder: &Path) -> Option<String> {
    let is_empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    let is_foreign = !is_empty && !Machine::is_marked(folder);
    is_foreign.then(|| {
        let folder = folder.display();
        format!("{folder} holds what no report has written; --report takes a new or empty folder")
    })
}

/// Writes the report of a run: the folders of these scenarios anew, and the page.
pub(crate) fn write_report(folder: &Path, results: &[ScenarioResult]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    Machine::here().write(folder)?; // marks it as a report's
    // The page of an earlier report is wrong as soon as there are other recordings.
    for language in [English, Chinese] {
        match fs::remove_file(folder.join(page::INDEX.to(language))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for result in results {
        recording::write(folder, result)?;
    }
    redraw(folder, results, true)
}

/// Writes everything but the recordings, from which these results were made; the page only if they are
/// `all` that there is, or it would lose the others.
pub(crate) fn redraw(folder: &Path, results: &[ScenarioResult], all: bool) -> io::Result<()> {
    for result in results {
        draw(folder, result)?;
    }
    if all {
        let machine = Machine::read(folder);
        for language in [English, Chinese] {
            let page = page::page(results, machine.as_ref(), language);
            fs::write(folder.join(page::INDEX.to(language)), page)?;
        }
    }
    Ok(())
}

fn draw_run(folder: &Path, title: impl Fn(Language) -> String, events: &[Event]) -> io::Result<()> {
    fs::write(folder.join(text::TRANSCRIPT), text::plain_transcript(events))?;
    let story = Story::new(events);
    for language in [English, Chinese] {
        let timeline = timeline::file(&story, &printable(&title(language)), language);
        fs::write(folder.join(timeline::FILE.to(language)), timeline)?;
        if let Some(idea) = ideas::of(events, language) {
            let idea = idea::file(&idea, &printable(&title(language)));
            fs::write(folder.join(idea::FILE.to(language)), idea)?;
        }
    }
    for snapshot in snapshot::all(events) {
        fs::write(folder.join(snapshot.file()), snapshot.text())?;
    }
    Ok(())
}
