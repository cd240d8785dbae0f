//! The scenarios: a file for each section of the chapter. Everything else is made from this list.
//!
//! To add one: write it in the file of its section, name it in the `ALL` there, and write in `scenarios.md`
//! and `scenarios.zh-CN.md` what happens. If it shows a claim that there is not yet, write that in `claims.md`
//! and `claims.zh-CN.md`, and its number in `ledger.rs`. If it needs a new program, that is an example in the
//! crate of the chapter's program.

mod create;
mod exec_cmd;
pub(crate) mod ledger;
mod processes;
mod reexec;
pub(crate) mod servers;
mod signals;
mod sockets;
pub(crate) mod steps;
mod wait;
mod zombie;

use std::sync::LazyLock;

use crate::evidence::{Check, Evidence};
use crate::model::bilingual::{Text, text};
use crate::model::clock::Clock;
use crate::model::failure::Failure;
use crate::model::markdown::Texts;
use crate::probe::need::Need;
use crate::scenarios::ledger::Claim;
use crate::worker::Worker;

type List = &'static [Scenario];

/// Scenarios on one topic, and where to read about it.
pub(crate) struct Section {
    pub(crate) title: Text,
    /// A folder with a README in each language, and the number of a section in them.
    pub(crate) text: (&'static str, u32),
    pub(crate) scenarios: List,
}

const fn section(title: Text, text: (&'static str, u32), scenarios: List) -> Section {
    Section { title, text, scenarios }
}

/// In the order of the chapter.
pub(crate) const SECTIONS: [Section; 13] = [
    section(text("Running other programs", "运行其他程序"), ("exec-cmd", 2), exec_cmd::ALL),
    section(text("Fork", "fork"), ("reexec/examples", 3), create::ALL),
    section(text("Re-exec", "重新执行自身"), ("reexec/examples", 4), reexec::ALL),
    section(text("Zombies", "僵尸进程"), ("zombie", 5), zombie::ALL),
    section(text("Numbers of processes", "进程号"), ("zombie", 5), processes::ALL),
    section(text("Waiting", "等待"), ("wait", 6), wait::ALL),
    section(
        text("Waiting without blocking", "不阻塞的等待"),
        ("goroutine-wait", 7),
        wait::WITHOUT_BLOCKING,
    ),
    section(text("Signals", "信号"), ("goroutine-wait", 8), signals::ALL),
    section(text("Half-close", "半关闭"), ("echo-server", 10), sockets::ALL),
    section(text("Servers", "服务器"), ("echo-server", 9), servers::ALL),
    section(
        text("Pools, threads, one loop", "进程池、线程、一个循环"),
        ("echo-server", 11),
        servers::POOLS,
    ),
    section(
        text("Split clients", "分割 I/O 的客户端"),
        ("echo-server", 10),
        servers::SPLIT_CLIENTS,
    ),
    section(text("Upgrade", "平滑升级"), ("echo-server", 12), servers::UPGRADES),
];

/// All scenarios, in the order of the chapter.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    SECTIONS.iter().flat_map(|section| section.scenarios)
}

/// The scenarios that are about this word, or whose section is.
pub(crate) fn about(word: &str) -> impl Iterator<Item = &'static Scenario> {
    SECTIONS.iter().flat_map(move |section| {
        let all = section.title.contains(word);
        section.scenarios.iter().filter(move |scenario| all || scenario.is_about(word))
    })
}

pub(crate) fn find(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}

static TEXTS: LazyLock<Texts> = LazyLock::new(|| {
    Texts::of([include_str!("../../scenarios.md"), include_str!("../../scenarios.zh-CN.md")])
});
const ABOUT: Text = text("What happens", "经过");
const BY_HAND: Text = text("By hand", "亲手试试");
const WITHOUT: Text = text("Control", "对照程序");

