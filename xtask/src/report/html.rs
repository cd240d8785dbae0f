//! The page: what came out, and for each scenario its pictures. It needs nothing but itself.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::files::{EVENTS, TIMELINE, TRANSCRIPT, TWIN, picture, plain_transcript};
use super::machine::Machine;
use super::story::Story;
use super::timeline::{NARROW, WIDE};
use super::{Told, printable, terminal, text, timeline, twins_commands};
use crate::claims::{self, Chapter, Statement};
use crate::event::{Event, What};
use crate::scenarios::{Claim, Twin};
use crate::verdict::Verdict;

const STYLE: &str = include_str!("page.css");

/// Where the page tells of what it takes to understand a picture.
const MINUTE: &str = "in-a-minute";

/// A run may have more zombies than one wants to read about.
const TOLD_IN_WORDS: usize = 3;

/// So many lines of the programs stand below a picture at most.
const FEW_LINES: usize = 12;

/// `machine` is where the scenarios ran, if that is known.
pub(super) fn page(told: &[Told], machine: Option<&Machine>) -> String {
    let dark = format!(
        "@media screen and (prefers-color-scheme:dark){{{}}}",
        timeline::DARK_STYLE
    );
    let styles = [STYLE, timeline::STYLE, terminal::STYLE, &dark].concat();
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
                header { (head(told, machine)) }
                main {
                    (minute(told))
                    (how_to_read())
                    (summary(told))
                    @for told in told { (scenario(told)) }
                }
            }
        }
    };
    page.into_string()
}

fn head(told: &[Told], machine: Option<&Machine>) -> Markup {
    html! {
        h1 { "What the process table says" }
        p {
            "The chapter “multi-process servers” makes statements about processes. Here they were put to the test: "
            "its programs ran, and each statement was judged from what was recorded of them. "
            "Each picture is one run, drawn from its recording: a bar is a process, blue while it lives, hatched while it is a zombie. "
            "A number, as in " (circled(1)) ", is a moment at which " code { "ps" } " was called; what it printed stands below."
        }
        @if let Some(first) = first(told) {
            p { strong { "Begin with " a href=(format!("#{first}")) { (first) } "." } }
        }
        p class="faint" {
            @if let Some(machine) = machine { (machine.text()) " " }
            (told.len()) " scenarios."
        }
    }
}

/// The scenario to look at first: the one that the others vary, if it is there.
fn first(told: &[Told]) -> Option<&'static str> {
    let mut names = told.iter().map(|told| told.scenario.name);
    let first = names.clone().next();
    names.find(|name| *name == "zombie").or(first)
}

fn circled(number: usize) -> Markup {
    html! { span class="circled" { (number) } }
}

