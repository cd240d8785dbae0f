//! The page: the verdicts, and for each scenario its timeline and snapshots. It needs no other file.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::model::event::{Event, What};
use crate::runner::recording::{CONTROL, EVENTS};
use crate::scenarios::Scenario;
use crate::scenarios::ledger::{self, Claim, Ruling};
use crate::verdict::Verdict;
use crate::verdict::result::{Counts, ScenarioResult};
use crate::view::machine::Machine;
use crate::view::story::Story;
use crate::view::text::{self, NOTHING_PROVED, control_command, plain_transcript, printable};
use crate::view::timeline::{NARROW, WIDE};
use crate::view::{snapshot, timeline};

const STYLE: &str = include_str!("page.css");

/// The section that explains what one must know to understand a timeline.
const MINUTE: &str = "in-a-minute";

/// More lines of the programs than this are in the transcript only.
const FEW_LINES: usize = 12;

/// `machine` is where the scenarios ran, if that is known.
pub(super) fn page(results: &[ScenarioResult], machine: Option<&Machine>) -> String {
    let dark = format!("@media screen and (prefers-color-scheme:dark){{{}}}", timeline::DARK_STYLE);
    let styles = [STYLE, timeline::STYLE, &dark].concat();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "What the process table says" }
                link rel="icon" href="data:,"; // or a browser asks for one
                style { (PreEscaped(styles)) }
            }
            body {
                // Not `display: none`: what is not drawn has no pattern to lend.
                svg width="0" height="0" style="position:absolute" aria-hidden="true" { (timeline::hatching()) }
                header { (head(results, machine)) }
                main {
                    (minute(results))
                    (how_to_read())
                    (summary(results))
                    @for result in results { (scenario(result)) }
                }
            }
        }
    };
    page.into_string()
}

fn head(results: &[ScenarioResult], machine: Option<&Machine>) -> Markup {
    html! {
        h1 { "What the process table says" }
        p {
            "The chapter “multi-process servers” makes statements about processes. Here they were put to the test: "
            "its programs ran, and each statement was judged from what was recorded of them. "
            "Each timeline is one run, drawn from its recording: a bar is a process, blue while it lives, hatched while it is a zombie. "
            "A number, as in " (circled(1)) ", is a snapshot: " code { "ps" } " was called, and its output is below."
        }
        @if let Some(first) = first(results) {
            p { strong { "Begin with " a href=(format!("#{first}")) { (first) } "." } }
        }
        p class="faint" {
            @if let Some(machine) = machine { (machine.text()) " " }
            (results.len()) " scenarios."
        }
    }
}

/// The scenario to look at first: `zombie`, which the others vary, if it is there.
fn first(results: &[ScenarioResult]) -> Option<&'static str> {
    let mut names = results.iter().map(|result| result.scenario.name);
    let first = names.clone().next();
    names.find(|name| *name == "zombie").or(first)
}

fn circled(number: usize) -> Markup {
    html! { span class="circled" { (number) } }
}

/// What a zombie is, with the scenarios that show it.
fn minute(results: &[ScenarioResult]) -> Markup {
    let linked = |words: &str, name: &str| {
        let is_here = results.iter().any(|result| result.scenario.name == name);
        html! { @if is_here { " " (words) " " a href=(format!("#{name}")) { (name) } "." } }
    };
    let see = |name: &str| linked("See", name);
    html! {
        section id=(MINUTE) {
            h2 { "In a minute" }
            ol {
                li {
                    "A process is a " strong { "zombie" } " from its exit until it has been waited for. "
                    "It runs no more and holds no memory; what is left is a line in the process table: its number, and how it ended. "
                    code { "ps" } " shows it as " code { "Z" } " and " code { "<defunct>" } "."
                    (see("zombie"))
                }
                li {
                    "Only a " strong { "wait" } " removes it, by its parent, or by the process that has adopted it. That is to " strong { "reap" }
                    " it: the process that waits gets the status, and the zombie is gone."
                    (see("remove-zombie")) (linked("Reaped at once:", "wait"))
                }
                li { "A signal does not, not even SIGKILL: it is dead already." (see("zombie-kill")) }
                li {
                    "A process whose parent has ended is an " strong { "orphan" } ". Another process " strong { "adopts" }
                    " it, which is to become its parent: mostly init; here the " strong { "worker" }
                    ", the process that has started the programs."
                    (see("orphan"))
                    " If it is a zombie, it is gone as soon as that one has waited."
                    (see("zombie-parent-kill"))
                }
                li {
                    "Where a parent ignores SIGCHLD, the signal that tells of a child's end, "
                    "the children that end from then on never become zombies: nobody has to wait."
                    (see("ignore-sigchld"))
                }
            }
        }
    }
}

