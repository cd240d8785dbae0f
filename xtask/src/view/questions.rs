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

/// A question about a snapshot, with its number, and the events that end with it.
struct Asked<'a> {
    number: usize,
    events: &'a [Event],
    question: Question,
}

/// The first that are not easy, and are about what the scenario shows.
fn asked(result: &ScenarioResult, language: Language) -> Vec<Asked<'_>> {
    let is_snapshot = |at: &usize| matches!(result.events[*at].what, What::Snapshot(_));
    let snapshots = (0..result.events.len()).filter(is_snapshot).zip(1..);
    let of_snapshot = |(at, number): (usize, usize)| {
        let events = &result.events[..=at];
        let questions = question::about(result.scenario, events, language);
        questions.into_iter().map(move |question| Asked { number, events, question })
    };
    let is_own = |claim: &Claim| result.scenario.claims().any(|own| own.id == claim.id);
    let is_wanted = |it: &Asked<'_>| it.question.is_hard && is_own(it.question.claim);
    snapshots.flat_map(of_snapshot).filter(is_wanted).take(IN_A_SCENARIO).collect()
}

/// All questions of a scenario, if there are any.
pub(super) fn block(result: &ScenarioResult, language: Language) -> Markup {
    let asked = asked(result, language);
    html! {
        @if !asked.is_empty() {
            div class="questions" {
                h3 { (say("heading", language)) }
                @for one in &asked { (one.html(result, language)) }
                button type="button" hidden { (say("another", language)) }
            }
        }
    }
}

impl Asked<'_> {
    fn html(&self, result: &ScenarioResult, language: Language) -> Markup {
        let Question { asks, choices, claim, .. } = &self.question;
        let name = result.scenario.name;
        let seconds = self.events.last().map_or(0.0, |event| event.t);
        let file = format!("ps-{}.txt", self.number);
        html! {
            details {
                summary {
                    span class="faint" { (say("when", language).replace("{seconds}", &format!("{seconds:.2}"))) " " code { (printable(&self.last_line())) } }
                    strong { (printable(asks)) }
                    @for choice in choices { span class="choice" { b { (choice.letter) } " " (printable(&choice.says)) } }
                }
                @for choice in choices {
                    p class=(if choice.is_right { "right" } else { "wrong" }) { b { (choice.letter) } " " (choice.verdict) }
                }
                p {
                    a href={ "#" (name) "-" (claim.id) } { (claim.id) }
                    (COLON.to(language)) (claim.here.to(language)) (text(". ", "。").to(language))
                    (say("shown", language).replace("{number}", &self.number.to_string())) " " a href={ (name) "/" (file) } { (file) }
                }
            }
        }
    }

    /// What a program has printed, or what was done to one.
    fn last_line(&self) -> String {
        let last = self.events.iter().rev().find_map(|event| match &event.what {
            What::Line { stream: Stream::Stderr, .. } => None,
            what @ (What::Start { .. } | What::Signal { .. } | What::Line { .. }) => line(what),
            _ => None,
        });
        anstream::adapter::strip_str(&last.unwrap_or_default()).to_string()
    }
}
