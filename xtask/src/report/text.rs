//! A scenario as text for people.

use std::fmt::Write as _;

use super::{Told, twins_commands};
use crate::claims::Chapter;
use crate::event::{Event, Stream, What};
use crate::output::{BAD, BOLD, DIM, GOOD, MARK, styled};
use crate::ps;
use crate::scenarios::Scenario;
use crate::verdict::Verdict;

impl Told {
    /// Everything about it, to be read.
    pub(crate) fn text(&self, columns: usize) -> String {
        heading(self.scenario) + &transcript(&self.events, columns) + &self.conclusion()
    }

    /// What is made of it.
    pub(crate) fn conclusion(&self) -> String {
        let mut out = String::new();
        let (of_twin, own): (Vec<_>, Vec<_>) = self
            .verdicts
            .iter()
            .partition(|verdict| matches!(verdict, Verdict::Twin { .. }));
        for verdict in own {
            out.push_str(&verdict_line(verdict));
        }
        if let Some(twin) = &self.scenario.twin {
            let _ = writeln!(out, "twin, {}: {}", twin.about, twins_commands(self));
            out.push_str(&twin_lines(&of_twin));
        }
        out
    }
}

/// What it is about.
pub(crate) fn heading(scenario: &Scenario) -> String {
    let Scenario {
        name,
        about,
        by_hand,
        ..
    } = scenario;
    let title = styled(BOLD, format_args!("== {name} =="));
    let by_hand = styled(DIM, format_args!("by hand: {by_hand}"));
    format!("\n{title}\n{about}\n{by_hand}\n")
}

/// What was started, printed, seen and done, with the seconds since the beginning.
pub(super) fn transcript(events: &[Event], columns: usize) -> String {
    let mut out = String::new();
    for event in events {
        if let Some(line) = line(&event.what) {
            let _ = writeln!(out, "{:7.3}  {line}", event.t);
        }
        if let What::Snapshot { command, text, .. } = &event.what {
            out.push_str(&picture(command, text, columns));
        }
    }
    out
}

/// What `ps` printed, below the line of its moment.
pub(crate) fn picture(command: &str, text: &str, columns: usize) -> String {
    let mut out = format!("         {}\n", styled(DIM, format_args!("$ {command}")));
    for row in text.lines() {
        let _ = writeln!(out, "         {}", ps_line(row, columns));
    }
    if ps::rows(text).is_empty() {
        let _ = writeln!(out, "         {}", styled(DIM, "(none of them exists)"));
    }
    out
}

/// What happened, in a line.
pub(crate) fn line(what: &What) -> Option<String> {
    let line = match what {
        What::Start { command, process } => {
            format!(
                "{} {}",
                styled(BOLD, format_args!("$ {command}")),
                styled(DIM, format_args!("(pid {})", process.pid))
            )
        }
        What::Line {
            stream: Stream::Stdout,
            text,
            ..
        } => text.clone(),
        What::Line {
            stream: Stream::Stderr,
            text,
            ..
        } => format!("(stderr) {text}"),
        What::Signal {
            process,
            signal,
            error,
        } => {
            let answer = error
                .as_ref()
                .map_or("accepted".to_owned(), |error| format!("refused: {error}"));
            styled(
                MARK,
                format_args!("-> {signal} to {}: {answer}", process.pid),
            )
        }
        What::Client { number, saw } => styled(MARK, format_args!("-- client {number} saw {saw}")),
        What::Reaped { process, status } => styled(
            DIM,
            format_args!(
                "-- {} reaped by the scenario's own process: {status}",
                process.pid
            ),
        ),
        What::Proc {
            path, text, error, ..
        } => {
            let text = error.as_ref().unwrap_or(text).replace('\n', " | ");
            format!("{} {text}", styled(DIM, format_args!("{path}:")))
        }
        What::Snapshot { moment, .. } => styled(BOLD, format_args!("** {moment}")),
        What::Missed { condition } => {
            styled(BAD, format_args!("!! it never came true that {condition}"))
        }
        What::Skipped { why } => styled(MARK, format_args!("!! not possible here: {why}")),
        What::Failed { why } => styled(BAD, format_args!("!! the scenario could not go on: {why}")),
        What::Stage { .. }
        | What::Found { .. }
        | What::State { .. }
        | What::Gone { .. }
        | What::End { .. } => return None,
    };
    Some(line)
}

