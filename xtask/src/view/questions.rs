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

/// A question, and its snapshot.
struct Asked<'a> {
    number: usize,
    seconds: f64,
    /// What had happened before it.
    before: &'a [Event],
    question: Question,
}

/// The first that are not easy, and are about what the scenario shows.
fn asked(result: &ScenarioResult, language: Language) -> Vec<Asked<'_>> {
    let events = result.events.iter().enumerate();
    let snapshots = events.filter(|(_, event)| matches!(event.what, What::Snapshot(_))).zip(1..);
    let of_snapshot = |((at, event), number): ((usize, &'_ Event), usize)| {
        let questions = question::about(result.scenario, &result.events[..=at], language);
        let before = &result.events[..at];
        let seconds = event.t;
        questions.into_iter().map(move |question| Asked { number, seconds, before, question })
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
        let seconds = format!("{:.2}", self.seconds);
        let file = format!("ps-{}.txt", self.number);
        html! {
            details {
                summary {
                    span class="faint" { (say("when", language).replace("{seconds}", &seconds)) " " code { (printable(&self.last_line())) } }
                    strong { (printable(asks)) }
                    @for (letter, choice) in ('A'..).zip(choices) { span class="choice" { b { (letter) } " " (printable(&choice.says)) } }
                }
                @for (letter, choice) in ('A'..).zip(choices) {
                    @let verdict = say(if choice.is_right { "right" } else { "wrong" }, language);
                    p class=(if choice.is_right { "right" } else { "wrong" }) { b { (letter) } " " (verdict.replace("{because}", choice.because)) }
                }
                p {
                    a href={ "#" (name) "-" (claim.id) } { (claim.id) }
                    (COLON.to(language)) (claim.here.to(language)) (text(". ", "。").to(language))
                    (say("shown", language)) " " a href={ (name) "/" (file) } { (file) }
                }
            }
        }
    }

    /// What a program has printed, or what was done to one.
    fn last_line(&self) -> String {
        let is_told = |what: &&What| {
            matches!(
                what,
                What::Start { .. }
                    | What::Signal { .. }
                    | What::Line { stream: Stream::Stdout, .. }
            )
        };
        let last = self.before.iter().rev().map(|event| &event.what).find(is_told);
        anstream::adapter::strip_str(&last.and_then(line).unwrap_or_default()).to_string()
    }
}
