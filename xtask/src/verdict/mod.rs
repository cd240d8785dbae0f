//! Verdicts, made from the recorded events and nothing else.

pub(crate) mod result;

use serde::Serialize;

use crate::evidence::Evidence;
use crate::model::event::Event;
use crate::scenarios::Scenario;
use crate::scenarios::ledger::{Claim, Ruling};

/// What came out about one claim. `--json` prints it in this form.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Of the scenario itself.
    #[serde(rename = "verdict")]
    Own {
        scenario: &'static str,
        claim: &'static str,
        held: bool,
        says: &'static str,
        /// Whether the chapter's statement is right.
        #[serde(skip_serializing_if = "Option::is_none")]
        ruling: Option<Ruling>,
        #[serde(skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
    /// This machine lacks what the scenario requires.
    Skipped {
        scenario: &'static str,
        claim: &'static str,
        because: String,
    },
    /// Of the control, which lacks what the claim is about: the claim must fail there.
    Control {
        scenario: &'static str,
        claim: &'static str,
        failed: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
}

impl Verdict {
    /// True if the claim held, the control failed, or the scenario was skipped.
    pub(crate) fn is_good(&self) -> bool {
        match self {
            Verdict::Own { held, .. } => *held,
            Verdict::Control { failed, .. } => *failed,
            Verdict::Skipped { .. } => true,
        }
    }
}

/// Judges a run of the scenario.
pub(crate) fn of_scenario(scenario: &'static Scenario, events: &[Event]) -> Vec<Verdict> {
    let evidence = Evidence(events);
    let skipped = evidence.skipped();
    let verdicts = scenario.shows.iter().map(|(claim, judge)| {
        if let Some(because) = skipped.clone() {
            return Verdict::Skipped {
                scenario: scenario.name,
                claim: claim.id,
                because,
            };
        }
        let because = judge(evidence).err();
        Verdict::Own {
            scenario: scenario.name,
            claim: claim.id,
            held: because.is_none(),
            says: claim.here,
            ruling: claim.chapter.as_ref().map(|statement| statement.ruling),
            because,
        }
    });
    verdicts.collect()
}

/// Judges a run of the scenario's control. A run that broke down proves nothing; one that could not
/// take place here has no verdicts.
pub(crate) fn of_control(scenario: &'static Scenario, events: &[Event]) -> Vec<Verdict> {
    let evidence = Evidence(events);
    if scenario.control.is_none() || evidence.skipped().is_some() {
        return Vec::new();
    }
    let broke_down = evidence.broke_down();
    let must_fail = |claim: &Claim| scenario.refuted().any(|other| other.id == claim.id);
    let of_control = scenario.shows.iter().filter(|(claim, _)| must_fail(claim));
    let verdicts = of_control.map(|(claim, judge)| {
        let (failed, because) = match (&broke_down, judge(evidence)) {
            (Some(why), _) => (false, Some(why.clone())),
            (None, check) => (check.is_err(), check.err()),
        };
        Verdict::Control {
            scenario: scenario.name,
            claim: claim.id,
            failed,
            because,
        }
    });
    verdicts.collect()
}
