//! How a scenario is told: as text for people, as files, and as a page of pictures. All of it is
//! made from the recorded events alone.

mod files;
mod html;
mod story;
mod terminal;
mod text;
mod timeline;

pub(crate) use files::{EVENTS, INDEX, TWIN, write_index};
pub(crate) use text::{heading, line, picture, table};

use crate::claims::{self, Chapter};
use crate::event::{Event, What};
use crate::scenarios::{Claim, Scenario};
use crate::verdict::{self, Verdict};

/// What is known of a scenario when it and its twin are over.
pub(crate) struct Told {
    pub(crate) scenario: &'static Scenario,
    pub(crate) events: Vec<Event>,
    pub(crate) twins_events: Vec<Event>,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) seconds: f64,
}

impl Told {
    /// Judges the two runs.
    pub(crate) fn new(
        scenario: &'static Scenario,
        events: Vec<Event>,
        twins_events: Vec<Event>,
    ) -> Self {
        let verdicts = [
            verdict::of_scenario(scenario, &events),
            verdict::of_twin(scenario, &twins_events),
        ]
        .concat();
        let seconds = events.last().map_or(0.0, |event| event.t);
        Self {
            scenario,
            events,
            twins_events,
            verdicts,
            seconds,
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.verdicts.iter().all(Verdict::is_good)
    }

    /// How many processes were left of the two runs.
    pub(crate) fn left(&self) -> usize {
        let left = |event: &Event| match event.what {
            What::End { left } => left,
            _ => 0,
        };
        self.events.iter().chain(&self.twins_events).map(left).sum()
    }

    /// What came out about a claim, in the scenario itself.
    fn verdict(&self, wanted: &Claim) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| match verdict {
            Verdict::Own { claim, .. } | Verdict::Skipped { claim, .. } => *claim == wanted.id,
            Verdict::Twin { .. } => false,
        })
    }
}

/// The command with which a run began.
fn command(events: &[Event]) -> Option<&str> {
    events.iter().find_map(|event| match &event.what {
        What::Start { command, .. } => Some(command.as_str()),
        _ => None,
    })
}

/// What the claim, if it holds, makes of the chapter's statement.
fn chapter(claim: &Claim) -> Chapter {
    claims::find(claim.id).map_or(Chapter::Right, |statement| statement.verdict)
}

/// Without what neither a page nor a picture may hold: a program may have written anything.
fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => c,
        '\t' => ' ',
        c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}
