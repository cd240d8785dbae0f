//! A scenario as text for people.

use std::fmt::Write as _;

use crate::model::bilingual::{COLON, Language, Text, text};
use crate::model::event::{Event, Snapshot, Stream, What};
use crate::probe::ps;
use crate::scenarios::Scenario;
use crate::scenarios::ledger::Ruling;
use crate::verdict::result::ScenarioResult;
use crate::verdict::{Kind, Verdict};
use crate::view::output::{BAD, BOLD, DIM, GOOD, MARK, styled};
use crate::view::words;

/// The file of a transcript.
pub(super) const TRANSCRIPT: &str = "transcript.txt";

/// Everything about a scenario.
pub(crate) fn whole(result: &ScenarioResult, columns: usize) -> String {
    heading(result.scenario) + &transcript(&result.events, columns) + &conclusion(result)
}

/// The verdicts of a scenario.
pub(crate) fn conclusion(result: &ScenarioResult) -> String {
    let mut out: String = result.verdicts_of(false).map(verdict_line).collect();
    if result.scenario.has_control() {
        let command = control_command(result);
        let _ = writeln!(out, "control, {}: {command}", result.scenario.without());
        out += &control_lines(result);
    }
    out
}

/// What it is about.
pub(crate) fn heading(scenario: &Scenario) -> String {
    let title = styled(BOLD, format_args!("== {} ==", scenario.name));
    let by_hand = styled(DIM, format_args!("by hand: {}", scenario.by_hand()));
    format!("\n{title}\n{}\n{by_hand}\n", scenario.about())
}

