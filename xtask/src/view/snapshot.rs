//! What `ps` printed, as text for the page and the files, with the rows that matter marked.

use maud::{Markup, html};

use crate::model::bilingual::{Language, Text, text};
use crate::model::event::{self, Event, What};
use crate::model::process::State;
use crate::probe::ps::{self, Row};
use crate::view::text::printable;

const NO_ROW: Text = text("(no row: none of them exists)", "（没有行：它们都不存在了）");

/// One snapshot of a run.
pub(super) struct Snapshot<'a> {
    pub(super) number: usize,
    pub(super) printed: &'a event::Snapshot,
    worker: i32,
    /// The programs that the worker has started so far, and so has not adopted.
    started: Vec<i32>,
}

/// The snapshots of a run, in order.
pub(super) fn all(events: &[Event]) -> Vec<Snapshot<'_>> {
    let (mut worker, mut started) = (0, Vec::new());
    let mut snapshots = Vec::new();
    for event in events {
        match &event.what {
            What::Worker { process } => worker = process.pid,
            What::Start { process, .. } => started.push(process.pid),
            What::Snapshot(printed) => snapshots.push(Snapshot {
                number: snapshots.len() + 1,
                printed,
                worker,
                started: started.clone(),
            }),
            _ => {}
        }
    }
    snapshots
}

impl Snapshot<'_> {
    /// The name of its file.
    pub(super) fn file(&self) -> String {
        format!("ps-{}.txt", self.number)
    }

    /// As it was printed.
    pub(super) fn text(&self) -> String {
        let event::Snapshot { title, command, text, .. } = self.printed;
        format!("# {title}\n$ {command}\n{text}")
    }

    pub(super) fn html(&self, language: Language) -> Markup {
        let text = &self.printed.text;
        html! {
            pre class="ps" {
                span class="prompt" { "    $ " (printable(&self.printed.command)) } "\n"
                @for row in text.lines() {
                    @match ps::parse_row(row).and_then(|row| self.mark(&row)) {
                        Some((letter, words)) => span class="marked" { " " (letter) "  " (printable(row)) " ← " (words.to(language)) },
                        None => { "    " (printable(row)) },
                    }
                    "\n"
                }
                @if ps::rows(text).is_empty() { span class="faint" { "    " (NO_ROW.to(language)) "\n" } }
            }
        }
    }

    /// Why a row matters: a letter for the margin, and words.
    fn mark(&self, row: &Row) -> Option<(char, Text)> {
        let is_adopted = row.ppid == self.worker && !self.started.contains(&row.pid);
        match (row.state(), is_adopted) {
            (State::Zombie, true) => Some(('Z', text("a zombie, adopted", "僵尸，已被收养"))),
            (State::Zombie, false) => Some(('Z', text("a zombie", "僵尸"))),
            (State::Stopped, _) => Some(('T', text("stopped", "暂停"))),
            (State::Alive, true) => Some(('A', text("adopted", "被收养"))),
            (State::Alive, false) => None,
        }
    }
}