/// What a zombie is, with the scenarios that show it.
fn minute(told: &[Told]) -> Markup {
    let linked = |words: &str, name: &str| {
        let is_here = told.iter().any(|told| told.scenario.name == name);
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
                    "Only a " strong { "wait" } " removes it, by its parent, or by whoever has adopted it. That is to " strong { "reap" }
                    " it: the one who waits is told how it ended, and it is gone."
                    (see("remove-zombie")) (linked("Reaped at once:", "wait"))
                }
                li { "A signal does not, not even SIGKILL: it is dead already." (see("zombie-kill")) }
                li {
                    "A process whose parent has ended is an " strong { "orphan" } ". Another process " strong { "adopts" }
                    " it, which is to become its parent: mostly init; here the " strong { "stage" }
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

fn summary(told: &[Told]) -> Markup {
    let verdicts = || told.iter().flat_map(|told| &told.verdicts);
    let count = |is_counted: fn(&Verdict) -> bool| verdicts().filter(|v| is_counted(v)).count();
    let held = count(|verdict| matches!(verdict, Verdict::Own { held: true, .. }));
    let not_held = count(|verdict| matches!(verdict, Verdict::Own { held: false, .. }));
    let skipped = count(|verdict| matches!(verdict, Verdict::Skipped { .. }));
    let twins = count(|verdict| matches!(verdict, Verdict::Twin { .. }));
    let refuted = count(|verdict| matches!(verdict, Verdict::Twin { refuted: true, .. }));
    html! {
        section id="summary" {
            h2 { "What came out" }
            p {
                strong { (held) " held" } ", "
                @if not_held > 0 { strong class="bad" { (not_held) " did NOT hold" } } @else { "0 did not" }
                ", " (skipped) " skipped. "
                "Held means: our own statement, which stands with the scenario, was seen in this run. Where the chapter is right, it says the same; where the chapter is imprecise or wrong, it is the correction. "
                "In a twin, a run that lacks what the statement is about, it must fail: so it did for "
                (refuted) " of " (twins) "."
            }
            table {
                thead { tr { th { "claim" } th { "the chapter says" } th { "that is" } th { "our statement, in this run" } th { "scenario" } } }
                tbody { @for statement in claims::ALL { (row(told, statement)) } }
            }
        }
    }
}

/// Of the table, if one of the scenarios is about the statement.
fn row(told: &[Told], statement: &Statement) -> Markup {
    let claims = told.iter().flat_map(|told| {
        let claims = told.scenario.claims.iter();
        claims.map(move |claim| (told, claim))
    });
    let about_it = claims.filter(|(_, claim)| claim.id == statement.id);
    html! {
        @for (told, claim) in about_it {
            tr {
                td { a href=(format!("#{}", anchor(told, claim))) { (claim.id) } }
                td { (statement.says) }
                td { (ruling(statement.verdict)) }
                td { (outcome(told.verdict(claim))) }
                td { a href=(format!("#{}", told.scenario.name)) { (told.scenario.name) } }
            }
        }
    }
}

fn how_to_read() -> Markup {
    html! {
        section id="legend" {
            h2 { "How to read the pictures" }
            p {
                "A lane is a process, time goes to the right, and over each step stands what happened. "
                "Short times are drawn wider than they are: the seconds stand below. "
                "The stage is the process that started the programs; orphans are adopted by it, as by init elsewhere. "
                "Each process is a zombie from its exit to the wait for it, if only for an instant; "
                "the bar of one that no " code { "ps" } " was there to see is thin."
            }
            (timeline::legend())
            p {
                "“exit, no wait” is the end of a child whose parent ignores SIGCHLD; "
                "“gone”, of one that was missed when its parent was gone, too; "
                "“cleared up”, of one that the stage has ended when the story was over."
            }
            p {
                "In the pictures of " code { "ps" } ", a row that matters has a bar, a letter and a word: "
                "Z a zombie, T stopped, A adopted. "
                "PID is the process, PPID its parent, PGID its process group, SID its session. "
                "STAT is its state: R runs, S sleeps, D sleeps and cannot be woken, T is stopped, Z is a zombie; further letters are details. "
                "WCHAN is the function of the kernel that it sleeps in, if any. "
                "The first COMMAND is its name, the second what it was started with."
            }
        }
    }
}

fn anchor(told: &Told, claim: &Claim) -> String {
    format!("{}-{}", told.scenario.name, claim.id)
}

fn outcome(verdict: Option<&Verdict>) -> Markup {
    html! {
        @match verdict {
            Some(Verdict::Own { held: true, .. }) => span class="good" { "✓ held" },
            Some(Verdict::Skipped { .. }) => span { "– skipped" },
            _ => span class="bad" { "✗ NOT held" },
        }
    }
}

fn ruling(chapter: Chapter) -> &'static str {
    match chapter {
        Chapter::Right => "right",
        Chapter::Imprecise => "imprecise",
        Chapter::Wrong => "wrong",
    }
}

/// What holds is no part of a wrong statement.
fn instead(chapter: Chapter) -> &'static str {
    match chapter {
        Chapter::Right => "",
        Chapter::Imprecise => "More exactly: ",
        Chapter::Wrong => "Instead: ",
    }
}

fn scenario(told: &Told) -> Markup {
    let scenario = told.scenario;
    let name = scenario.name;
    let claims = scenario.claims;
    html! {
        section class="scenario" id=(name) {
            h2 { a href=(format!("#{name}")) { (name) } }
            p class="about" { (scenario.about) }
            @if let Some(times) = times(told) { p class="faint" { (times) } }
            (run(name, name, &told.events))
            h3 { "What it shows" }
            ul class="claims" { @for one in claims { (claim(told, one)) } }
            @if let Some(other) = &scenario.twin { (twin(told, other)) }
            (transcript(name, &told.events))
            p class="again" {
                "By hand: " code { (scenario.by_hand) }
                br;
                "Again, like this: " code { "cargo xtask demo " (name) }
            }
            p { a href="#summary" { "↑ all claims" } }
        }
    }
}

/// How much sooner it was over than with the chapter's times.
fn times(told: &Told) -> Option<String> {
    let (chapters, here) = (told.scenario.seconds, told.seconds);
    let is_sooner = here.round() < chapters;
    is_sooner.then(|| {
        format!("With the chapter's times it takes {chapters} s; here it took {here:.1} s.")
    })
}

