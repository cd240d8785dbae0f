//! `demo --pause` and `--predict`: one scenario after another, with a user at the terminal. It pauses at
//! each snapshot, so that they can look from another terminal, or asks them what they expect to see.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use crate::model::event::{Event, Snapshot, What};
use crate::model::failure::Failure;
use crate::model::process::State;
use crate::probe::ps::{self, Row};
use crate::runner::{RunEvent, Runner};
use crate::scenarios::Scenario;
use crate::verdict::result::ScenarioResult;
use crate::view::output::{BAD, BOLD, DIM, GOOD, Output, styled};
use crate::view::text;
use crate::view::tree::Tree;

/// More would be tiresome.
const QUESTIONS_A_SNAPSHOT: usize = 3;

pub(super) struct Practice<'a> {
    output: &'a Output,
    pauses: bool,
    predicts: bool,
    tree: Tree,
    /// How many snapshots there were in this scenario.
    number: usize,
    /// The snapshot at which the run waits, and the processes to ask about before it is shown.
    snapshot: Option<(Snapshot, VecDeque<i32>)>,
    /// The processes that were stopped there, and have not been seen to go on yet.
    frozen: BTreeSet<i32>,
    /// Whether the input has ended: then it pauses no more.
    no_input: bool,
    /// Whether each of the predictions was right.
    predictions: Vec<bool>,
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
            tree: Tree::default(),
            number: 0,
            snapshot: None,
            frozen: BTreeSet::new(),
            no_input: false,
            predictions: Vec::new(),
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
        if !self.predictions.is_empty() {
            let right = self.predictions.iter().filter(|it| **it).count();
            let all = self.predictions.len();
            let score = format!("\nYou predicted {right} of {all} states.\n");
            self.print(&styled(BOLD, score))?;
        }
        results
    }

    fn scenario(
        &mut self,
        runner: &Runner,
        scenario: &'static Scenario,
    ) -> Result<ScenarioResult, Failure> {
        self.tree = Tree::default();
        self.number = 0;
        self.frozen.clear();
        self.print(&text::heading(scenario))?;
        let events = runner.run_alone(scenario, false, true, None, &mut |event| match event {
            RunEvent::Event(event) => self.event(event),
            RunEvent::Typed(line) => self.typed(*line),
            _ => Ok(false),
        })?;
        self.snapshot = None; // if the run broke off there
        let mut control_events = Vec::new();
        if scenario.has_control() {
            let without = scenario.without();
            let line = format!("\nNow its control, without a pause: {without}.");
            self.print(&(styled(DIM, line) + "\n"))?;
            control_events = runner.run_alone(scenario, true, false, None, &mut |_| Ok(false))?;
        }
        let result = ScenarioResult::new(scenario, events, control_events);
        self.print(&text::conclusion(&result))?;
        Ok(result)
    }

    /// Shows an event. Returns whether the run may go on.
    fn event(&mut self, event: &Event) -> Result<bool, Failure> {
        let line = self.tree.take(event);
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
            questions.extend(to_ask(snapshot));
            let title = styled(BOLD, format_args!("\nSnapshot {}", self.number));
            let line = "   Live processes are stopped (SIGSTOP) until you have answered.";
            self.print(&format!("{title}\n{}\n", styled(DIM, line)))?;
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
        let Some((snapshot, questions)) = &mut self.snapshot else {
            return Ok(false); // too early
        };
        let Some(&pid) = questions.front() else {
            self.snapshot = None;
            return Ok(true);
        };
        let Some(line) = line else {
            questions.clear();
            return self.go_on();
        };
        let Some(answer) = answer(line) else {
            self.print("   Please answer S, T, Z, - or q.\n")?;
            self.ask(pid)?;
            return Ok(false);
        };
        questions.pop_front();
        let row = ps::row(&snapshot.text, pid);
        let state = row.as_ref().map(Row::state);
        self.predictions.push(answer == state);
        let call = self.tree.call(pid);
        let verdict = if answer == state {
            format!("{}: {call} {}", styled(GOOD, "Right"), words(state))
        } else {
            let (no, reason) = (styled(BAD, "No"), self.reason(row.as_ref()));
            format!("{no}: {call} {}: {reason}", words(state))
        };
        self.print(&format!("   {verdict}.\n"))?;
        self.go_on()
    }

    /// Why `ps` shows the process as it does, or does not show it.
    fn reason(&self, row: Option<&Row>) -> String {
        let Some(row) = row else {
            return "it has ended and was reaped, as its parent or adopter has waited for it, or \
                    ignores SIGCHLD"
                .to_owned();
        };
        match (row.state(), row.wchan.as_str()) {
            (State::Zombie, _) => {
                let parent = self.tree.call(row.ppid);
                format!("it has ended, and its parent, {parent}, has not waited for it")
            }
            (State::Stopped, _) => "a signal has stopped it, and none has continued it".to_owned(),
            (State::Alive, "do_wait") => "it waits for a child".to_owned(),
            (State::Alive, "-") => "it has not ended".to_owned(),
            (State::Alive, place) => format!("it has not ended, and sleeps in {place}"),
        }
    }

    /// Asks the next question, or shows the snapshot, and how to look at the processes by hand. Returns
    /// whether the run may go on.
    fn go_on(&mut self) -> Result<bool, Failure> {
        let Some((snapshot, questions)) = &self.snapshot else {
            return Ok(false);
        };
        if let Some(&pid) = questions.front() {
            self.ask(pid)?;
            return Ok(false);
        }
        self.show(snapshot)?;
        if self.pauses && !self.no_input {
            self.print(&how_to_look(snapshot))?;
            return Ok(false);
        }
        self.snapshot = None;
        Ok(true)
    }

    /// Shows a snapshot. Its title says what had come true, so it must not be seen before.
    fn show(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        let title = format_args!("\nSnapshot {}: {}", self.number, snapshot.title);
        let table = text::snapshot(snapshot, self.output.columns());
        self.print(&format!("{}\n{table}", styled(BOLD, title)))
    }

    /// Asks by name: a role, such as "zombie 1", would be the answer.
    fn ask(&self, pid: i32) -> Result<(), Failure> {
        let name = self.tree.name(pid);
        self.print(&format!(
            "   What did ps show for {name}? S lives, T stopped, Z zombie, - nothing, q quits: "
        ))
    }

    fn print(&self, text: &str) -> Result<(), Failure> {
        self.output.text(text)
    }
}

