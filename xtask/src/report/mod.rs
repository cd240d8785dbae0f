//! How a scenario is told: as text for people, as files, and as a page of pictures. All of it is
//! made from the recorded events alone.

mod files;
mod html;
mod machine;
mod story;
mod terminal;
mod text;
mod timeline;

pub(crate) use files::{EVENTS, INDEX, TWIN, begin, redraw, refuses, write_index};
pub(crate) use text::{heading, line, picture, table};

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

    /// A run that could not go on shows less than it should, whatever had been seen before.
    pub(crate) fn is_good(&self) -> bool {
        let mut events = self.events.iter().chain(&self.twins_events);
        let has_failed = events.any(|event| matches!(event.what, What::Failed { .. }));
        !has_failed && self.verdicts.iter().all(Verdict::is_good)
    }

    /// How many processes were left of the two runs.
    pub(crate) fn left(&self) -> usize {
        let left = |event: &Event| match event.what {
            What::End { left } => left,
            _ => 0,
        };
        let left = self.events.iter().chain(&self.twins_events).map(left);
        left.fold(0, usize::saturating_add)
    }

    /// What came out about a claim, in the scenario itself.
    fn verdict(&self, wanted: &Claim) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| match verdict {
            Verdict::Own { claim, .. } | Verdict::Skipped { claim, .. } => *claim == wanted.id,
            Verdict::Twin { .. } => false,
        })
    }
}

/// The commands of the twin that the scenario itself did not start in their place; if what differs
/// is not in the commands, the first.
fn twins_commands(told: &Told) -> String {
    let (own, twins) = (commands(&told.events), commands(&told.twins_events));
    let differs = |(index, command): &(usize, &&str)| {
        let other = own.get(*index).copied().unwrap_or_default();
        !without_address(command).eq(without_address(other))
    };
    let differing = twins.iter().enumerate().filter(differs);
    let differing: Vec<&str> = differing.map(|(_, command)| *command).collect();
    match (differing.as_slice(), twins.first()) {
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
