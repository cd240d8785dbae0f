//! A scenario as text for people.

use std::fmt::Write as _;

use crate::model::event::{Event, Stream, What};
use crate::probe::ps;
use crate::scenarios::Scenario;
use crate::scenarios::ledger::Ruling;
use crate::verdict::Verdict;
use crate::verdict::result::ScenarioResult;
use crate::view::output::{BAD, BOLD, DIM, GOOD, MARK, styled};

/// The file of a transcript.
pub(super) const TRANSCRIPT: &str = "transcript.txt";

/// Everything about a scenario.
pub(crate) fn whole(result: &ScenarioResult, columns: usize) -> String {
    heading(result.scenario) + &transcript(&result.events, columns) + &conclusion(result)
}

/// The verdicts of a scenario.
pub(crate) fn conclusion(result: &ScenarioResult) -> String {
    let mut out: String = result.verdicts.iter().map(verdict_line).collect();
    if let Some(control) = &result.scenario.control {
        let commands = control_commands(result);
        let _ = writeln!(out, "control, {}: {commands}", control.about);
        out += &control_lines(&result.verdicts);
    }
    out
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
fn transcript(events: &[Event], columns: usize) -> String {
    let mut out = String::new();
    for event in events {
        if let Some(line) = line(&event.what) {
            let _ = writeln!(out, "{:7.3}  {line}", event.t);
        }
        if let What::Snapshot { command, text, .. } = &event.what {
            out.push_str(&snapshot(command, text, columns));
        }
    }
    out
}

/// The same without styles, as wide as it is.
pub(super) fn plain_transcript(events: &[Event]) -> String {
    let styled = transcript(events, usize::MAX);
    anstream::adapter::strip_str(&styled).to_string()
}

/// What `ps` printed, below the line with its title.
pub(crate) fn snapshot(command: &str, text: &str, columns: usize) -> String {
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
        What::Snapshot { title, .. } => styled(BOLD, format_args!("** {title}")),
        What::Missed { condition } => {
            styled(BAD, format_args!("!! it never came true that {condition}"))
        }
        What::Skipped { why } => styled(MARK, format_args!("!! not possible here: {why}")),
        What::Failed { why } => styled(BAD, format_args!("!! the scenario could not go on: {why}")),
        What::Worker { .. }
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
            ruling,
            ..
        } => {
            let ruling = match ruling {
                Some(Ruling::Right) | None => "",
                Some(Ruling::Imprecise) => " (the chapter is imprecise)",
                Some(Ruling::Wrong) => " (the chapter is wrong)",
            };
            format!("{} {claim}: {says}{ruling}\n", styled(GOOD, "held    "))
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
        Verdict::Control { .. } => String::new(),
    }
}

/// Why a control that did not fail is no good.
pub(super) const NOTHING_PROVED: &str = "it held there, too, so the scenario proves nothing";

/// Claims that fail for the same reason share a line.
fn control_lines(verdicts: &[Verdict]) -> String {
    let mut lines: Vec<(bool, &str, Vec<&str>)> = Vec::new();
    for verdict in verdicts {
        let Verdict::Control {
            claim,
            failed,
            because,
            ..
        } = verdict
        else {
            continue;
        };
        let because = because.as_deref().unwrap_or(NOTHING_PROVED);
        match lines
            .iter_mut()
            .find(|line| (line.0, line.1) == (*failed, because))
        {
            Some(line) => line.2.push(claim),
            None => lines.push((*failed, because, vec![claim])),
        }
    }
    let mut out = String::new();
    for (failed, because, claims) in lines {
        let verdict = match failed {
            true => styled(GOOD, "failed as expected"),
            false => styled(BAD, "DID NOT FAIL"),
        };
        let _ = writeln!(out, "{verdict} {}: {because}", claims.join(" "));
    }
    out
}

/// Scenario, claims, verdict and seconds of each.
pub(crate) fn table(results: &[ScenarioResult]) -> String {
    let names = results.iter().map(|result| result.scenario.name.len());
    let width = names.max().unwrap_or(0).max(8);
    let heading = format!(
        "{:width$}  {:16}  {:8}  {:>7}  {:>7}",
        "scenario", "claims", "verdict", "seconds", "chapter"
    );
    let mut out = format!("\n{}\n", styled(BOLD, heading));
    for result in results {
        let claims: Vec<_> = result
            .scenario
            .claims
            .iter()
            .map(|claim| claim.id)
            .collect();
        let is_skipped = |verdict: &Verdict| matches!(verdict, Verdict::Skipped { .. });
        let (style, verdict) = if !result.is_good() {
            (BAD, "NOT HELD")
        } else if result.verdicts.iter().any(is_skipped) {
            (MARK, "skipped")
        } else {
            (GOOD, "held")
        };
        let verdict = styled(style, format_args!("{verdict:8}"));
        let (name, claims, seconds) = (result.scenario.name, claims.join(" "), result.seconds);
        let chapter = result.scenario.seconds;
        let _ = writeln!(
            out,
            "{name:width$}  {claims:16}  {verdict}  {seconds:7.1}  {chapter:7.0}"
        );
    }
    out
}

/// The commands of the control that the scenario itself did not start in their place; if the commands
/// do not differ, the first.
pub(super) fn control_commands(result: &ScenarioResult) -> String {
    let (own, controls) = (commands(&result.events), commands(&result.control_events));
    let differs = |(index, command): &(usize, &&str)| {
        let other = own.get(*index).copied().unwrap_or_default();
        !without_address(command).eq(without_address(other))
    };
    let differing = controls.iter().enumerate().filter(differs);
    let differing: Vec<&str> = differing.map(|(_, command)| *command).collect();
    match (differing.as_slice(), controls.first()) {
        ([], Some(first)) => (*first).to_owned(),
        ([], None) => "not started".to_owned(),
        (differing, _) => differing.join("; "),
    }
}

fn commands(events: &[Event]) -> Vec<&str> {
    let commands = events.iter().filter_map(|event| match &event.what {
        What::Start { command, .. } => Some(command.as_str()),
        _ => None,
    });
    commands.collect()
}

/// A server's port is another in each run.
fn without_address(command: &str) -> impl Iterator<Item = &str> {
    let words = command.split(' ');
    words.filter(|word| !word.starts_with("127.0.0.1:"))
}

/// Replaces the characters that neither a page nor an SVG may have: a program may have written
/// anything.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => c,
        '\t' => ' ',
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}