/// What happens, what it shows, and how one would notice if it did not. Its texts are in the section of its
/// name.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The program with its arguments, as one would type it; see [`Clock::words`] for its times, and
    /// [`Scenario::number`].
    pub(crate) command: &'static str,
    /// How long it takes with the chapter's own times.
    pub(crate) seconds: f64,
    /// For a state that is short already with the chapter's times: `ps` has to list it while a busy
    /// machine does other things. Its control runs at the same speed.
    pub(crate) max_speed: f64,
    /// What it requires that not every machine has.
    pub(crate) needs: &'static [&'static Need],
    /// What is started, waited for, and looked at. Conditions only, no times.
    pub(crate) act: fn(&mut Worker) -> Result<(), Failure>,
    /// The claims that it shows, each with a check of the recorded events.
    pub(crate) shows: &'static [(&'static Claim, Judge)],
    /// The control: the same with a program that lacks what the claims are about. They must fail there;
    /// if they also held, the scenario would prove nothing. Empty, if there is none.
    pub(crate) control: &'static str,
    /// The claims that the control is not about.
    pub(crate) control_keeps: &'static [&'static Claim],
}

/// Checks a claim, from the recorded events alone.
pub(crate) type Judge = fn(Evidence<'_>) -> Check;

/// For what a scenario does not say. What it must say is empty here: `tests/learner.rs` names it.
pub(crate) const NO_CONTROL: Scenario = Scenario {
    name: "",
    command: "",
    seconds: 0.0,
    max_speed: f64::INFINITY,
    needs: &[],
    act: |_| Ok(()),
    shows: &[],
    control: "",
    control_keeps: &[],
};

/// The same for a scenario with this control.
const fn control(command: &'static str) -> Scenario {
    Scenario { control: command, ..NO_CONTROL }
}

impl Scenario {
    /// What happens, in a sentence or two.
    pub(crate) fn about(&self) -> Text {
        TEXTS.get(self.name, ABOUT)
    }

    /// How one runs the program by hand.
    pub(crate) fn by_hand(&self) -> Text {
        TEXTS.get(self.name, BY_HAND)
    }

    /// What the control lacks, or has instead.
    pub(crate) fn without(&self) -> Text {
        TEXTS.get(self.name, WITHOUT)
    }

    /// The number in its command that a run may replace: 10 in `--children {10}`.
    pub(crate) fn number(&self) -> Option<&'static str> {
        Some(self.command.split_once('{')?.1.split_once('}')?.0)
    }

    /// The command of a run, or of the control's, with this number in it; without one, with its own.
    pub(crate) fn command(&self, control: bool, number: Option<u32>) -> String {
        let command = if control { self.control } else { self.command };
        let own = self.number().unwrap_or_default();
        let number = number.map_or_else(|| own.to_owned(), |number| number.to_string());
        command.replace(&format!("{{{own}}}"), &number)
    }

    /// The clock of its runs where the demo has this one.
    pub(crate) fn clock(&self, clock: Clock) -> Clock {
        Clock { speed: clock.speed.min(self.max_speed) }
    }

    pub(crate) fn claims(&self) -> impl Iterator<Item = &'static Claim> {
        self.shows.iter().map(|(claim, _)| *claim)
    }

    /// Whether its name, its texts or its claims have this word.
    fn is_about(&self, word: &str) -> bool {
        self.name.contains(&word.to_lowercase())
            || [self.about(), self.without()].iter().any(|text| text.contains(word))
            || self.claims().any(|claim| claim.is_about(word))
    }

    pub(crate) fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// The claims that must fail in its control.
    pub(crate) fn must_fail(&self) -> impl Iterator<Item = &'static Claim> {
        let keeps = |claim: &Claim| self.control_keeps.iter().any(|it| it.id == claim.id);
        self.claims().filter(move |claim| self.has_control() && !keeps(claim))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_and_control_has_its_texts_and_there_are_no_others() {
        TEXTS.expect(all().flat_map(|scenario| {
            let control = scenario.has_control().then_some(WITHOUT);
            [ABOUT, BY_HAND].into_iter().chain(control).map(|label| (scenario.name, label))
        }));
    }

    #[test]
    fn a_run_and_its_control_have_the_same_number() {
        let with_number = all().filter(|scenario| scenario.number().is_some());
        for (scenario, control) in with_number.flat_map(|it| [(it, false), (it, true)]) {
            let (own, other) =
                (scenario.command(control, None), scenario.command(control, Some(7)));
            assert!(!own.contains('{') && other.contains(" 7"), "{own}, {other}");
        }
    }
}
