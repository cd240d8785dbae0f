//! `cargo xtask exercise`: a program to mend, which the process table marks.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cmd::{Reader, clear_up};
use crate::evidence::Evidence;
use crate::exercises::{self, DOES_NOT_COMPILE, Exercise, Finding, HINT, SOLUTION, TASK};
use crate::model::bilingual::{COLON, Language, Text, text};
use crate::model::clock::Clock;
use crate::model::event::{Event, What};
use crate::model::failure::Failure;
use crate::runner::answers::Answers;
use crate::runner::programs::Wanted;
use crate::runner::{RunEvent, Runner};
use crate::view::output::{self, BAD, BOLD, DIM, GOOD, Output, styled, wrapped};
use crate::view::tree::Tree;
use crate::view::{text as view, words};

/// List the exercises, lay out one to mend, or mark your answer by the process table
///
/// The first time, an exercise is laid out: a small program with a fault, in xtask/answers. Change it,
/// and give the same command again: it builds your program, runs it, and says from the process table
/// whether it does what it should. Nothing overwrites your program, and nothing is sent anywhere.
///
/// Exit codes: 0 the answer is right, or nothing was run; 1 not yet, and those of demo.
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

/// An answer may print without end: more lines than this would hide what matters.
const MOST_LINES: usize = 100;

/// Returns whether the answer is right, if one was run.
pub(crate) fn run(options: &ExerciseOptions) -> Result<bool, Failure> {
    let answers = Answers::new(options.answers.clone());
    let teacher = Teacher { language: options.reader.language(), answers };
    match options.name.as_deref().and_then(exercises::find) {
        None => teacher.print(&teacher.list()),
        Some(exercise) if options.hint => teacher.print(&teacher.part(exercise, HINT)),
        Some(exercise) if options.solution => {
            let why = teacher.part(exercise, SOLUTION);
            teacher.print(&format!("{why}\n{}", exercise.solution))
        }
        Some(exercise) => teacher.lay_out_or_mark(exercise, options.programs.clone()),
    }
}

struct Teacher {
    language: Language,
    answers: Answers,
}

