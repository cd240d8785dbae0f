//! `cargo xtask explain C29`: what the chapter says, what holds here, and where to look.

use std::process::ExitCode;

use crate::claims::Chapter;
use crate::claims::{self, Statement};
use crate::options::Explain;
use crate::output::{self, BAD, BOLD, GOOD, MARK, styled, wrapped};
use crate::scenarios::{ALL, Claim, Scenario};

pub(crate) fn run(options: &Explain) -> ExitCode {
    let width = output::width();
    let all = options.claims.iter().any(|id| id == "all");
    let asked = options.claims.iter();
    let asked = asked.filter_map(|id| claims::find(&id.to_uppercase()));
    let statements: Vec<&Statement> = match all {
        true => claims::ALL.iter().collect(),
        false => asked.collect(),
    };
    let texts: Vec<_> = statements.iter().map(|&it| text(it, width)).collect();
    output::print(&texts.join("\n"))
}

fn text(statement: &Statement, width: usize) -> String {
    let mut out = format!(
        "{}  {}\n",
        styled(BOLD, statement.id),
        ruling(statement.verdict)
    );
    let mut part = |name: &str, text: &str| {
        out += &wrapped(&format!("{name}: {text}"), "  ", "    ", width);
    };
    part("the chapter says", statement.says);
    let shown: Vec<_> = shown_by(statement.id).collect();
    if shown.is_empty() {
        part("here", "no scenario shows it yet");
    }
    for (scenario, claim) in &shown {
        part("here", claim.says);
        part(
            "shown by",
            &format!("{}. {}", scenario.name, scenario.about),
        );
        part("run", &format!("cargo xtask demo {}", scenario.name));
        part("by hand", scenario.by_hand);
    }
    for code in statement.code {
        part("read", code);
    }
    out
}

/// The scenarios that prove something about it, and what.
fn shown_by(id: &str) -> impl Iterator<Item = (&'static Scenario, &'static Claim)> {
    let claims = |scenario: &'static Scenario| scenario.claims.iter().map(move |it| (scenario, it));
    ALL.iter().flat_map(claims).filter(move |it| it.1.id == id)
}

fn ruling(verdict: Chapter) -> String {
    match verdict {
        Chapter::Right => styled(GOOD, "right"),
        Chapter::Imprecise => styled(MARK, "imprecise"),
        Chapter::Wrong => styled(BAD, "wrong"),
    }
}
