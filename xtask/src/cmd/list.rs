//! `cargo xtask list`.

use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::scenarios::{ALL, Scenario};
use crate::view::output::{self, BOLD, styled, wrapped};

/// What the program of a scenario requires that not every machine has. When it is missing, the program
/// exits with 77, and the scenario is skipped.
const NEEDS: &[(&str, &str)] = &[
    ("pid-namespace", NAMESPACES),
    ("pid-reuse", NAMESPACES),
    ("resources", NAMESPACES),
    ("fork-with-threads", STRACE),
    ("system-calls", STRACE),
];
const NAMESPACES: &str = "root, or user namespaces for everybody";
const STRACE: &str = "strace";

pub(crate) fn run() -> Result<bool, Failure> {
    let width = output::width();
    let texts: Vec<_> = ALL.iter().map(|scenario| text(scenario, width)).collect();
    output::print(&texts.concat()).map(|()| true)
}

fn text(scenario: &Scenario, width: usize) -> String {
    let (name, seconds) = (scenario.name, scenario.seconds);
    let short = seconds / Clock::default().speed;
    let heading = format!(
        "{}  ({seconds} s in the chapter, at least {short} s in the demo)",
        styled(BOLD, name)
    );
    let mut out = wrapped(&heading, "", "    ", width);
    let mut part = |text: &str| out += &wrapped(text, "    ", "      ", width);
    part(scenario.about);
    part(&format!("by hand: {}", scenario.by_hand));
    if let Some(needs) = needs(scenario) {
        part(&format!("needs: {needs}"));
    }
    for claim in scenario.claims {
        part(&format!("{}: {}", claim.id, claim.says));
    }
    if let Some(control) = &scenario.control {
        let refutes = control.refutes.join(", ");
        part(&format!(
            "control: {}, so that {refutes} must fail",
            control.about
        ));
    }
    out
}

fn needs(scenario: &Scenario) -> Option<&'static str> {
    let of_it = NEEDS
        .iter()
        .find(|(program, _)| *program == scenario.program);
    of_it.map(|(_, needs)| *needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_need_is_that_of_a_scenario() {
        for (program, _) in NEEDS {
            assert!(ALL.iter().any(|it| it.program == *program), "{program}");
        }
    }
}
