//! Verdicts, made from the recorded events and nothing else.

use serde::Serialize;

use crate::claims::{self, Chapter};
use crate::event::Event;
use crate::record::Record;
use crate::scenarios::{Claim, Scenario};

/// What came out about one claim. Its form in `--json` is a promise.
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
        /// What that makes of the chapter's statement.
        #[serde(skip_serializing_if = "Option::is_none")]
        chapter: Option<Chapter>,
        #[serde(skip_serializing_if = "Option::is_none")]
        because: Option<String>,
    },
    /// This machine lacks what the scenario takes.
    Skipped {
        scenario: &'static str,
        claim: &'static str,
        because: String,
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
    /// As it should be: held, or refuted where the cure is missing; or not to be had here.
    pub(crate) fn is_good(&self) -> bool {
        match self {
            Verdict::Own { held, .. } => *held,
            Verdict::Twin { refuted, .. } => *refuted,
            Verdict::Skipped { .. } => true,
        }
    }
}

/// Judges a run of the scenario.
pub(crate) fn of_scenario(scenario: &'static Scenario, events: &[Event]) -> Vec<Verdict> {
    let run = Record(events);
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
            chapter: claims::find(claim.id).map(|statement| statement.verdict),
            because,
        }
    };
    scenario.claims.iter().map(judge).collect()
}

/// Judges a run of the scenario's twin. A run that broke down refutes nothing; one that could not
/// take place here says nothing.
pub(crate) fn of_twin(scenario: &'static Scenario, events: &[Event]) -> Vec<Verdict> {
    let Some(twin) = &scenario.twin else {
        return Vec::new();
    };
    let run = Record(events);
    if run.skipped().is_some() {
        return Vec::new();
    }
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
