//! What came out of a scenario and its control.

use crate::model::event::{Event, What};
use crate::scenarios::{Claim, Scenario};
use crate::verdict::{self, Verdict};

pub(crate) struct ScenarioResult {
    pub(crate) scenario: &'static Scenario,
    pub(crate) events: Vec<Event>,
    pub(crate) control_events: Vec<Event>,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) seconds: f64,
}

impl ScenarioResult {
    /// Judges the two runs.
    pub(crate) fn new(
        scenario: &'static Scenario,
        events: Vec<Event>,
        control_events: Vec<Event>,
    ) -> Self {
        let mut verdicts = verdict::of_scenario(scenario, &events);
        verdicts.extend(verdict::of_control(scenario, &control_events));
        let seconds = events.last().map_or(0.0, |event| event.t);
        Self {
            scenario,
            events,
            control_events,
            verdicts,
            seconds,
        }
    }

    /// False also if a run could not go on: it then shows less than it should, whatever it has shown
    /// before.
    pub(crate) fn is_good(&self) -> bool {
        let mut events = self.events.iter().chain(&self.control_events);
        let has_failed = events.any(|event| matches!(event.what, What::Failed { .. }));
        !has_failed && self.verdicts.iter().all(Verdict::is_good)
    }

    /// How many processes were left of the two runs.
    pub(crate) fn left(&self) -> usize {
        let left = |event: &Event| match event.what {
            What::End { left } => left,
            _ => 0,
        };
        let left = self.events.iter().chain(&self.control_events).map(left);
        left.fold(0, usize::saturating_add)
    }

    /// The verdict on a claim, of the scenario itself.
    pub(crate) fn verdict(&self, wanted: &Claim) -> Option<&Verdict> {
        self.verdicts.iter().find(|verdict| match verdict {
            Verdict::Own { claim, .. } | Verdict::Skipped { claim, .. } => *claim == wanted.id,
            Verdict::Control { .. } => false,
        })
    }
}
