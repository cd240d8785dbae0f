//! The exercises: programs to mend, and how the process table marks them.
//!
//! The texts and programs of an exercise lie in its folder in `xtask/exercises`: `README.md` and
//! `README.zh-CN.md` with the task, a hint, why the solution is right, and a sentence for each finding;
//! `start.rs`, which fails; `solution.rs`; and wrong answers, each with the name of what is found.

mod children;
mod descriptors;
mod servers;
mod signals;
mod supervisor;
mod threads;

use crate::evidence::Evidence;
use crate::model::bilingual::{Language, Text, text};
use crate::model::event::Event;
use crate::model::markdown::section;
use crate::scenarios::{Judge, Scenario};
use crate::worker::descendant::NOT_TOO_MANY;

/// The sentences about what can be found of any answer.
const GENERAL: Text = text(
    include_str!("../../exercises/README.md"),
    include_str!("../../exercises/README.zh-CN.md"),
);

/// The headings of the texts.
pub(crate) const TASK: Text = text("Task", "任务");
pub(crate) const HINT: Text = text("Hint", "提示");
pub(crate) const SOLUTION: Text = text("Solution", "答案");

/// What can be found of any answer, besides what its exercise names.
pub(crate) const DOES_NOT_COMPILE: &str = "does-not-compile";
pub(crate) const HANGS: &str = "hangs";
pub(crate) const ENDS_EARLY: &str = "ends-early";
pub(crate) const FORKS_FOR_EVER: &str = "forks-for-ever";

/// The title of the last snapshot of a run that is given up.
pub(crate) const GIVEN_UP: Text = text("the run was given up", "运行被放弃");

/// In the order in which they should be done.
pub(crate) const ALL: &[Exercise] = &[
    children::NEVER_WAITS,
    signals::ONE_WAIT,
    signals::HANDLER_TOO_LATE,
    descriptors::MISSING_CLOSE,
    servers::STOPS_AT_EMFILE,
    threads::FORKS_WITH_THREADS,
    descriptors::LEAKED_DESCRIPTOR,
    children::OUTLIVES_PARENT,
    servers::NO_RESPAWN,
    servers::ONE_AT_A_TIME,
    children::WAITS_BEFORE_READING,
    children::WAITS_IN_LINE,
    supervisor::SUPERVISOR,
];

pub(crate) struct Exercise {
    /// How an answer is run. It shows no claims.
    pub(crate) run: Scenario,
    /// The section of the text that it ends.
    pub(crate) section: u32,
    pub(crate) readme: Text,
    pub(crate) start: &'static str,
    pub(crate) solution: &'static str,
    /// The first that does not hold decides what is said of an answer.
    pub(crate) criteria: &'static [Criterion],
}

/// What must be true of an answer, and where it is seen.
pub(crate) struct Criterion {
    /// The name of what is wrong otherwise: a heading in the texts.
    pub(crate) finding: &'static str,
    /// The title of the snapshot that shows it.
    pub(crate) at: Text,
    /// The role of the process that it is about.
    pub(crate) who: &'static str,
    pub(crate) judge: Judge,
}

/// An exercise of this name, with its texts and programs.
macro_rules! exercise {
    ($name:literal, section $section:literal, $act:expr,
     $(($finding:literal, $at:expr, $who:literal, $judge:expr)),* $(,)?) => {
        $crate::exercises::Exercise {
            run: $crate::scenarios::Scenario { name: $name, command: $name, act: $act, ..$crate::scenarios::NO_CONTROL },
            section: $section,
            readme: $crate::model::bilingual::text(
                include_str!(concat!("../../exercises/", $name, "/README.md")),
                include_str!(concat!("../../exercises/", $name, "/README.zh-CN.md")),
            ),
            start: include_str!(concat!("../../exercises/", $name, "/start.rs")),
            solution: include_str!(concat!("../../exercises/", $name, "/solution.rs")),
            criteria: &[$($crate::exercises::Criterion { finding: $finding, at: $at, who: $who, judge: $judge }),*],
        }
    };
}

use exercise;

pub(crate) fn find(name: &str) -> Option<&'static Exercise> {
    ALL.iter().find(|exercise| exercise.run.name == name)
}

impl Exercise {
    pub(crate) fn title(&self, language: Language) -> &'static str {
        let first = self.readme.to(language).lines().next();
        first.unwrap_or_default().trim_start_matches("# ")
    }

    /// The text below this heading.
    pub(crate) fn part(&self, heading: Text, language: Language) -> &'static str {
        section(self.readme.to(language), 2, heading.to(language)).unwrap_or_default()
    }

    /// What to say of an answer of which this was found.
    pub(crate) fn finding(&self, name: &str, language: Language) -> &'static str {
        let own = section(self.readme.to(language), 3, name);
        own.or_else(|| section(GENERAL.to(language), 3, name)).unwrap_or_default()
    }

    /// Looks in the events of a run for what is wrong with the answer. `None` if nothing is.
    pub(crate) fn judge(&self, events: &[Event]) -> Option<Finding> {
        let evidence = Evidence(events);
        let mut failed = self.criteria.iter().filter_map(|criterion| {
            let why = (criterion.judge)(evidence).err()?;
            let Criterion { finding, at, who, .. } = *criterion;
            Some(Finding { name: finding, at, who, why })
        });
        let Some(missed) = evidence.missed() else {
            return failed.next();
        };
        // Of a run that did not come to its end, only what was seen until then counts.
        let seen = failed.find(|finding| evidence.at(finding.at).rows().is_ok());
        Some(seen.unwrap_or_else(|| {
            let name = match () {
                () if missed == NOT_TOO_MANY => FORKS_FOR_EVER,
                () if evidence.nothing_lives() => ENDS_EARLY,
                () => HANGS,
            };
            let why = format!("it never came true that {missed}");
            Finding { name, at: GIVEN_UP, who: "program", why }
        }))
    }
}

/// What is wrong with an answer, and where it is seen.
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    /// The title of the snapshot that shows it.
    pub(crate) at: Text,
    /// The role of the process that it is about.
    pub(crate) who: &'static str,
    pub(crate) why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exercise_has_all_its_texts_in_both_languages() {
        for exercise in ALL {
            let names = exercise.criteria.iter().map(|criterion| criterion.finding);
            let general = [DOES_NOT_COMPILE, HANGS, ENDS_EARLY, FORKS_FOR_EVER];
            for language in [Language::English, Language::Chinese] {
                let parts = [TASK, HINT, SOLUTION].map(|heading| exercise.part(heading, language));
                let lacks = parts.iter().any(|part| part.is_empty());
                assert!(!lacks, "{} lacks a part in {language:?}", exercise.run.name);
                for name in names.clone().chain(general) {
                    let finding = exercise.finding(name, language);
                    let name_of = exercise.run.name;
                    assert!(!finding.is_empty(), "{name_of}: no {name} in {language:?}");
                }
            }
        }
    }
}