fn summary(results: &[ScenarioResult]) -> Markup {
    let Counts { held, not_held, skipped, controls_failed, controls_not_failed } =
        Counts::of(results);
    html! {
        section id="summary" {
            h2 { "What came out" }
            p {
                strong { (held) " held" } ", "
                @if not_held > 0 { strong class="bad" { (not_held) " did NOT hold" } } @else { "0 did not" }
                ", " (skipped) " skipped. "
                "Held means: our own statement, which stands with the scenario, was seen in this run. Where the chapter is right, it says the same; where the chapter is imprecise or wrong, it is the correction. "
                "In a control, a run that lacks what the statement is about, it must fail: so it did for "
                (controls_failed) " of " (controls_failed + controls_not_failed) "."
            }
            table {
                thead { tr { th { "claim" } th { "the chapter says" } th { "that is" } th { "our statement, in this run" } th { "scenario" } } }
                tbody { @for claim in ledger::ALL { (row(results, claim)) } }
            }
        }
    }
}

/// The rows of the table for a claim: one for each scenario here that shows it.
fn row(results: &[ScenarioResult], claim: &Claim) -> Markup {
    let is_about_it = |result: &&ScenarioResult| result.verdict(claim).is_some();
    html! {
        @for result in results.iter().filter(is_about_it) {
            tr {
                td { a href=(format!("#{}", anchor(result, claim))) { (claim.id) } }
                @match &claim.chapter {
                    Some(statement) => {
                        td {
                            (statement.says)
                            @if claim.is_wrong() {
                                br; (instead(Ruling::Wrong)) (claim.here) "."
                            }
                        }
                        td { (statement.ruling.word()) }
                    }
                    None => { td { "Nothing: " (claim.here) "." } td { "beyond it" } }
                }
                td { (shown(result.verdict(claim))) }
                td { a href=(format!("#{}", result.scenario.name)) { (result.scenario.name) } }
            }
        }
    }
}

fn how_to_read() -> Markup {
    html! {
        section id="legend" {
            h2 { "How to read the timelines" }
            p {
                "A lane is a process, time goes to the right, and over each step stands what happened. "
                "Short times are drawn wider than they are: the seconds stand below. "
                "The worker is the process that started the programs; orphans are adopted by it, as by init elsewhere. "
                "Each process is a zombie from its exit to the wait for it, if only for an instant; "
                "the bar of one that no " code { "ps" } " was there to see is thin."
            }
            (timeline::legend())
            p {
                "“exit, no wait” is the end of a child whose parent ignores SIGCHLD; "
                "“gone”, of one that was missed when its parent was gone, too; "
                "“cleared up”, of one that the worker has ended at the end of the run."
            }
            p {
                "In the output of " code { "ps" } ", a row that matters has a letter and a word: "
                "Z a zombie, T stopped, A adopted. "
                "PID is the process, PPID its parent, PGID its process group, SID its session. "
                "STAT is its state: R runs, S sleeps, D sleeps and cannot be woken, T is stopped, Z is a zombie; further letters are details. "
                "WCHAN is the function of the kernel that it sleeps in, if any. "
                "The first COMMAND is its name, the second what it was started with."
            }
        }
    }
}

fn anchor(result: &ScenarioResult, claim: &Claim) -> String {
    format!("{}-{}", result.scenario.name, claim.id)
}

fn shown(verdict: Option<&Verdict>) -> Markup {
    html! {
        @match verdict.and_then(|verdict| verdict.held) {
            Some(true) => span class="good" { "✓ held" },
            Some(false) => span class="bad" { "✗ NOT held" },
            None => span { "– skipped" },
        }
    }
}

/// Introduces what holds.
fn instead(ruling: Ruling) -> &'static str {
    match ruling {
        Ruling::Right => "",
        Ruling::Imprecise => "More exactly: ",
        Ruling::Wrong => "Instead: ",
    }
}

fn scenario(result: &ScenarioResult) -> Markup {
    let scenario = result.scenario;
    let name = scenario.name;
    html! {
        section class="scenario" id=(name) {
            h2 { a href=(format!("#{name}")) { (name) } }
            p class="about" { (scenario.about) }
            @if let Some(times) = times(result) { p class="faint" { (times) } }
            (run(name, name, &result.events))
            h3 { "What it shows" }
            ul class="claims" { @for one in scenario.claims() { (claim(result, one)) } }
            @if scenario.has_control() { (control(result)) }
            (transcript(name, &result.events))
            p class="again" {
                "By hand: " code { (scenario.by_hand) }
                br;
                "Again, like this: " code { "cargo xtask demo " (name) }
            }
            p { a href="#summary" { "↑ all claims" } }
        }
    }
}