/// The processes to ask about: one in each state that the snapshot shows, and then the first.
fn to_ask(snapshot: &Snapshot) -> Vec<i32> {
    let states: Vec<_> = snapshot.pids.iter().map(|&pid| state(snapshot, pid)).collect();
    let is_first_of_state = |at: &usize| !states[..*at].contains(&states[*at]);
    let (firsts, others): (Vec<_>, Vec<_>) = (0..states.len()).partition(is_first_of_state);
    let mut asked = [firsts, others].concat();
    asked.truncate(QUESTIONS_A_SNAPSHOT);
    asked.sort_unstable();
    asked.into_iter().map(|at| snapshot.pids[at]).collect()
}

/// Commands to be pasted into another terminal, for one process of each kind.
fn how_to_look(snapshot: &Snapshot) -> String {
    let list: Vec<String> = snapshot.pids.iter().map(i32::to_string).collect();
    let list = list.join(",");
    let first = |wanted: State| {
        let mut pids = snapshot.pids.iter().copied();
        pids.find(|&pid| state(snapshot, pid) == Some(wanted))
    };
    let mut commands =
        vec![("the same, for yourself", format!("ps -o pid,ppid,stat,comm -p {list}"))];
    if let Some(zombie) = first(State::Zombie) {
        commands.push((
            "SIGKILL changes nothing: it is dead",
            format!("kill -KILL {zombie}; ps -o pid,stat,comm -p {zombie}"),
        ));
        commands.push((
            "whose it is; and no VmSize, it holds no memory",
            format!("grep -E '^(State|PPid|VmSize)' /proc/{zombie}/status"),
        ));
    }
    if let Some(alive) = first(State::Alive) {
        commands.push(("its open files", format!("ls -l /proc/{alive}/fd")));
    }
    let mut out = "   Commands for another terminal:\n".to_owned();
    for (what_for, command) in commands {
        let _ = writeln!(out, "     {}", styled(DIM, format_args!("{what_for}:")));
        let _ = writeln!(out, "     {}", styled(BOLD, command));
    }
    if first(State::Alive).is_some() {
        out += "   Live processes are stopped (SIGSTOP) while you look: your ps shows T for S.\n";
    }
    out + &styled(DIM, "   Enter goes on, q quits.") + "\n"
}

/// The state that the snapshot shows; `None` if it does not list the process.
fn state(snapshot: &Snapshot, pid: i32) -> Option<State> {
    ps::row(&snapshot.text, pid).map(|row| row.state())
}

fn answer(line: &str) -> Option<Option<State>> {
    match line.trim().to_ascii_lowercase().as_str() {
        "s" | "r" => Some(Some(State::Alive)),
        "t" => Some(Some(State::Stopped)),
        "z" => Some(Some(State::Zombie)),
        "-" => Some(None),
        _ => None,
    }
}

fn words(state: Option<State>) -> &'static str {
    match state {
        Some(State::Alive) => "lives",
        Some(State::Stopped) => "is stopped",
        Some(State::Zombie) => "is a zombie",
        None => "is gone",
    }
}
