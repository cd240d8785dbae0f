//! `cargo xtask exercise`: a program to mend, which the process table marks.

use std::io;
use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cmd::{Reader, clear_up};
use crate::evidence::Evidence;
use crate::exercises::{self, Criterion, Exercise, HINT, SOLUTION, TASK};
use crate::model::bilingual::{Language, Text, text};
use crate::model::clock::Clock;
use crate::model::event::{Event, What};
use crate::model::failure::Failure;
use crate::runner::answers::Answers;
use crate::runner::programs::Wanted;
use crate::runner::{RunEvent, Runner};
use crate::view::output::{BAD, BOLD, DIM, GOOD, Output, styled, wrapped};
use crate::view::tree::Tree;
use crate::view::{output, text as view};

/// List the exercises, lay out one to mend, or mark your answer by the process table
///
/// The first time, an exercise is laid out: a small program with a fault, in xtask/answers. Change it,
/// and give the same command again: it builds your program, runs it, and says whether it holds.
/// Nothing overwrites your program, and nothing is sent anywhere.
///
/// Exit codes: 0 the answer holds, or nothing was run; 1 not yet, and those of demo.
#[derive(Args)]
pub(crate) struct ExerciseOptions {
    /// Which one; without a name, all are listed
    #[arg(value_parser = PossibleValuesParser::new(exercises::ALL.iter().map(|it| it.run.name)))]
    name: Option<String>,

    /// Print a hint instead
    #[arg(long, requires = "name")]
    hint: bool,

    /// Print a solution instead, and why it is right
    #[arg(long, requires = "name", conflicts_with = "hint")]
    solution: bool,

    /// Where your programs are; by default xtask/answers
    #[arg(long, value_name = "DIR")]
    answers: Option<PathBuf>,

    /// Take the built program from this folder; without it, cargo builds it
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    #[command(flatten)]
    reader: Reader,
}

/// Returns whether the answer holds, if one was run.
pub(crate) fn run(options: &ExerciseOptions) -> Result<bool, Failure> {
    let answers = Answers::new(options.answers.clone());
    let learner = Learner { language: options.reader.language(), answers };
    let Some(exercise) = options.name.as_deref().and_then(exercises::find) else {
        return output::print(&learner.list()).map(|()| true);
    };
    let part = |heading| learner.wrapped(exercise.part(heading, learner.language));
    if options.hint {
        return output::print(&part(HINT)).map(|()| true);
    }
    if options.solution {
        return output::print(&format!("{}\n{}", part(SOLUTION), exercise.solution)).map(|()| true);
    }
    let built = options.programs.clone();
    let path = learner.answers.path(exercise);
    let is_new = built.is_none()
        && learner.answers.lay_out(exercise).map_err(|error| {
            Failure::Output(format!("cannot lay out {}: {error}", path.display()))
        })?;
    let title = styled(BOLD, format_args!("== {} ==", exercise.run.name));
    output::print(&format!("{title}\n{}\n", part(TASK)))?;
    if is_new {
        let program = text("Your program", "你的程序");
        return output::print(&format!("{}: {}\n", learner.say(program), path.display()))
            .map(|()| true);
    }
    learner.mark(exercise, built)
}

struct Learner {
    language: Language,
    answers: Answers,
}

impl Learner {
    fn say(&self, text: Text) -> &'static str {
        text.to(self.language)
    }

    /// Markdown, broken into lines as wide as the terminal.
    fn wrapped(&self, markdown: &str) -> String {
        let width = output::width();
        let join = if self.language == Language::Chinese { "" } else { " " };
        let paragraphs = markdown.split("\n\n").map(|it| it.lines().collect::<Vec<_>>().join(join));
        paragraphs
            .map(|paragraph| wrapped(&paragraph, "", "", width))
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn list(&self) -> String {
        let entry = |exercise: &Exercise| {
            let done =
                if self.answers.is_done(exercise) { styled(GOOD, "✓") } else { " ".to_owned() };
            let name = styled(BOLD, format_args!("{:20}", exercise.run.name));
            format!("{done} {name} {:>2}  {}\n", exercise.section, exercise.title(self.language))
        };
        exercises::ALL.iter().map(entry).collect()
    }

    /// Builds the answer, runs it, and says whether it holds.
    fn mark(&self, exercise: &'static Exercise, built: Option<PathBuf>) -> Result<bool, Failure> {
        let answer = Some((self.answers.folder.clone().into(), exercise.run.name.to_owned()));
        let wanted = Wanted { answer, folder: built.map(Into::into) };
        let runner = Runner::new(Clock { speed: 1.0 }, wanted)?;
        let output = Output::dialogue();
        let mut tree = Tree::default();
        let events = runner.run_alone(&exercise.run, false, false, &mut |event| {
            if let RunEvent::Event(event) = event
                && let Some(line) = tree.take(event)
            {
                output.text(&(line + "\n"))?;
            }
            Ok(false)
        })?;
        let left = clear_up();
        let evidence = Evidence(&events);
        let failed =
            exercise.criteria.iter().find_map(|it| Some((it, (it.judge)(evidence).err()?)));
        match failed {
            None => {
                let _ = self.answers.set_done(exercise);
                output.text(&format!(
                    "\n{}\n",
                    styled(GOOD, self.say(text("It holds.", "成立。")))
                ))?;
            }
            Some((criterion, why)) => self.explain(exercise, criterion, &why, &events, &output)?,
        }
        Ok(failed_is_none(&events, left))
    }

    fn explain(
        &self,
        exercise: &Exercise,
        criterion: &Criterion,
        why: &str,
        events: &[Event],
        output: &Output,
    ) -> Result<(), Failure> {
        let not_yet = styled(BAD, self.say(text("Not yet.", "还不行。")));
        let finding = self.wrapped(exercise.finding(criterion.finding, self.language));
        output.text(&format!("\n{not_yet} {finding}\n{}\n", styled(DIM, why)))?;
        let snapshot = events.iter().find_map(|event| match &event.what {
            What::Snapshot(snapshot) if snapshot.title == criterion.at.en => Some(snapshot),
            _ => None,
        });
        if let Some(snapshot) = snapshot {
            output.text(&view::snapshot(snapshot, output.columns()))?;
        }
        Ok(())
    }
}

fn failed_is_none(_events: &[Event], left: usize) -> bool {
    left == 0
}

#[allow(unused)]
type Unused = io::Error;
