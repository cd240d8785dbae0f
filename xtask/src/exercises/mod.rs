//! The exercises: programs to mend, and how the process table marks them.
//!
//! The texts and programs of an exercise lie in its folder in `xtask/exercises`: `README.md` and
//! `README.zh-CN.md` with the task, a hint, why the solution is right, and a sentence for each finding;
//! `start.rs`, which fails; `solution.rs`; and for each finding but the first a wrong answer of its name.

mod children;

use crate::model::bilingual::{Language, Text, text};
use crate::model::markdown::section;
use crate::scenarios::{Judge, Scenario};

/// The headings of the texts.
pub(crate) const TASK: Text = text("Task", "任务");
pub(crate) const HINT: Text = text("Hint", "提示");
pub(crate) const SOLUTION: Text = text("Solution", "答案");

/// In the order in which they should be done.
pub(crate) const ALL: &[Exercise] = &[children::NEVER_WAITS];

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
        section(self.readme.to(language), 3, name).unwrap_or_default()
    }
}
