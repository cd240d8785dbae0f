//! `cargo xtask explain C29`, or the name of a scenario, or a word: what it is about, and where to look.

use anstyle::Style;
use clap::Args;

use crate::cmd::{Reader, Topics};
use crate::model::bilingual::{COLON, Language, Text, same, text};
use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::scenarios::ledger::{self, Claim, Ruling};
use crate::scenarios::{self, SECTIONS, Scenario};
use crate::view::output::{self, BAD, BOLD, GOOD, MARK, entry, styled, wrapped};

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
    let answers: Result<Vec<_>, _> = options.topics.iter().map(|it| page.answer(it)).collect();
    output::print(&answers?.join("\n")).map(|()| true)
}

/// For whom it is written.
struct Page {
    language: Language,
    width: usize,
}

impl Page {
    fn answer(&self, topic: &str) -> Result<String, Failure> {
        if topic == "all" {
            let all: Vec<_> = ledger::ALL.iter().map(|claim| self.claim(claim)).collect();
            Ok(all.join("\n"))
        } else if let Some(claim) = ledger::find(&topic.to_uppercase()) {
            Ok(self.claim(claim))
        } else if let Some(scenario) = scenarios::find(topic) {
            Ok(self.scenario(scenario))
        } else {
            self.found(topic)
        }
    }

    fn claim(&self, claim: &Claim) -> String {
        let ruling = match claim.ruling() {
            Some(ruling) => styled(style(ruling), self.say(ruling.word())),
            None => self.say(text("beyond the chapter", "原章之外")).to_owned(),
        };
        let mut out = format!("{}  {ruling}\n", styled(BOLD, claim.id));
        if claim.ruling().is_some() {
            self.part(&mut out, text("the chapter says", "原章"), self.say(claim.says()));
        }
        self.part(&mut out, text("here", "这里"), self.say(claim.here()));
        let shows_it = |scenario: &&Scenario| scenario.claims().any(|it| it.id == claim.id);
        for scenario in scenarios::all().filter(shows_it) {
            let shown =
                format!("{}{}{}", scenario.name, self.say(COLON), self.say(scenario.about()));
            self.part(&mut out, text("shown by", "场景"), &shown);
            self.commands(&mut out, scenario);
        }
        for code in claim.code() {
            self.part(&mut out, text("read", "代码"), code);
        }
        out
    }

    fn scenario(&self, scenario: &Scenario) -> String {
        let seconds = scenario.seconds;
        let short = seconds / scenario.clock(Clock::default()).speed;
        let times = match self.language {
            _ if seconds == 0.0 => String::new(),
            Language::English => {
                format!("  ({seconds} s in the chapter, at least {short} s in the demo)")
            }
            Language::Chinese => format!("  （原章 {seconds} 秒，演示至少 {short} 秒）"),
        };
        let mut out = format!("{}{times}\n", styled(BOLD, scenario.name));
        out += &wrapped(self.say(scenario.about()), "  ", "    ", self.width);
        for need in scenario.needs {
            self.part(&mut out, text("needs", "需要"), self.say(need.title()));
        }
        for claim in scenario.claims() {
            self.part(&mut out, same(claim.id), self.say(claim.here()));
        }
        if scenario.has_control() {
            let claims: Vec<_> = scenario.must_fail().map(|claim| claim.id).collect();
            let (without, claims) = (self.say(scenario.without()), claims.join(", "));
            let control = match self.language {
                Language::English => format!("{without}, so that {claims} must fail"),
                Language::Chinese => format!("{without}；{claims} 必须不成立"),
            };
            self.part(&mut out, text("control", "对照程序"), &control);
        }
        self.commands(&mut out, scenario);
        let has_it = |section: &&scenarios::Section| {
            section.scenarios.iter().any(|other| other.name == scenario.name)
        };
        if let Some(section) = SECTIONS.iter().find(has_it) {
            let (folder, number) = section.text;
            let place = match self.language {
                Language::English => format!("{folder}/README.md, section {number}"),
                Language::Chinese => format!("{folder}/README.zh-CN.md，第 {number} 节"),
            };
            self.part(&mut out, text("the text", "正文"), &place);
        }
        out
    }

    /// How to see it in the demo, and without.
    fn commands(&self, out: &mut String, scenario: &Scenario) {
        let run = format!("cargo xtask demo {}", scenario.name);
        self.part(out, text("run", "运行"), &run);
        self.part(out, text("by hand", "亲手"), self.say(scenario.by_hand()));
    }

    /// The scenarios and claims with this word, a line each.
    fn found(&self, word: &str) -> Result<String, Failure> {
        let scenarios = scenarios::about(word).map(|it| (it.name, self.say(it.about())));
        let claims = ledger::ALL.iter().filter(|claim| claim.is_about(word));
        let claims = claims.map(|it| (it.id, self.say(it.here())));
        let found = claims.chain(scenarios);
        let lines: Vec<_> = found.map(|(name, text)| entry(name, text, self.width)).collect();
        if lines.is_empty() {
            return Err(nothing_about(word));
        }
        let shown = if lines.len() < SCREEN { lines.len() } else { SCREEN - 2 };
        let mut out = lines[..shown].concat();
        if shown < lines.len() {
            let more = lines.len() - shown;
            out += &match self.language {
                Language::English => format!("and {more} more; another word finds fewer\n"),
                Language::Chinese => format!("还有 {more} 条；换一个词会更少\n"),
            };
        }
        let name = self.say(text("NAME", "名称"));
        let more = self.say(text("tells more about one of them", "可以看其中一条的详情"));
        Ok(out + &format!("cargo xtask explain {name}{}{more}\n", self.say(COLON)))
    }

    fn part(&self, out: &mut String, name: Text, text: &str) {
        let part = format!("{}{}{text}", self.say(name), self.say(COLON));
        *out += &wrapped(&part, "  ", "    ", self.width);
    }

    fn say(&self, text: Text) -> &'static str {
        text.to(self.language)
    }
}

/// The sentence for a word that is in no text. It names what is spelt alike.
pub(crate) fn nothing_about(word: &str) -> Failure {
    let names = scenarios::all().map(|scenario| scenario.name);
    let names = names.chain(ledger::ALL.iter().map(|claim| claim.id));
    let alike =
        |name: &&str| strsim::jaro_winkler(&word.to_lowercase(), &name.to_lowercase()) > 0.75;
    let alike: Vec<_> = names.filter(alike).take(5).collect();
    let hint = match alike.is_empty() {
        true => "`cargo xtask list` shows all scenarios".to_owned(),
        false => format!("there is {}", alike.join(", ")),
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