/// Compares the time with the chapter's.
fn times(result: &ScenarioResult) -> Option<String> {
    let (chapters, here) = (result.scenario.seconds, result.seconds);
    let is_sooner = here.round() < chapters;
    is_sooner.then(|| {
        format!("With the chapter's times it takes {chapters} s; here it took {here:.1} s.")
    })
}

/// The timeline, and the snapshots.
fn run(title: &str, folder: &str, events: &[Event]) -> Markup {
    let story = Story::new(events);
    let title = format!("Timeline of {title}");
    html! {
        figure class="timeline" {
            (timeline::inline(&story, &title, WIDE))
            (timeline::inline(&story, &title, NARROW))
            figcaption class="files" { (file(folder, timeline::FILE)) " · " (file(folder, EVENTS)) }
        }
        (printed(events))
        @for snapshot in snapshot::all(events) {
            figure class="snapshot" {
                figcaption {
                    (circled(snapshot.number)) " " (printable(&snapshot.printed.title)) "."
                    " " span class="files" { (file(folder, &snapshot.file())) }
                }
                (snapshot.html())
            }
        }
    }
}

/// What the programs have written, if it is little; the transcript has it all.
fn printed(events: &[Event]) -> Markup {
    let is_line = |event: &&Event| matches!(event.what, What::Line { .. });
    let lines = events.iter().filter(is_line);
    let lines = lines.filter_map(|event| Some((event.t, text::line(&event.what)?)));
    let lines: Vec<(f64, String)> = lines.collect();
    html! {
        @if (1..=FEW_LINES).contains(&lines.len()) {
            details open {
                summary { "What was printed" }
                ul class="printed" {
                    @for (t, line) in &lines { li { span class="faint" { (format!("{t:.3} s ")) } code { (printable(line)) } } }
                }
            }
        }
    }
}

fn file(folder: &str, name: &str) -> Markup {
    html! { a href=(format!("{folder}/{name}")) { (name) } }
}

fn claim(result: &ScenarioResult, claim: &Claim) -> Markup {
    let verdict = result.verdict(claim);
    let because = verdict.and_then(|verdict| verdict.because.as_ref());
    html! {
        li id=(anchor(result, claim)) {
            strong { (claim.id) } ". "
            @if let Some(statement) = &claim.chapter {
                "The chapter says: " (statement.says) " "
                span class="ruling" { "That is " strong { (statement.ruling.word()) } "." }
                br;
                (instead(statement.ruling))
            }
            (shown(verdict)) " in this run: " (claim.here) ". "
            @if let Some(because) = because { br; "Because: " (printable(because)) }
        }
    }
}

fn control(result: &ScenarioResult) -> Markup {
    let Scenario { name, without, .. } = result.scenario;
    let title = format!("{name}, control: {without}");
    let folder = format!("{name}/{CONTROL}");
    let claims = |good: bool| {
        let wanted = result.verdicts_of(true).filter(|it| it.is_good() == good);
        wanted.map(|it| it.claim).collect::<Vec<_>>()
    };
    let (failed, not_failed) = (claims(true), claims(false));
    html! {
        details class="control" {
            summary {
                "The control, for comparison: " (without) ". "
                @if !failed.is_empty() {
                    span class="good" { "✓\u{a0}" (failed.join(", ")) " failed there, as expected. " }
                }
                @if !not_failed.is_empty() {
                    span class="bad" { "✗\u{a0}" (not_failed.join(", ")) " should fail there, and did NOT. " }
                }
                @if failed.is_empty() && not_failed.is_empty() { "Skipped." }
            }
            p { code { (printable(control_command(result))) } }
            ul {
                @for verdict in result.verdicts_of(true) {
                    li { (verdict.claim) ": " (printable(verdict.because.as_deref().unwrap_or(NOTHING_PROVED))) }
                }
            }
            (run(&title, &folder, &result.control_events))
            (transcript(&folder, &result.control_events))
        }
    }
}

fn transcript(folder: &str, events: &[Event]) -> Markup {
    html! {
        details {
            summary { "Transcript" }
            p class="files" { "Seconds, and what was started, printed, done and seen: " (file(folder, text::TRANSCRIPT)) }
            pre tabindex="0" { (printable(&plain_transcript(events))) }
        }
    }
}
