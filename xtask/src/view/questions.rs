//! The questions of a scenario, for the page. They stand above what answers them, and each is complete
//! without the script, which makes buttons of the choices.

use maud::{Markup, html};

use crate::model::bilingual::{COLON, Language, text};
use crate::model::event::{Event, Stream, What};
use crate::scenarios::ledger::Claim;
use crate::verdict::result::ScenarioResult;
use crate::view::question::{self, Question, say};
use crate::view::text::{line, printable};

pub(super) const SCRIPT: &str = include_str!("questions.js");

/// More would make the page too large.
const IN_A_SCENARIO: usize = 4;

/// The first that are not easy, and are about what the scenario shows; if there are any.
pub(super) fn block(result: &ScenarioResult, language: Language) -> Markup {
    let is_snapshot = |at: &usize| matches!(result.events[*at].what, What::Snapshot(_));
    let snapshots = (0..result.events.len()).filter(is_snapshot).zip(1..);
    let of_snapshot = |(at, number): (usize, usize)| {
        let events = &result.events[..=at];
        let mut questions = question::about(result.scenario, events, language);
        let is_own = |claim: &Claim| result.scenario.claims().any(|own| own.id == claim.id);
        questions.retain(|it| it.is_hard && is_own(it.claim));
        let name = result.scenario.name;
        questions.into_iter().map(move |it| html(name, number, events, &it, language))
    };
    let mut questions = snapshots.flat_map(of_snapshot).take(IN_A_SCENARIO).peekable();
    html! {
        @if questions.peek().is_some() {
            div class="questions" data-another=(say("another", language)) {
                h4 { (say("heading", language).replace("{scenario}", result.scenario.name)) }
                @for question in questions { (question) }
            }
        }
    }
}

/// A question about the snapshot with this number, which is the last of these events.
fn html(name: &str, number: usize, events: &[Event], it: &Question, language: Language) -> Markup {
    let Question { asks, choices, claim, .. } = it;
    let seconds = format!("{:.2}", events.last().map_or(0.0, |event| event.t));
    let file = format!("ps-{number}.txt");
    html! {
        details {
            summary {
                span class="faint" { (say("when", language).replace("{seconds}", &seconds)) " " code { (printable(&last_line(events, language))) } }
                strong { (printable(asks)) }
                @for choice in choices { span class="choice" { b { (choice.letter) } " " (printable(&choice.says)) } }
            }
            @for choice in choices {
                p class=(if choice.is_right { "right" } else { "wrong" }) { b { (choice.letter) } " " (choice.verdict) }
            }
            p {
                a href={ "#" (name) "-" (claim.id) } { (claim.id) }
                (COLON.to(language)) (claim.here().to(language)) (text(". ", "。").to(language))
                (say("shown", language).replace("{number}", &number.to_string())) " " a href={ (name) "/" (file) } { (file) }
            }
        }
    }
}

/// What a program has printed, or what was done to one.
fn last_line(events: &[Event], language: Language) -> String {
    let is_told = |event: &&Event| match &event.what {
        What::Line { stream, .. } => *stream == Stream::Stdout,
        what => matches!(what, What::Start { .. } | What::Signal { .. }),
    };
    let last = events.iter().rfind(is_told).and_then(|event| line(&event.what, language));
    anstream::adapter::strip_str(&last.unwrap_or_default()).to_string()
}
