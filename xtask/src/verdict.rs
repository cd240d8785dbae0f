//! Verdicts, made from the recorded events and nothing else.

use serde::Serialize;

use crate::event::Event;
use crate::record::Record;
use crate::scenarios::{Claim, Scenario};

/// What came out about one claim. Its form in `--json` is a promise.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Of the scenario itself.
    Verdict {
        scenario: &'static str,
        claim: &'static str,
        held: bool,
        says: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
    /// Of the twin, which lacks what the claim is about: the claim must not hold there.
    Twin {
        scenario: &'static str,
        claim: &'static str,
        refuted: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
}

impl Verdict {
    /// As it should be: held, or refuted where the cure is missing.
    pub(crate) fn is_good(&self) -> bool {
        match self {
            Verdict::Verdict { held, .. } => *held,
            Verdict::Twin { refuted, .. } => *refuted,
        }
    }
}

/// Judges a run of the scenario.
pub(crate) fn of_scenario(scenario: &'static Scenario, events: &[Event]) -> Vec<Verdict> {
    let judge = |claim: &'static Claim| {
        let because = (claim.judge)(&Record(events)).err();
        Verdict::Verdict {
            scenario: scenario.name,
            claim: claim.id,
            held: because.is_none(),
            says: claim.says,
            because,
        }
    };
    scenario.claims.iter().map(judge).collect()
}

/// Judges a run of the scenario's twin. A run that broke down refutes nothing.
pub(crate) fn of_twin(scenario: &'static Scenario, events: &[Event]) -> Vec<Verdict> {
    let Some(twin) = &scenario.twin else {
        return Vec::new();
    };
    let run = Record(events);
    let claims = scenario
        .claims
        .iter()
        .filter(|claim| twin.refutes.contains(&claim.id));
    let judge = |claim: &'static Claim| {
        let (refuted, because) = match (run.broke_down(), (claim.judge)(&run)) {
            (Some(why), _) => (false, Some(why)),
            (None, judgement) => (judgement.is_err(), judgement.err()),
        };
        Verdict::Twin {
            scenario: scenario.name,
            claim: claim.id,
            refuted,
            because,
        }
    };
    claims.map(judge).collect()
}
