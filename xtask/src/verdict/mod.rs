//! Verdicts, made from the recorded events and nothing else.

pub(crate) mod result;

use serde::Serialize;

use crate::evidence::Evidence;
use crate::model::event::Event;
use crate::scenarios::ledger::{self, Ruling};
use crate::scenarios::{Claim, Scenario};

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
    let run = Evidence(events);
    let skipped = run.skipped();
    let judge = |claim: &'static Claim| {
        if let Some(because) = skipped.clone() {
            return Verdict::Skipped {
                scenario: scenario.name,
                claim: claim.id,
                because,
            };
        }
        let because = (claim.judge)(&run).err();
        Verdict::Own {
            scenario: scenario.name,
            claim: claim.id,
            held: because.is_none(),
            says: claim.says,
            ruling: ledger::find(claim.id).map(|statement| statement.ruling),
            because,
        }
    };
    scenario.claims.iter().map(judge).collect()
}

/// Judges a run of the scenario's control. A run that broke down proves nothing; one that could not
/// take place here has no verdicts.
pub(crate) fn of_control(scenario: &'static Scenario, events: &[Event]) -> Vec<Verdict> {
    let Some(control) = &scenario.control else {
        return Vec::new();
    };
    let run = Evidence(events);
    if run.skipped().is_some() {
        return Vec::new();
    }
    let claims = scenario
        .claims
        .iter()
        .filter(|claim| control.refutes.contains(&claim.id));
    let judge = |claim: &'static Claim| {
        let (failed, because) = match (run.broke_down(), (claim.judge)(&run)) {
            (Some(why), _) => (false, Some(why)),
            (None, check) => (check.is_err(), check.err()),
        };
        Verdict::Control {
            scenario: scenario.name,
            claim: claim.id,
            failed,
            because,
        }
    };
    claims.map(judge).collect()
}