/// What was started, printed, seen and done, with the seconds since the beginning.
fn transcript(events: &[Event], columns: usize) -> String {
    let mut out = String::new();
    for event in events {
        if let Some(line) = line(&event.what, Language::English) {
            let _ = writeln!(out, "{:7.3}  {line}", event.t);
        }
        if let What::Snapshot(printed) = &event.what {
            out.push_str(&snapshot(printed, columns));
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
pub(crate) fn snapshot(snapshot: &Snapshot, columns: usize) -> String {
    let command = styled(DIM, format_args!("$ {}", snapshot.command));
    let mut out = format!("         {command}\n");
    for row in snapshot.text.lines() {
        let _ = writeln!(out, "         {}", ps_line(row, columns));
    }
    if ps::rows(&snapshot.text).is_empty() {
        let _ = writeln!(out, "         {}", styled(DIM, "(none of them exists)"));
    }
    out
}

/// What happened, in a line.
pub(super) fn line(what: &What, language: Language) -> Option<String> {
    let say = |text: Text| text.to(language);
    let line = match what {
        What::Start { command, process } => {
            let pid = styled(DIM, format_args!("(pid {})", process.pid));
            format!("{} {pid}", styled(BOLD, format_args!("$ {command}")))
        }
        What::Line { stream, text, .. } => match stream {
            Stream::Stdout => text.clone(),
            Stream::Stderr => format!("(stderr) {text}"),
        },
        What::Signal { process, signal, error } => {
            let refused = text("refused: ", "被拒绝：");
            let answer = error.as_ref().map(|error| format!("{}{error}", say(refused)));
            let answer = answer.as_deref().unwrap_or(say(text("accepted", "已接受")));
            let (to, colon) = (say(text("to", "发给")), say(COLON));
            styled(MARK, format_args!("-> {signal} {to} {}{colon}{answer}", process.pid))
        }
        What::Client { number, saw } => {
            let (client, saw_what) = (say(text("client", "客户端")), say(text(" saw ", "：")));
            let saw = words::to(language, saw);
            styled(MARK, format_args!("-- {client} {number}{saw_what}{saw}"))
        }
        What::Reaped { process, status } => {
            let by = text(" reaped by the scenario's own process: ", " 被场景自己的进程回收：");
            styled(DIM, format_args!("-- {}{}{status}", process.pid, say(by)))
        }
        What::Proc { path, text, error, .. } => {
            let text = error.as_ref().unwrap_or(text).replace('\n', " | ");
            format!("{} {text}", styled(DIM, format_args!("{path}:")))
        }
        What::Snapshot(snapshot) => {
            styled(BOLD, format_args!("** {}", snapshot.title_in(language)))
        }
        What::Missed { condition } => {
            let missed = say(text("it never came true that ", "一直没有等到："));
            styled(BAD, format_args!("!! {missed}{condition}"))
        }
        What::Skipped { why } => styled(
            MARK,
            format_args!("!! {}{why}", say(text("not possible here: ", "这里做不到："))),
        ),
        What::Failed { why } => {
            let failed = say(text("the scenario could not go on: ", "场景无法继续："));
            styled(BAD, format_args!("!! {failed}{why}"))
        }
        What::Worker { .. }
        | What::Found { .. }
        | What::State { .. }
        | What::Gone { .. }
        | What::Resumed { .. }
        | What::End { .. } => return None,
        What::Late { .. } => return None, // the verdict has it, if it matters
    };
    Some(line)
}

/// Marks zombies; without colours, the letter Z is seen.
fn ps_line(row: &str, columns: usize) -> String {
    let is_zombie = ps::rows(row).first().is_some_and(ps::Row::is_zombie);
    let shown: String = row.chars().take(columns).collect();
    if is_zombie { styled(MARK, shown) } else { shown }
}

fn verdict_line(verdict: &Verdict) -> String {
    let Verdict { claim, says, .. } = verdict;
    let because = verdict.because.as_deref().unwrap_or_default();
    match verdict.held {
        Some(true) => {
            let ruling = match verdict.ruling {
                Some(Ruling::Right) | None => String::new(),
                Some(ruling) => format!(" (the chapter is {})", ruling.word()),
            };
            format!("{} {claim}: {says}{ruling}\n", styled(GOOD, "held    "))
        }
        Some(false) => {
            let not_held = styled(BAD, "NOT HELD");
            format!("{not_held} {claim}: {says}\n         for {because}\n")
        }
        None => format!("{} {claim}: {because}\n", styled(MARK, "skipped ")),
    }
}

/// Why a control that did not fail is no good.
pub(super) const NOTHING_PROVED: Text = text(
    "it held there, too, so the scenario proves nothing",
    "论断在那里也成立，所以这个场景什么也没证明",
);

/// Claims that fail for the same reason share a line.
fn control_lines(result: &ScenarioResult) -> String {
    let mut lines: Vec<(bool, &str, Vec<&str>)> = Vec::new();
    for verdict in result.verdicts_of(true) {
        let (good, claim) = (verdict.is_good(), verdict.claim);
        let because = verdict.because.as_deref().unwrap_or(NOTHING_PROVED.en);
        match lines.iter_mut().find(|line| (line.0, line.1) == (good, because)) {
            Some(line) => line.2.push(claim),
            None => lines.push((good, because, vec![claim])),
        }
    }
    let mut out = String::new();
    for (good, because, claims) in lines {
        let verdict = match good {
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
        let claims: Vec<_> = result.scenario.claims().map(|claim| claim.id).collect();
        let is_skipped = |verdict: &Verdict| verdict.kind == Kind::Skipped;
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
        let _ =
            writeln!(out, "{name:width$}  {claims:16}  {verdict}  {seconds:7.1}  {chapter:7.0}");
        // Else a reader of the table could believe that what the chapter says has held.
        for claim in result.scenario.claims().filter(|it| it.ruling() == Some(Ruling::Wrong)) {
            let _ = writeln!(out, "  {}, where the chapter is wrong: {}", claim.id, claim.here());
        }
    }
    out
}

/// The command of the control, as it was started.
pub(super) fn control_command(result: &ScenarioResult) -> &str {
    let program = result.scenario.control.split(' ').next();
    let mut commands = result.control_events.iter().filter_map(|event| match &event.what {
        What::Start { command, .. } => Some(command.as_str()),
        _ => None,
    });
    let command = commands.find(|command| command.split(' ').next() == program);
    command.unwrap_or("not started")
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
