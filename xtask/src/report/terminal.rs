//! What `ps` printed, as a picture of a terminal, with the rows that matter marked.

use maud::{Markup, PreEscaped, html};

use super::printable;
use crate::event::{Event, What};
use crate::ps::{self, Row};

const LETTER: f64 = 7.3;
const LINE: f64 = 19.0;
/// For the marks.
const LEFT: f64 = 30.0;
const MARGIN: f64 = 12.0;
/// Where a long command goes on in the next line.
const COLUMNS: usize = 132;

/// A terminal is dark wherever it is shown.
pub(super) const STYLE: &str = "
.term{font:12px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#d7dde3}
.term text{white-space:pre}
.term .box{fill:#12161a;stroke:#5b6670}
.term .prompt{fill:#8fd18f}
.term .dim{fill:#9aa5af}
.term .marked{fill:#ffd75e;font-weight:700}
.term .band{fill:#3a3115}.term .bar{fill:#ffd75e}
";

/// One look at the process table.
pub(super) struct Look<'a> {
    pub(super) number: usize,
    pub(super) moment: &'a str,
    command: &'a str,
    text: &'a str,
    /// Who was to be in it.
    pids: &'a [i32],
    rows: Vec<(String, Option<Mark>)>,
}

/// Why a row matters: a letter for the margin, and words.
pub(super) struct Mark {
    pid: i32,
    letter: char,
    words: &'static str,
}

/// Each call of `ps`, in order.
pub(super) fn looks(events: &[Event]) -> Vec<Look<'_>> {
    let mut looks: Vec<Look<'_>> = Vec::new();
    let adopters_own = own_children(events);
    for event in events {
        if let What::Snapshot {
            moment,
            pids,
            command,
            text,
            ..
        } = &event.what
        {
            let rows = text.lines().map(|line| {
                let mark = ps::rows(line)
                    .first()
                    .and_then(|row| mark(row, &adopters_own));
                (printable(line), mark)
            });
            looks.push(Look {
                number: looks.len() + 1,
                moment,
                command,
                text,
                pids,
                rows: rows.collect(),
            });
        }
    }
    looks
}

/// The adopter, and the programs that it has started: those it has not adopted.
struct Family {
    adopter: Option<i32>,
    started: Vec<i32>,
}

fn own_children(events: &[Event]) -> Family {
    let adopter = events.iter().find_map(|event| match event.what {
        What::Stage { adopter } => Some(adopter.pid),
        _ => None,
    });
    let started = events.iter().filter_map(|event| match event.what {
        What::Start { process, .. } => Some(process.pid),
        _ => None,
    });
    Family {
        adopter,
        started: started.collect(),
    }
}

fn mark(row: &Row, family: &Family) -> Option<Mark> {
    let is_adopted = family.adopter == Some(row.ppid) && !family.started.contains(&row.pid);
    let (letter, words) = match (row.stat.chars().next(), is_adopted) {
        (Some('Z'), true) => ('Z', "a zombie, adopted"),
        (Some('Z'), false) => ('Z', "a zombie"),
        (Some('T'), _) => ('T', "stopped"),
        (_, true) => ('A', "adopted"),
        _ => return None,
    };
    Some(Mark {
        pid: row.pid,
        letter,
        words,
    })
}

impl Look<'_> {
    /// What is to be said of some of the processes, and of which.
    pub(super) fn noteworthy(&self) -> Vec<(&'static str, Vec<i32>)> {
        let marks = self.rows.iter().filter_map(|(_, mark)| mark.as_ref());
        let marked = marks.map(|mark| (mark.words, mark.pid));
        let rows = ps::rows(self.text);
        let is_gone = |pid: &&i32| !rows.iter().any(|row| row.pid == **pid);
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

    /// Whether none of the processes exists any more.
    fn is_empty(&self) -> bool {
        ps::rows(self.text).is_empty()
    }

    /// As it was printed.
    pub(super) fn text(&self) -> String {
        format!("# {}\n$ {}\n{}", self.moment, self.command, self.text)
    }

    /// The whole file.
    pub(super) fn file(&self) -> String {
        self.svg(true).into_string()
    }

    /// For the page, which has the style.
    pub(super) fn inline(&self) -> Markup {
        self.svg(false)
    }

    fn svg(&self, whole: bool) -> Markup {
        let command = wrapped(&printable(self.command));
        let count = command.len() + self.rows.len() + usize::from(self.is_empty());
        let lengths = command.iter().map(|line| line.chars().count());
        let of_rows = self.rows.iter().map(|(row, mark)| {
            let words = mark.as_ref().map_or(0, |mark| mark.words.len() + 4);
            row.chars().count() + words
        });
        let longest = lengths.chain(of_rows).max().unwrap_or(0).max(40);
        let width = (LEFT + MARGIN + longest as f64 * LETTER).ceil();
        let height = count as f64 * LINE + 2.0 * MARGIN;
        let title = format!("ps at moment {}: {}", self.number, printable(self.moment));
        let y = |line: usize| MARGIN + 14.0 + line as f64 * LINE;
        let first = command.len();
        html! {
            svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" class="term" viewBox=(format!("0 0 {width} {height}")) width=(width) height=(height) role="img" aria-label=(title) {
                @if whole { style { (PreEscaped(STYLE)) } }
                rect class="box" x="0.5" y="0.5" width=(width - 1.0) height=(height - 1.0) rx="8" {}
                @for (index, line) in command.iter().enumerate() {
                    text class="prompt" x=(LEFT) y=(y(index)) { (line) }
                }
                @for (index, (row, mark)) in self.rows.iter().enumerate() {
                    @let y = y(first + index);
                    @if let Some(mark) = mark {
                        rect class="band" x="6" y=(y - 14.0) width=(width - 12.0) height=(LINE) {}
                        rect class="bar" x="6" y=(y - 14.0) width="5" height=(LINE) {}
                        text class="marked" x="16" y=(y) { (mark.letter) }
                        text class="marked" x=(LEFT) y=(y) { (row) " ← " (mark.words) }
                    } @else {
                        text class=(if ps::rows(row).is_empty() { "dim" } else { "row" }) x=(LEFT) y=(y) { (row) }
                    }
                }
                @if self.is_empty() {
                    text class="dim" x=(LEFT) y=(y(first + self.rows.len())) { "(no row: none of them exists)" }
                }
            }
        }
    }
}

/// Between two words or numbers, if it goes on.
fn wrapped(command: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for part in format!("$ {command}").split_inclusive([' ', ',']) {
        let line = lines.last().map_or(0, |line| line.chars().count());
        match lines.last_mut() {
            Some(last) if line + part.chars().count() <= COLUMNS => last.push_str(part),
            _ => lines.push(part.to_owned()),
        }
    }
    lines
}