impl Teacher {
    fn say(&self, text: Text) -> &'static str {
        text.to(self.language)
    }

    fn print(&self, text: &str) -> Result<bool, Failure> {
        output::print(text).map(|()| true)
    }

    fn part(&self, exercise: &Exercise, heading: Text) -> String {
        self.wrapped(exercise.part(heading, self.language))
    }

    /// Paragraphs of Markdown, with lines as wide as the terminal.
    fn wrapped(&self, markdown: &str) -> String {
        let joint = if self.language == Language::Chinese { "" } else { " " };
        let paragraph = |text: &str| {
            let text = text.lines().collect::<Vec<_>>().join(joint);
            wrapped(&text, "", "", output::width())
        };
        markdown.split("\n\n").map(paragraph).collect::<Vec<_>>().join("\n")
    }

    /// All exercises, and which of them are done.
    fn list(&self) -> String {
        let mut out = String::new();
        for exercise in exercises::ALL {
            let is_done = self.answers.is_done(exercise);
            let mark = if is_done { styled(GOOD, "✓") } else { "·".to_owned() };
            let name = styled(BOLD, format_args!("{:20}", exercise.run.name));
            let (title, number) = (exercise.title(self.language), exercise.section);
            let section = match self.language {
                Language::English => format!("(section {number})"),
                Language::Chinese => format!("（第 {number} 节）"),
            };
            let _ = writeln!(out, "{mark} {name}  {title} {}", styled(DIM, section));
        }
        let begin = text("Begin one, or have it marked", "开始做，或者判定答案");
        let example = styled(BOLD, format_args!("cargo xtask exercise {}", self.next()));
        out + &format!("\n{}{}{example}\n", self.say(begin), self.say(COLON))
    }

    /// The first that is not done.
    fn next(&self) -> &'static str {
        let next = exercises::ALL.iter().find(|exercise| !self.answers.is_done(exercise));
        next.map_or("NAME", |exercise| exercise.run.name)
    }

    fn lay_out_or_mark(
        &self,
        exercise: &'static Exercise,
        built: Option<PathBuf>,
    ) -> Result<bool, Failure> {
        let path = self.answers.path(exercise);
        let is_new = built.is_none()
            && self.answers.lay_out(exercise).map_err(|error| {
                let path = path.display();
                Failure::Output(format!(
                    "cannot lay out {path}: {error}; --answers takes another folder"
                ))
            })?;
        let title = styled(BOLD, exercise.title(self.language));
        output::print(&format!("{title}\n\n{}\n", self.part(exercise, TASK)))?;
        if is_new {
            let program = self.say(text("Change this program", "请修改这个程序"));
            let then = self.say(text("Then have it marked", "然后判定"));
            let (colon, path) = (self.say(COLON), styled(BOLD, path.display()));
            let command = styled(BOLD, format_args!("cargo xtask exercise {}", exercise.run.name));
            return self.print(&format!("{program}{colon}{path}\n{then}{colon}{command}\n"));
        }
        self.mark(exercise, built)
    }

    /// Builds the answer, runs it, and says whether it is right.
    fn mark(&self, exercise: &'static Exercise, built: Option<PathBuf>) -> Result<bool, Failure> {
        let answer = Some((self.answers.folder.clone().into(), exercise.run.name.to_owned()));
        let wanted = Wanted { answer, folder: built.map(Into::into) };
        let runner = match Runner::new(Clock { speed: 1.0 }, wanted) {
            Err(Failure::Failed(why)) => {
                return self.print(&self.not_yet(exercise, DOES_NOT_COMPILE, &why)).map(|_| false);
            }
            runner => runner?,
        };
        let output = Output::dialogue();
        let mut tree = Tree::in_language(self.language);
        let mut lines = 0;
        let events = runner.run_alone(&exercise.run, false, false, None, &mut |event| {
            if let RunEvent::Event(event) = event
                && let Some(line) = tree.take(event)
            {
                lines += 1;
                match lines {
                    ..MOST_LINES => output.text(&(line + "\n"))?,
                    MOST_LINES => output.text("         …\n")?,
                    _ => {}
                }
            }
            Ok(false)
        })?;
        let left = clear_up();
        if let Some(why) = Evidence(&events).broke_down() {
            return Err(Failure::Failed(why));
        }
        if let Some(why) = Evidence(&events).skipped() {
            return Err(Failure::Missing(why));
        }
        match exercise.judge(&events) {
            None => output.text(&self.right(exercise)?)?,
            Some(ref finding) => {
                output.text(&self.evidence_of(finding, &events, output.columns()))?;
                output.text(&self.not_yet(exercise, finding.name, &finding.why))?;
                return Ok(false);
            }
        }
        Ok(left == 0)
    }

    fn right(&self, exercise: &Exercise) -> Result<String, Failure> {
        self.answers.set_done(exercise).map_err(|error| Failure::writing("done", &error))?;
        let right = text("Right: the process table shows it.", "正确：进程表可以作证。");
        let next = self.say(text("Next", "下一个"));
        let (right, colon) = (styled(GOOD, self.say(right)), self.say(COLON));
        Ok(format!("\n{right}\n{next}{colon}cargo xtask exercise {}\n", self.next()))
    }

    fn not_yet(&self, exercise: &Exercise, finding: &str, why: &str) -> String {
        let not_yet = styled(BAD, self.say(text("Not yet.", "还不对。")));
        let sentence = self.wrapped(exercise.finding(finding, self.language));
        let hint = self.say(text("A hint", "提示"));
        let (colon, name) = (self.say(COLON), exercise.run.name);
        let more = format!("({why})\n{hint}{colon}cargo xtask exercise {name} --hint");
        format!("\n{not_yet}\n{sentence}\n{}\n", styled(DIM, more))
    }

    /// The snapshot that shows it, and the life of the process that it is about.
    fn evidence_of(&self, finding: &Finding, events: &[Event], columns: usize) -> String {
        let mut out = "\n".to_owned();
        for event in events {
            if let What::Snapshot(snapshot) = &event.what
                && snapshot.title == finding.at.en
            {
                let title = styled(BOLD, snapshot.title_in(self.language));
                let _ = writeln!(out, "{:7.3}  ps: {title}", event.t);
                out += &view::snapshot(snapshot, columns);
            }
        }
        let Ok(process) = Evidence(events).process(finding.who) else {
            return out;
        };
        let mut tree = Tree::in_language(self.language);
        let life = self.say(text("life of process {pid}: {who}", "进程 {pid} 的经历：{who}"));
        let life = life.replace("{pid}", &process.pid.to_string());
        let who = words::to(self.language, finding.who);
        let _ = writeln!(out, "\n{}", life.replace("{who}", &who));
        for event in events {
            let line = tree.take(event);
            if event.what.process() == Some(process) {
                out.extend(line.map(|line| line + "\n"));
            }
        }
        out
    }
}
