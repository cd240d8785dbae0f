//! `demo --pause` and `--predict`: one scenario after another, with a user at the terminal. It pauses at
//! each snapshot, so that they can look from another terminal, or asks them what `ps` shows there.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IsTerminal};

use crate::model::bilingual::Language;
use crate::model::event::{Event, Snapshot, What};
use crate::model::failure::Failure;
use crate::model::process::State;
use crate::runner::{RunEvent, Runner};
use crate::scenarios::Scenario;
use crate::verdict::result::ScenarioResult;
use crate::view::output::{BAD, BOLD, DIM, GOOD, Output, styled, width, wrapped};
use crate::view::question::{self, Choice, Question};
use crate::view::text as shown;
use crate::view::tree::Tree;

pub(super) struct Practice<'a> {
    output: &'a Output,
    pauses: bool,
    predicts: bool,
    language: Language,
    /// Of this scenario, so far.
    events: Vec<Event>,
    tree: Tree,
    /// How many snapshots there were in this scenario.
    number: usize,
    /// The snapshot at which the run waits, and what to ask before it is shown.
    snapshot: Option<(Snapshot, VecDeque<Question>)>,
    /// The processes that were stopped there, and have not been seen to go on yet.
    frozen: BTreeSet<i32>,
    /// Whether the input has ended: then it pauses no more.
    no_input: bool,
    /// Whether each of the answers was right.
    answers: Vec<bool>,
}

impl<'a> Practice<'a> {
    pub(super) fn new(pauses: bool, predicts: bool, output: &'a Output) -> Result<Self, Failure> {
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Err(Failure::Missing(
                "--pause and --predict need a terminal, to ask and to be answered: \
                 run this without a pipe or a file for stdin and stdout, or without them"
                    .to_owned(),
            ));
        }
        Ok(Self {
            output,
            pauses,
            predicts,
            language: Language::of_environment(),
            events: Vec::new(),
            tree: Tree::default(),
            number: 0,
            snapshot: None,
            frozen: BTreeSet::new(),
            no_input: false,
            answers: Vec::new(),
        })
    }

    /// Runs the scenarios. Prints the score also if the user quits.
    pub(super) fn run(
        mut self,
        runner: &Runner,
        scenarios: &[&'static Scenario],
    ) -> Result<Vec<ScenarioResult>, Failure> {
        runner.listen_to_keyboard()?;
        let run = |scenario: &&'static Scenario| self.scenario(runner, scenario);
        let results = scenarios.iter().map(run).collect();
        if !self.answers.is_empty() {
            let right = self.answers.iter().filter(|it| **it).count();
            let all = self.answers.len();
            let score = self.say("score").replace("{right}", &right.to_string());
            let score = score.replace("{all}", &all.to_string());
            self.print(&format!("\n{}\n", styled(BOLD, score)))?;
        }
        results
    }

    fn scenario(
        &mut self,
        runner: &Runner,
        scenario: &'static Scenario,
    ) -> Result<ScenarioResult, Failure> {
        self.tree = Tree::default();
        self.events.clear();
        self.number = 0;
        self.frozen.clear();
        self.print(&shown::heading(scenario))?;
        let number = self.predicts.then(number);
        let events = runner.run_alone(scenario, false, true, number, &mut |event| match event {
            RunEvent::Event(event) => self.event(scenario, event),
            RunEvent::Typed(line) => self.typed(*line),
            _ => Ok(false),
        })?;
        self.snapshot = None; // if the run broke off there
        let mut control_events = Vec::new();
        if scenario.has_control() {
            let without = scenario.without();
            let line = format!("\nNow its control, without a pause: {without}.");
            self.print(&(styled(DIM, line) + "\n"))?;
            control_events = runner.run_alone(scenario, true, false, number, &mut |_| Ok(false))?;
        }
        let result = ScenarioResult::new(scenario, events, control_events);
        self.print(&shown::conclusion(&result))?;
        Ok(result)
    }

    /// Shows an event. Returns whether the run may go on.
    fn event(&mut self, scenario: &Scenario, event: &Event) -> Result<bool, Failure> {
        let line = self.tree.take(event);
        self.events.push(event.clone());
        let is_ours = self.is_our_own_stop(&event.what);
        if let Some(line) = line
            && !is_ours
            && self.may_be_shown(&event.what)
        {
            self.print(&(line + "\n"))?;
        }
        let What::Snapshot(snapshot) = &event.what else {
            return Ok(false);
        };
        self.number += 1;
        if !snapshot.frozen {
            self.show(snapshot)?;
            let why = styled(DIM, "   No pause here: an alarm would not wait.");
            self.print(&(why + "\n"))?;
            return Ok(false);
        }
        let mut questions = VecDeque::new();
        if self.predicts && !self.no_input {
            questions.extend(question::about(scenario, &self.events, self.language));
            let title = self.say("title").replace("{number}", &self.number.to_string());
            let (title, frozen) = (styled(BOLD, title), styled(DIM, self.say("frozen")));
            self.print(&format!("\n{title}\n   {frozen}\n"))?;
        }
        self.snapshot = Some((snapshot.clone(), questions));
        self.go_on()
    }

    /// Whether this is only a process that we stop at a snapshot, or that goes on after it.
    fn is_our_own_stop(&mut self, what: &What) -> bool {
        let What::State { raw } = what else {
            return false;
        };
        if raw.state() == State::Stopped && self.snapshot.is_some() {
            self.frozen.insert(raw.process.pid);
            return true;
        }
        self.frozen.remove(&raw.process.pid) && !raw.is_zombie()
    }

    /// Hides what would give away an answer, and snapshots, which are shown when all is answered.
    fn may_be_shown(&self, what: &What) -> bool {
        match what {
            What::Snapshot(_) => false,
            What::State { .. } | What::Gone { .. } | What::Reaped { .. } | What::Proc { .. } => {
                !self.predicts
            }
            _ => true,
        }
    }

    fn typed(&mut self, line: Option<&str>) -> Result<bool, Failure> {
        self.no_input = line.is_none();
        if self.no_input {
            self.print("\n   The input has ended: no more pauses.\n")?;
        }
        if line.is_some_and(|line| line.trim().eq_ignore_ascii_case("q")) {
            return Err(Failure::Interrupted);
        }
        let Some((_, questions)) = &mut self.snapshot else {
            return Ok(false); // too early
        };
        let Some(question) = questions.pop_front() else {
            self.snapshot = None;
            return Ok(true);
        };
        let Some(line) = line else {
            questions.clear();
            return self.go_on();
        };
        let answer = line.trim().to_uppercase();
        let is_answer = |it: &&Choice| it.letter.to_string() == answer;
        let Some(choice) = question.choices.iter().find(is_answer) else {
            questions.push_front(question);
            self.print(&format!("   {}\n", self.say("again")))?;
            return self.go_on();
        };
        self.answers.push(choice.is_right);
        self.explain(&question, choice)?;
        self.go_on()
    }

    /// Says whether the answer was right, and why; if not, also what is, and the claim behind it.
    fn explain(&self, question: &Question, answer: &Choice) -> Result<(), Failure> {
        let wrap = |line: String| wrapped(&line, "   ", "   ", width());
        let mut out = String::new();
        for it in question.choices.iter().filter(|it| it.is_right || it.letter == answer.letter) {
            let style = if it.is_right { GOOD } else { BAD };
            out += &wrap(styled(style, format_args!("{}  {}", it.letter, it.verdict)));
        }
        if !answer.is_right {
            let more = self.say("more").replace("{claim}", question.claim.id);
            out += &wrap(more.replace("{here}", question.claim.here().to(self.language)));
        }
        self.print(&out)
    }

    fn say(&self, name: &str) -> &'static str {
        question::say(name, self.language)
    }

    /// Asks the next question, or shows the snapshot, and how to look at the processes by hand. Returns
    /// whether the run may go on.
    fn go_on(&mut self) -> Result<bool, Failure> {
        let Some((snapshot, questions)) = &self.snapshot else {
            return Ok(false);
        };
        if let Some(question) = questions.front() {
            self.ask(question)?;
            return Ok(false);
        }
        self.show(snapshot)?;
        if self.pauses && !self.no_input {
            self.print(&how_to_look(snapshot, self.language))?;
            return Ok(false);
        }
        self.snapshot = None;
        Ok(true)
    }

    /// Shows a snapshot. Its title says what had come true, so it must not be seen before.
    fn show(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        let title = format_args!("\nSnapshot {}: {}", self.number, snapshot.title);
        let table = shown::snapshot(snapshot, self.output.columns());
        self.print(&format!("{}\n{table}", styled(BOLD, title)))
    }

    fn ask(&self, question: &Question) -> Result<(), Failure> {
        let mut out = format!("   {}\n", styled(BOLD, &question.asks));
        for choice in &question.choices {
            let _ = writeln!(out, "     {}  {}", choice.letter, choice.says);
        }
        self.print(&format!("{out}   {} ", self.say("prompt")))
    }

    fn print(&self, text: &str) -> Result<(), Failure> {
        self.output.text(text)
    }
}

