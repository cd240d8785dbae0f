//! `cargo xtask explain C29`: what the chapter says, what holds here, and where to look.

use anstyle::Style;
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::model::failure::Failure;
use crate::scenarios::ledger::{self, Claim, Ruling};
use crate::scenarios::{self, Scenario};
use crate::view::output::{self, BAD, BOLD, GOOD, MARK, styled, wrapped};

#[derive(Args)]
pub(crate) struct Explain {
    /// Which claims, such as C29; or all
    #[arg(required = true, value_name = "CLAIM", ignore_case = true, hide_possible_values = true,
          value_parser = claim_ids())]
    pub(crate) claims: Vec<String>,
}

fn claim_ids() -> PossibleValuesParser {
    let ids = ledger::ALL.iter().map(|claim| claim.id);
    PossibleValuesParser::new(ids.chain(["all"]))
}

pub(crate) fn run(options: &Explain) -> Result<bool, Failure> {
    let width = output::width();
    let all = options.claims.iter().any(|id| id == "all");
    let wanted = options.claims.iter().filter_map(|id| ledger::find(&id.to_uppercase()));
    let claims: Vec<&Claim> = match all {
        true => ledger::ALL.to_vec(),
        false => wanted.collect(),
    };
    let texts: Vec<_> = claims.iter().map(|claim| text(claim, width)).collect();
    output::print(&texts.join("\n")).map(|()| true)
}

fn text(claim: &Claim, width: usize) -> String {
    let ruling = match claim.chapter.as_ref().map(|statement| statement.ruling) {
        Some(ruling) => styled(style(ruling), ruling.word()),
        None => "beyond the chapter".to_owned(),
    };
    let mut out = format!("{}  {ruling}\n", styled(BOLD, claim.id));
    let mut part = |name: &str, text: &str| {
        out += &wrapped(&format!("{name}: {text}"), "  ", "    ", width);
    };
    if let Some(statement) = &claim.chapter {
        part("the chapter says", statement.says);
    }
    part("here", claim.here);
    let shows_it = |scenario: &&Scenario| scenario.claims().any(|it| it.id == claim.id);
    for scenario in scenarios::all().filter(shows_it) {
        let (name, about) = (scenario.name, scenario.about);
        part("shown by", &format!("{name}. {about}"));
        part("run", &format!("cargo xtask demo {name}"));
        part("by hand", scenario.by_hand);
    }
    for code in claim.code {
        part("read", code);
    }
    out
}

fn style(ruling: Ruling) -> Style {
    match ruling {
        Ruling::Right => GOOD,
        Ruling::Imprecise => MARK,
        Ruling::Wrong => BAD,
    }
}
