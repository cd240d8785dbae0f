//! What came out of a scenario and its control.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::model::event::{Event, What};
use crate::scenarios::Scenario;
use crate::scenarios::ledger::Claim;
use crate::verdict::{self, Kind, Verdict};

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
        let mut verdicts = verdict::of_run(scenario, false, &events);
        verdicts.extend(verdict::of_run(scenario, true, &control_events));
        let seconds = events.last().map_or(0.0, |event| event.t);
        Self { scenario, events, control_events, verdicts, seconds }
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
        let mut own = self.verdicts_of(false);
        own.find(|verdict| verdict.claim == wanted.id)
    }

    /// The verdicts of the control, or of the scenario itself.
    pub(crate) fn verdicts_of(&self, control: bool) -> impl Iterator<Item = &Verdict> {
        let verdicts = self.verdicts.iter();
        verdicts.filter(move |verdict| (verdict.kind == Kind::Control) == control)
    }
}

/// How many claims there are of each kind. A claim that several scenarios show counts once, and holds if
/// it does in all that ran. `--json` prints the counts in this form.
#[derive(Serialize)]
pub(crate) struct Counts {
    pub(crate) held: usize,
    pub(crate) not_held: usize,
    pub(crate) skipped: usize,
    pub(crate) controls_failed: usize,
    pub(crate) controls_not_failed: usize,
}

impl Counts {
    pub(crate) fn of(results: &[ScenarioResult]) -> Self {
        let claims = |kind: Kind, good: bool| -> BTreeSet<&str> {
            let verdicts = results.iter().flat_map(|result| &result.verdicts);
            let wanted = verdicts.filter(|it| it.kind == kind && it.is_good() == good);
            wanted.map(|verdict| verdict.claim).collect()
        };
        let (held, not_held) = (claims(Kind::Verdict, true), claims(Kind::Verdict, false));
        let skipped = &claims(Kind::Skipped, true) - &(&held | &not_held);
        let not_failed = claims(Kind::Control, false);
        Self {
            held: (&held - &not_held).len(),
            not_held: not_held.len(),
            skipped: skipped.len(),
            controls_failed: (&claims(Kind::Control, true) - &not_failed).len(),
            controls_not_failed: not_failed.len(),
        }
    }
}