/// The timeline, and the looks at the process table.
fn run(title: &str, folder: &str, events: &[Event]) -> Markup {
    let story = Story::new(events);
    let title = format!("Timeline of {title}");
    let zombies = story.zombies();
    html! {
        @for zombie in zombies.iter().take(TOLD_IN_WORDS) { p class="zombies" { (zombie) } }
        @if let Some(more @ 1..) = zombies.len().checked_sub(TOLD_IN_WORDS) {
            p class="zombies" { "And " (more) " more: see the picture." }
        }
        figure class="timeline" {
            (timeline::inline(&story, &title, WIDE))
            (timeline::inline(&story, &title, NARROW))
            figcaption class="files" { (file(folder, TIMELINE)) " · " (file(folder, EVENTS)) }
        }
        (printed(events))
        @for look in terminal::looks(events) {
            figure class="look" {
                figcaption {
                    (circled(look.number)) " " (printable(look.moment)) "."
                    @for (words, pids) in look.noteworthy() { " " strong { (listed(words, &pids)) } }
                    " " span class="files" { (file(folder, &picture(look.number))) }
                }
                div class="scroll" tabindex="0" { (look.inline()) }
            }
        }
    }
}

/// Processes of which the same is to be said.
fn listed(words: &str, pids: &[i32]) -> Markup {
    let numbers = pids.iter().map(i32::to_string).collect::<Vec<_>>();
    html! {
        @match pids {
            [one] => { span class="pid" { (one) } " is " (words) "." }
            _ => {
                (pids.len()) " are " (words.strip_prefix("a ").map_or(words.to_owned(), |one| one.replacen("zombie", "zombies", 1))) ": "
                @for (index, number) in numbers.iter().enumerate() {
                    @if index > 0 { ", " }
                    span class="pid" { (number) }
                }
                "."
            }
        }
    }
}

/// What the programs said, if it is little; the transcript has it all.
fn printed(events: &[Event]) -> Markup {
    let lines: Vec<(f64, String)> = events
        .iter()
        .filter(|event| matches!(event.what, What::Line { .. }))
        .filter_map(|event| Some((event.t, text::line(&event.what)?)))
        .collect();
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

fn claim(told: &Told, claim: &Claim) -> Markup {
    let verdict = told.verdict(claim);
    let because = match verdict {
        Some(Verdict::Own { because, .. }) => because.as_deref(),
        Some(Verdict::Skipped { because, .. }) => Some(because.as_str()),
        _ => None,
    };
    html! {
        li id=(anchor(told, claim)) {
            strong { (claim.id) } ". "
            @if let Some(statement) = claims::find(claim.id) {
                "The chapter says: " (statement.says) " "
                span class="ruling" { "That is " strong { (ruling(statement.verdict)) } "." }
                br;
                (instead(statement.verdict))
            }
            (outcome(verdict)) " in this run: " (claim.says) ". "
            @if let Some(because) = because { br; "Because: " (printable(because)) }
        }
    }
}

fn twin(told: &Told, twin: &Twin) -> Markup {
    let name = told.scenario.name;
    let title = format!("{name}, twin: {}", twin.about);
    let verdicts = told.verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Twin {
            claim,
            refuted,
            because,
            ..
        } => Some((*claim, *refuted, because.as_deref())),
        _ => None,
    });
    let verdicts: Vec<_> = verdicts.collect();
    let claims = |are_refuted: bool| {
        let wanted = verdicts.iter().filter(|verdict| verdict.1 == are_refuted);
        wanted.map(|verdict| verdict.0).collect::<Vec<_>>()
    };
    let (refuted, not_refuted) = (claims(true), claims(false));
    html! {
        details class="twin" {
            summary {
                "The twin, for comparison: " (twin.about) ". "
                @if !refuted.is_empty() {
                    span class="good" { "✓\u{a0}" (refuted.join(", ")) " must fail there, and did (refuted). " }
                }
                @if !not_refuted.is_empty() {
                    span class="bad" { "✗\u{a0}" (not_refuted.join(", ")) " should fail there, and did not (NOT refuted). " }
                }
                @if verdicts.is_empty() { "Skipped." }
            }
            p { code { (printable(&twins_commands(told))) } }
            ul {
                @for (claim, _, because) in &verdicts {
                    li { (claim) ": " (printable(because.unwrap_or("it held there, too, so it shows nothing"))) }
                }
            }
            (run(&title, &format!("{name}/{TWIN}"), &told.twins_events))
            (transcript(&format!("{name}/{TWIN}"), &told.twins_events))
        }
    }
}

fn transcript(folder: &str, events: &[Event]) -> Markup {
    html! {
        details {
            summary { "Transcript" }
            p class="files" { "Seconds, and what was started, printed, done and seen: " (file(folder, TRANSCRIPT)) }
            pre tabindex="0" { (printable(&plain_transcript(events))) }
        }
    }
}
