//! `cargo xtask explain C29`: what the chapter says, what holds here, and where to look.

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::model::failure::Failure;
use crate::scenarios::ledger::{self, Ruling, Statement};
use crate::scenarios::{ALL, Claim, Scenario};
use crate::view::output::{self, BAD, BOLD, GOOD, MARK, styled, wrapped};

#[derive(Args)]
pub(crate) struct Explain {
    /// Which claims, such as C29; or all
    #[arg(required = true, value_name = "CLAIM", ignore_case = true, hide_possible_values = true,
          value_parser = claim_ids())]
    pub(crate) claims: Vec<String>,
}

fn claim_ids() -> PossibleValuesParser {
    let ids = ledger::ALL.iter().map(|statement| statement.id);
    ids.chain(["all"]).collect::<Vec<_>>().into()
}

pub(crate) fn run(options: &Explain) -> Result<bool, Failure> {
    let width = output::width();
    let all = options.claims.iter().any(|id| id == "all");
    let asked = options.claims.iter();
    let asked = asked.filter_map(|id| ledger::find(&id.to_uppercase()));
    let statements: Vec<&Statement> = match all {
        true => ledger::ALL.iter().collect(),
        false => asked.collect(),
    };
    let texts: Vec<_> = statements.iter().map(|&it| text(it, width)).collect();
    output::print(&texts.join("\n")).map(|()| true)
}

fn text(statement: &Statement, width: usize) -> String {
    let mut out = format!(
        "{}  {}\n",
        styled(BOLD, statement.id),
        ruling(statement.ruling)
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

fn ruling(ruling: Ruling) -> String {
    match ruling {
        Ruling::Right => styled(GOOD, "right"),
        Ruling::Imprecise => styled(MARK, "imprecise"),
        Ruling::Wrong => styled(BAD, "wrong"),
    }
}
