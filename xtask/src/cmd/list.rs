//! `cargo xtask list`.

use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::scenarios::{self, Scenario};
use crate::view::output::{self, BOLD, styled, wrapped};

pub(crate) fn run() -> Result<bool, Failure> {
    let width = output::width();
    let texts: Vec<_> = scenarios::all().map(|scenario| text(scenario, width)).collect();
    output::print(&texts.concat()).map(|()| true)
}

fn text(scenario: &Scenario, width: usize) -> String {
    let (name, seconds) = (scenario.name, scenario.seconds);
    let short = seconds / scenario.clock(Clock::default()).speed;
    let heading = format!(
        "{}  ({seconds} s in the chapter, at least {short} s in the demo)",
        styled(BOLD, name)
    );
    let mut out = wrapped(&heading, "", "    ", width);
    let mut part = |text: &str| out += &wrapped(text, "    ", "      ", width);
    part(scenario.about);
    part(&format!("by hand: {}", scenario.by_hand));
    for need in scenario.needs {
        part(&format!("needs: {}", need.name));
    }
    for claim in scenario.claims() {
        part(&format!("{}: {}", claim.id, claim.here));
    }
    if scenario.has_control() {
        let claims: Vec<_> = scenario.must_fail().map(|claim| claim.id).collect();
        let (without, claims) = (scenario.without, claims.join(", "));
        part(&format!("control: {without}, so that {claims} must fail"));
    }
    out
}
