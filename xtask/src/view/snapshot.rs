//! What `ps` printed, as text for the page and the files, with the rows that matter marked.

use maud::{Markup, html};

use crate::model::event::{Event, What};
use crate::model::process::State;
use crate::probe::ps::{self, Row};
use crate::view::text::printable;

/// One snapshot of a run.
pub(super) struct Snapshot<'a> {
    pub(super) number: usize,
    pub(super) title: &'a str,
    command: &'a str,
    text: &'a str,
    /// The processes that `ps` was asked for.
    pids: &'a [i32],
    rows: Vec<(String, Option<Mark>)>,
}

/// Why a row matters: a letter for the margin, and words.
struct Mark {
    pid: i32,
    letter: char,
    words: &'static str,
}

/// The snapshots of a run, in order.
pub(super) fn all(events: &[Event]) -> Vec<Snapshot<'_>> {
    let mut snapshots: Vec<Snapshot<'_>> = Vec::new();
    let adopter = events.iter().find_map(|event| match event.what {
        What::Worker { process } => Some(process.pid),
        _ => None,
    });
    let started = events.iter().filter_map(|event| match event.what {
        What::Start { process, .. } => Some(process.pid),
        _ => None,
    });
    let started: Vec<i32> = started.collect();
    let is_adopted = |row: &Row| adopter == Some(row.ppid) && !started.contains(&row.pid);
    for event in events {
        if let What::Snapshot {
            title,
            pids,
            command,
            text,
            ..
        } = &event.what
        {
            let rows = text.lines().map(|line| {
                let row = ps::parse_row(line);
                let mark = row.and_then(|row| mark(&row, is_adopted(&row)));
                (printable(line), mark)
            });
            snapshots.push(Snapshot {
                number: snapshots.len() + 1,
                title,
                command,
                text,
                pids,
                rows: rows.collect(),
            });
        }
    }
    snapshots
}

fn mark(row: &Row, is_adopted: bool) -> Option<Mark> {
    let (letter, words) = match (row.state(), is_adopted) {
        (State::Zombie, true) => ('Z', "a zombie, adopted"),
        (State::Zombie, false) => ('Z', "a zombie"),
        (State::Stopped, _) => ('T', "stopped"),
        (State::Alive, true) => ('A', "adopted"),
        (State::Alive, false) => return None,
    };
    let pid = row.pid;
    Some(Mark { pid, letter, words })
}

impl Snapshot<'_> {
    /// What is to be said of some of the processes, and of which.
    pub(super) fn noteworthy(&self) -> Vec<(&'static str, Vec<i32>)> {
        let marks = self.rows.iter().filter_map(|(_, mark)| mark.as_ref());
        let marked = marks.map(|mark| (mark.words, mark.pid));
        let is_gone = |pid: &&i32| ps::row(self.text, **pid).is_none();
        let gone = self.pids.iter().filter(is_gone).map(|pid| ("gone", *pid));
        let mut groups: Vec<(&str, Vec<i32>)> = Vec::new();
        for (words, pid) in marked.chain(gone) {
            match groups.iter_mut().find(|(known, _)| *known == words) {
                Some((_, pids)) => pids.push(pid),
                None => groups.push((words, vec![pid])),
            }
        }
        groups
    }

    /// The name of its file.
    pub(super) fn file(&self) -> String {
        format!("ps-{}.txt", self.number)
    }

    /// As it was printed.
    pub(super) fn text(&self) -> String {
        format!("# {}\n$ {}\n{}", self.title, self.command, self.text)
    }

    pub(super) fn html(&self) -> Markup {
        html! {
            pre class="ps" tabindex="0" {
                span class="prompt" { "    $ " (printable(self.command)) } "\n"
                @for (row, mark) in &self.rows {
                    @match mark {
                        Some(mark) => span class="marked" { " " (mark.letter) "  " (row) " ← " (mark.words) },
                        None => { "    " (row) },
                    }
                    "\n"
                }
                @if ps::rows(self.text).is_empty() { span class="faint" { "    (no row: none of them exists)\n" } }
            }
        }
    }
}
