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
    /// Skips a verdict that is not as it should be, for a reason that has nothing to do with the claim.
    fn or_skipped(mut self, reason: impl FnOnce(String) -> String) -> Self {
        if !self.is_good() {
            self.because = Some(reason(self.because.unwrap_or_default()));
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

/// Judges a run of the scenario, or of its control. A control that broke down proves nothing; one that
/// could not take place here has no verdicts.
pub(crate) fn of_run(scenario: &Scenario, control: bool, events: &[Event]) -> Vec<Verdict> {
    let evidence = Evidence(events);
    let (kind, proves_nothing) = match (control, evidence.skipped()) {
        (false, None) => (Kind::Verdict, None),
        (false, Some(why)) => (Kind::Skipped, Some(why)),
        (true, None) => (Kind::Control, evidence.broke_down()),
        (true, Some(_)) => return Vec::new(),
    };
    let must_fail = |claim: &Claim| scenario.must_fail().any(|other| other.id == claim.id);
    let shows = scenario.shows.iter().filter(|(claim, _)| !control || must_fail(claim));
    let verdict = |(claim, judge): &(&'static Claim, Judge)| {
        let check = proves_nothing.is_none().then(|| judge(evidence));
        let verdict = Verdict {
            kind,
            scenario: scenario.name,
            claim: claim.id,
            says: claim.here().en,
            ruling: claim.ruling(),
            held: check.as_ref().map(Result::is_ok),
            because: check.map_or(proves_nothing.clone(), Result::err),
        };
        match (evidence.paused(), evidence.late()) {
            // Sleeps end in a pause, too.
            (Some(seconds), _) => verdict.or_skipped(|why| {
                format!(
                    "paused for {seconds:.1} s, in which sleeps may have ended: {why}; \
                     try it without --pause"
                )
            }),
            (None, Some(late)) => verdict.or_skipped(|why| {
                let subject = if control { "the control was " } else { "" };
                let why = if why.is_empty() { why } else { format!(" ({why})") };
                format!("{subject}{late}{why}")
            }),
            (None, None) => verdict,
        }
    };
    shows.map(verdict).collect()
}

/// Whether a run that was not paused shows less than it should because a look came too late. A slower one
/// can show more.
pub(crate) fn was_too_slow(scenario: &Scenario, control: bool, events: &[Event]) -> bool {
    let verdicts = of_run(scenario, control, events);
    let is_skipped = verdicts.iter().any(|verdict| verdict.kind == Kind::Skipped);
    is_skipped && Evidence(events).skipped().is_none()
}
