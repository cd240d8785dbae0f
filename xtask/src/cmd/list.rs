//! `cargo xtask list`: the scenarios of each section, or those that are about a word.

use clap::Args;

use crate::cmd::explain::nothing_about;
use crate::cmd::{Reader, Topics};
use crate::model::bilingual::{COLON, Language, text};
use crate::model::failure::Failure;
use crate::scenarios::{self, SECTIONS};
use crate::view::output::{self, BOLD, entry, styled, wrapped};

#[derive(Args)]
pub(crate) struct List {
    /// A word, a claim or a scenario: list only what is about it
    #[arg(value_name = "TOPIC", hide_possible_values = true, value_parser = Topics)]
    topic: Option<String>,

    #[command(flatten)]
    reader: Reader,
}

pub(crate) fn run(options: &List) -> Result<bool, Failure> {
    let (language, width) = (options.reader.language(), output::width());
    let out = match &options.topic {
        None => all(language, width),
        Some(topic) => about(topic, language, width)?,
    };
    output::print(&out).map(|()| true)
}

/// A paragraph for each section, to fit a screen.
fn all(language: Language, width: usize) -> String {
    let mut out = String::new();
    for section in &SECTIONS {
        let names: Vec<_> = section.scenarios.iter().map(|scenario| scenario.name).collect();
        let title = styled(BOLD, section.title.to(language));
        let line = format!("{title}{}{}", COLON.to(language), names.join(", "));
        out += &wrapped(&line, "", "    ", width);
    }
    let more = text(
        "`cargo xtask explain NAME` tells more about one, `cargo xtask demo NAME` runs it.",
        "`cargo xtask explain 名称` 介绍其中一个，`cargo xtask demo 名称` 运行它。",
    );
    out + &wrapped(more.to(language), "", "    ", width)
}

fn about(topic: &str, language: Language, width: usize) -> Result<String, Failure> {
    let found = scenarios::about(topic);
    let lines: String = found.map(|it| entry(it.name, it.about().to(language), width)).collect();
    if lines.is_empty() { Err(nothing_about(topic)) } else { Ok(lines) }
}