/// Commands to be pasted into another terminal, for one process of each kind.
fn how_to_look(snapshot: &Snapshot, language: Language) -> String {
    let list: Vec<String> = snapshot.pids.iter().map(i32::to_string).collect();
    let first = |wanted: char| {
        let mut pids = snapshot.pids.iter().copied();
        pids.find(|&pid| question::letter(snapshot, pid) == wanted).map(|pid| pid.to_string())
    };
    let (all, zombie, alive) = (Some(list.join(",")), first('Z'), first('S'));
    let looks = [(&all, "all"), (&zombie, "kill"), (&zombie, "memory"), (&alive, "files")];
    let say = |name: &str| question::say(name, language);
    let mut out = format!("   {}\n", say("look"));
    for (pid, name) in looks.into_iter().filter_map(|(pid, name)| Some((pid.as_ref()?, name))) {
        let line = say(&format!("look at {name}")).replace("{pid}", pid);
        let (what_for, command) = line.rsplit_once([':', '：']).unwrap_or_default();
        let _ = writeln!(out, "     {}", styled(DIM, format_args!("{what_for}:")));
        let _ = writeln!(out, "     {}", styled(BOLD, command.trim()));
    }
    if alive.is_some() {
        let _ = writeln!(out, "   {}", say("look at T"));
    }
    format!("{out}   {}\n", styled(DIM, say("go on")))
}

/// A number for a command that has one, so that an answer that somebody remembers is wrong: 3 to 12.
fn number() -> u32 {
    let random = RandomState::new().hash_one(0); // differs each time
    3 + (random % 10) as u32
}