/// Zombies stand out, by the letter Z for whoever sees no colour.
fn ps_line(row: &str, columns: usize) -> String {
    let is_zombie = ps::rows(row).first().is_some_and(ps::Row::is_zombie);
    let shown: String = row.chars().take(columns).collect();
    if is_zombie {
        styled(MARK, shown)
    } else {
        shown
    }
}

fn verdict_line(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Own {
            claim,
            held: true,
            says,
            chapter,
            ..
        } => {
            let chapter = match chapter {
                Some(Chapter::Right) | None => "",
                Some(Chapter::Imprecise) => " (the chapter is imprecise)",
                Some(Chapter::Wrong) => " (the chapter is wrong)",
            };
            format!("{} {claim}: {says}{chapter}\n", styled(GOOD, "held    "))
        }
        Verdict::Skipped { claim, because, .. } => {
            format!("{} {claim}: {because}\n", styled(MARK, "skipped "))
        }
        Verdict::Own {
            claim,
            says,
            because,
            ..
        } => {
            let because = because.as_deref().unwrap_or_default();
            format!(
                "{} {claim}: {says}\n         for {because}\n",
                styled(BAD, "NOT HELD")
            )
        }
        Verdict::Twin { .. } => String::new(),
    }
}

/// Claims that fail for the same reason share a line.
fn twin_lines(verdicts: &[&Verdict]) -> String {
    let mut lines: Vec<(bool, &str, Vec<&str>)> = Vec::new();
    for verdict in verdicts {
        let Verdict::Twin {
            claim,
            refuted,
            because,
            ..
        } = verdict
        else {
            continue;
        };
        let because = because
            .as_deref()
            .unwrap_or("it held there, too, so it shows nothing");
        match lines
            .iter_mut()
            .find(|line| (line.0, line.1) == (*refuted, because))
        {
            Some(line) => line.2.push(claim),
            None => lines.push((*refuted, because, vec![claim])),
        }
    }
    let mut out = String::new();
    for (refuted, because, claims) in lines {
        let verdict = if refuted {
            styled(GOOD, "refuted ")
        } else {
            styled(BAD, "NOT REFUTED")
        };
        let must = if refuted { ", as it must be" } else { "" };
        let _ = writeln!(out, "{verdict} {}{must}: {because}", claims.join(" "));
    }
    out
}

/// The last thing one sees: scenario, claims, verdict, seconds.
pub(crate) fn table(told: &[Told]) -> String {
    let width = told
        .iter()
        .map(|told| told.scenario.name.len())
        .max()
        .unwrap_or(0)
        .max(8);
    let heading = format!(
        "{:width$}  {:16}  {:8}  {:>7}  {:>7}",
        "scenario", "claims", "verdict", "seconds", "chapter"
    );
    let mut out = format!("\n{}\n", styled(BOLD, heading));
    for told in told {
        let claims: Vec<_> = told.scenario.claims.iter().map(|claim| claim.id).collect();
        let is_skipped = |verdict: &Verdict| matches!(verdict, Verdict::Skipped { .. });
        let (style, verdict) = if !told.is_good() {
            (BAD, "NOT HELD")
        } else if told.verdicts.iter().any(is_skipped) {
            (MARK, "skipped")
        } else {
            (GOOD, "held")
        };
        let verdict = styled(style, format_args!("{verdict:8}"));
        let (name, claims, seconds) = (told.scenario.name, claims.join(" "), told.seconds);
        let chapter = told.scenario.seconds;
        let _ = writeln!(
            out,
            "{name:width$}  {claims:16}  {verdict}  {seconds:7.1}  {chapter:7.0}"
        );
    }
    out
}
