//! `demo --pause` and `--predict`: one scenario after another, with a user at the terminal. It pauses at
//! each snapshot, so that they can look from another terminal, or asks them what they expect to see.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use crate::model::event::{Event, What};
use crate::model::failure::Failure;
use crate::model::process::State;
use crate::probe::ps;
use crate::runner::{RunEvent, Runner};
use crate::scenarios::Scenario;
use crate::verdict::result::ScenarioResult;
use crate::view::output::{BAD, BOLD, DIM, GOOD, Output, styled};
use crate::view::text;
use crate::view::tree::Tree;

/// More would be tiresome: the first processes of a snapshot are those that it is about.
const QUESTIONS_A_SNAPSHOT: usize = 3;

pub(super) struct Practice<'a> {
    output: &'a Output,
    pauses: bool,
    predicts: bool,
    tree: Tree,
    /// How many snapshots there were in this scenario.
    number: usize,
    /// The snapshot at which the run waits.
    snapshot: Option<Snapshot>,
    /// The processes that were stopped there, and have not been seen to go on yet.
    frozen: BTreeSet<i32>,
    /// Whether the input has ended: then it pauses no more.
    no_input: bool,
    /// How many of the predictions were right.
    right: usize,
    predictions: usize,
}

/// What there is to ask, and to show afterwards.
struct Snapshot {
    questions: VecDeque<i32>,
    pids: Vec<i32>,
    command: String,
    text: String,
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
            right: 0,
            predictions: 0,
        })
    }

    /// Runs the scenarios, and calls `write` with the result of each.
    pub(super) fn run(
        mut self,
        runner: &Runner,
        scenarios: &[&'static Scenario],
        mut write: impl FnMut(&ScenarioResult),
    ) -> Result<Vec<ScenarioResult>, Failure> {
        runner.listen_to_keyboard()?;
        let mut results = Vec::new();
        for &scenario in scenarios {
            let result = self.scenario(runner, scenario)?;
            write(&result);
            results.push(result);
        }
        if self.predictions > 0 {
            let (right, all) = (self.right, self.predictions);
            let score = format!("\nYou predicted {right} of {all} states.\n");
            self.print(&styled(BOLD, score))?;
        }
        Ok(results)
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
        let events = runner.run_alone(scenario, false, true, &mut |event| match event {
            RunEvent::Event(event) => self.event(event),
            RunEvent::Typed(line) => self.typed(*line),
            _ => Ok(false),
        })?;
        self.snapshot = None; // if the run broke off there
        let control_events = match &scenario.control {
            Some(control) => {
                let line = format!("\nNow its control, without a pause: {}.", control.about);
                self.print(&(styled(DIM, line) + "\n"))?;
                runner.run_alone(scenario, true, false, &mut |_| Ok(false))?
            }
            None => Vec::new(),
        };
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
        let What::Snapshot {
            title,
            pids,
            frozen,
            command,
            text,
            ..
        } = &event.what
        else {
            return Ok(false);
        };
        self.number += 1;
        let title = format!("\nSnapshot {}: {title}", self.number);
        self.print(&format!("{}\n", styled(BOLD, title)))?;
        if !frozen {
            self.show(command, text)?;
            let why = styled(DIM, "   No pause here: an alarm would not wait.");
            self.print(&(why + "\n"))?;
            return Ok(false);
        }
        let asks = self.predicts && !self.no_input;
        let questions = pids.iter().copied().take(QUESTIONS_A_SNAPSHOT);
        if asks {
            let line = "   Live processes are stopped (SIGSTOP) until you have answered.";
            self.print(&(styled(DIM, line) + "\n"))?;
        }
        self.snapshot = Some(Snapshot {
            questions: questions.filter(|_| asks).collect(),
            pids: pids.clone(),
            command: command.clone(),
            text: text.clone(),
        });
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
            What::Snapshot { .. } => false,
            What::State { .. } | What::Gone { .. } | What::Reaped { .. } => !self.predicts,
            _ => true,
        }
    }

    fn typed(&mut self, line: Option<&str>) -> Result<bool, Failure> {
        self.no_input = line.is_none();
        if self.no_input {
            self.print("\n   The input has ended: no more pauses.\n")?;
        }
        let Some(snapshot) = &mut self.snapshot else {
            return Ok(false); // too early
        };
        let Some(&pid) = snapshot.questions.front() else {
            self.snapshot = None;
            return Ok(true);
        };
        let Some(line) = line else {
            snapshot.questions.clear();
            return self.go_on();
        };
        let Some(answer) = answer(line) else {
            self.print("   Please answer S, T, Z or -.\n")?;
            self.ask(pid)?;
            return Ok(false);
        };
        snapshot.questions.pop_front();
        let state = state(&snapshot.text, pid);
        self.predictions += 1;
        let verdict = if answer == state {
            self.right += 1;
            styled(GOOD, "Right")
        } else {
            styled(BAD, "No")
        };
        let call = self.tree.call(pid);
        self.print(&format!("   {verdict}: {call} {}.\n", words(state)))?;
        self.go_on()
    }

    /// Asks the next question, or shows the snapshot, and how to look at the processes by hand. Returns
    /// whether the run may go on.
    fn go_on(&mut self) -> Result<bool, Failure> {
        let Some(snapshot) = &self.snapshot else {
            return Ok(false);
        };
        if let Some(&pid) = snapshot.questions.front() {
            self.ask(pid)?;
            return Ok(false);
        }
        self.show(&snapshot.command, &snapshot.text)?;
        if self.pauses && !self.no_input {
            self.print(&how_to_look(snapshot))?;
            return Ok(false);
        }
        self.snapshot = None;
        Ok(true)
    }

    fn show(&self, command: &str, text: &str) -> Result<(), Failure> {
        self.print(&text::snapshot(command, text, self.output.columns()))
    }

    fn ask(&self, pid: i32) -> Result<(), Failure> {
        let call = self.tree.call(pid);
        self.print(&format!(
            "   What did ps show for {call}? S lives, T stopped, Z zombie, - nothing: "
        ))
    }

    fn print(&self, text: &str) -> Result<(), Failure> {
        self.output.text(text)
    }
}

/// Commands to be pasted into another terminal, for one process of each kind.
fn how_to_look(snapshot: &Snapshot) -> String {
    let list: Vec<String> = snapshot.pids.iter().map(i32::to_string).collect();
    let list = list.join(",");
    let first = |wanted: State| {
        let mut pids = snapshot.pids.iter().copied();
        pids.find(|&pid| state(&snapshot.text, pid) == Some(wanted))
    };
    let mut commands = vec![(
        "the same, for yourself",
        format!("ps -o pid,ppid,stat,comm -p {list}"),
    )];
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
        commands.push(("what it has open", format!("ls -l /proc/{alive}/fd")));
    }
    let mut out = "   Commands for another terminal:\n".to_owned();
    for (what_for, command) in commands {
        let _ = writeln!(out, "     {}", styled(DIM, format_args!("{what_for}:")));
        let _ = writeln!(out, "     {}", styled(BOLD, command));
    }
    if first(State::Alive).is_some() {
        out += "   Live processes are stopped (SIGSTOP) while you look: your ps shows T for S.\n";
    }
    out + &styled(DIM, "   Enter goes on, Ctrl-C ends.") + "\n"
}

/// The state that the snapshot shows; `None` if it does not list the process.
fn state(text: &str, pid: i32) -> Option<State> {
    ps::row(text, pid).map(|row| row.state())
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
