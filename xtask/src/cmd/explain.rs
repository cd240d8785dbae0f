//! `cargo xtask explain C29`, or the name of a scenario, or a word: what it is about, and where to look.

use anstyle::Style;
use clap::Args;

use crate::cmd::{Reader, Topics};
use crate::model::bilingual::{Language, Text, text};
use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::scenarios::ledger::{self, Claim, Ruling};
use crate::scenarios::{self, SECTIONS, Scenario};
use crate::view::output::{self, BAD, BOLD, GOOD, MARK, cut, styled, wrapped};

/// How many lines an answer may have, so that it and the next prompt fit a terminal.
const SCREEN: usize = 23;

#[derive(Args)]
pub(crate) struct Explain {
    /// Which claims or scenarios, such as C29 or zombie; a word in their texts, such as adopt; or all
    #[arg(required = true, value_name = "TOPIC", hide_possible_values = true, value_parser = Topics)]
    topics: Vec<String>,

    #[command(flatten)]
    reader: Reader,
}

pub(crate) fn run(options: &Explain) -> Result<bool, Failure> {
    let page = Page { language: options.reader.language(), width: output::width() };
    let answers: Result<Vec<String>, Failure> =
        options.topics.iter().map(|topic| page.answer(topic)).collect();
    output::print(&answers?.join("\n")).map(|()| true)
}

fn text(claim: &Claim, width: usize) -> String {
    let ruling = match claim.ruling() {
        Some(ruling) => styled(style(ruling), ruling.word()),
        None => "beyond the chapter".to_owned(),
    };
    Failure::Refused(format!("no scenario or claim is about {word:?}; {hint}"))
}

fn style(ruling: Ruling) -> Style {
    match ruling {
        Ruling::Right => GOOD,
        Ruling::Imprecise => MARK,
        Ruling::Wrong => BAD,
    }
}
