//! Verdicts, made from the recorded events and nothing else.

pub(crate) mod result;

use serde::Serialize;

use crate::evidence::Evidence;
use crate::model::event::Event;
use crate::scenarios::ledger::{Claim, Ruling};
use crate::scenarios::{Judge, Scenario};

/// Whether one claim held in one run. `--json` prints it in this form.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) kind: Kind,
    pub(crate) scenario: &'static str,
    pub(crate) claim: &'static str,
    pub(crate) says: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ruling: Option<Ruling>,
    /// `None` if the run proves nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<bool>,
    /// Why it did not hold, or was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) because: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Of the scenario itself.
    Verdict,
    /// Of the control, which lacks what the claim is about: the claim must fail there.
    Control,
    /// This machine lacks what the scenario requires, or was too slow.
    Skipped,
}

impl Verdict {
    /// Judges a claim, unless the run proves nothing.
    fn new(
        kind: Kind,
        scenario: &Scenario,
        (claim, judge): &(&'static Claim, Judge),
        events: &[Event],
        proves_nothing: Option<&String>,
    ) -> Self {
        let check = match proves_nothing {
            Some(_) => None,
            None => Some(judge(Evidence(events))),
        };
        Self {
            kind,
            scenario: scenario.name,
            claim: claim.id,
            says: claim.here,
            ruling: claim.chapter.as_ref().map(|statement| statement.ruling),
            held: check.as_ref().map(Result::is_ok),
            because: check.map_or(proves_nothing.cloned(), Result::err),
        }
    }

    /// Skips a claim that did not hold in a run that was paused: sleeps end in a pause, too.
    fn after_pauses(mut self, seconds: f64) -> Self {
        if self.held == Some(false) {
            let why = self.because.unwrap_or_default();
            self.because = Some(format!(
                "paused for {seconds:.1} s, in which sleeps may have ended: {why}; try it without --pause"
            ));
            (self.kind, self.held) = (Kind::Skipped, None);
        }
        self
    }

    /// Skips a claim on which the verdict is not as it should be, in a run in which a look came too late.
    fn after_a_late_look(mut self, late: String) -> Self {
        if !self.is_good() {
            let place = match self.kind {
                Kind::Control => "the control was ",
                _ => "",
            };
            let why = self.because.map(|why| format!(" ({why})"));
            self.because = Some(format!("{place}{late}{}", why.unwrap_or_default()));
            (self.kind, self.held) = (Kind::Skipped, None);
        }
        self
    }

    /// True if the claim held, the control failed, or the scenario was skipped.
    pub(crate) fn is_good(&self) -> bool {
        match self.kind {
            Kind::Verdict => self.held == Some(true),
            Kind::Control => self.held == Some(false),
            Kind::Skipped => true,
        }
    }
}

/// Judges a run of the scenario.
pub(crate) fn of_scenario(scenario: &Scenario, events: &[Event]) -> Vec<Verdict> {
    let skipped = Evidence(events).skipped();
    let kind = match skipped {
        Some(_) => Kind::Skipped,
        None => Kind::Verdict,
    };
    let paused = Evidence(events).paused();
    let verdict = |shown| {
        let verdict = Verdict::new(kind, scenario, shown, events, skipped.as_ref());
        match (paused, Evidence(events).late()) {
            (Some(seconds), _) => verdict.after_pauses(seconds),
            (None, Some(late)) => verdict.after_a_late_look(late),
            (None, None) => verdict,
        }
    };
    scenario.shows.iter().map(verdict).collect()
}

/// Whether a run shows less than it should because a look came too late. A slower one can show more.
pub(crate) fn was_too_slow(scenario: &Scenario, control: bool, events: &[Event]) -> bool {
    let verdicts = match control {
        false => of_scenario(scenario, events),
        true => of_control(scenario, events),
    };
    let is_late = Evidence(events).late().is_some();
    let can_take_place = Evidence(events).skipped().is_none();
    let is_skipped = |verdict: &Verdict| verdict.kind == Kind::Skipped;
    is_late && can_take_place && verdicts.iter().any(is_skipped)
}

/// Judges a run of the scenario's control. A run that broke down proves nothing; one that could not
/// take place here has no verdicts.
pub(crate) fn of_control(scenario: &Scenario, events: &[Event]) -> Vec<Verdict> {
    if !scenario.has_control() || Evidence(events).skipped().is_some() {
        return Vec::new();
    }
    let broke_down = Evidence(events).broke_down();
    let verdict = |shown| {
        let verdict = Verdict::new(Kind::Control, scenario, shown, events, broke_down.as_ref());
        match Evidence(events).late() {
            Some(late) => verdict.after_a_late_look(late),
            None => verdict,
        }
    };
    let must_fail = |claim: &Claim| scenario.must_fail().any(|other| other.id == claim.id);
    let shows = scenario.shows.iter().filter(|(claim, _)| must_fail(claim));
    shows.map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::What;
    use crate::scenarios;

    fn run(whats: &[What]) -> Vec<Event> {
        let events = whats.iter().cloned();
        events.map(|what| Event::new("zombie", 0.0, what)).collect()
    }

    #[test]
    fn what_a_late_look_has_missed_is_skipped_with_the_speed_to_try() {
        let scenario = scenarios::find("zombie").unwrap();
        let end = What::End { left: 0 };
        let late = What::Late { seconds: 1.25, speed: 2.5 };
        let events = run(&[late.clone(), end.clone()]);
        assert!(was_too_slow(scenario, false, &events));
        for verdict in of_scenario(scenario, &events) {
            assert!(verdict.kind == Kind::Skipped && verdict.is_good());
            let because = verdict.because.unwrap();
            let why = "too slow at this speed: a look took 1.2 s; try --speed 2 (";
            assert!(because.starts_with(why), "{because}");
        }
        // The control of nothing fails as expected, so nothing is to be repeated.
        assert!(!was_too_slow(scenario, true, &events));

        let in_time = run(&[end]);
        assert!(!was_too_slow(scenario, false, &in_time));
        assert!(of_scenario(scenario, &in_time).iter().all(|it| !it.is_good()));

        // A run that broke down has a better reason.
        let why = "ps does not come to an end".to_owned();
        let broken = run(&[late, What::Failed { why }]);
        assert!(!was_too_slow(scenario, false, &broken));
    }
}
