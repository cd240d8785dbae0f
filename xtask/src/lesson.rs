//! `demo --pause` and `--predict`: one scenario after another, as a lesson at the terminal. It stops
//! at each moment, so that one can look from another terminal, or is asked what one expects to see.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::io::{self, IsTerminal};

use crate::company::{Company, Happening};
use crate::event::{Event, What};
use crate::options::Demo;
use crate::outcome::{Failure, cannot_write};
use crate::output::{BAD, BOLD, DIM, GOOD, Output, styled};
use crate::ps;
use crate::report::{self, Told};
use crate::scenarios::Scenario;
use crate::tree::Tree;

/// More would be tiresome: the first of a moment are those that it is about.
const QUESTIONS_A_MOMENT: usize = 3;

pub(crate) struct Lesson<'a> {
    output: &'a Output,
    pauses: bool,
    predicts: bool,
    tree: Tree,
    /// How many moments there were.
    number: usize,
    /// The one at which it has stopped.
    moment: Option<Moment>,
    /// Who has been stopped there, and may not have been seen to go on yet.
    held: BTreeSet<i32>,
    /// Whether the keyboard has come to its end: then nothing stops any more.
    is_deaf: bool,
    /// Of how many states that were asked for, how many were right.
    right: usize,
    asked: usize,
}

/// What there is to ask, and to show afterwards.
struct Moment {
    questions: VecDeque<i32>,
    pids: Vec<i32>,
    command: String,
    text: String,
}

impl<'a> Lesson<'a> {
    /// If one was asked for, and there is somebody to give it to.
    pub(crate) fn wanted(options: &Demo, output: &'a Output) -> Result<Option<Self>, Failure> {
        if !options.is_lesson() {
            return Ok(None);
        }
        if !(io::stdin().is_terminal() && io::stdout().is_terminal()) {
            return Err(Failure::Missing(
                "--pause and --predict need a terminal, to ask and to be answered: \
                 run this without a pipe or a file for stdin and stdout, or without them"
                    .to_owned(),
            ));
        }
        Ok(Some(Self {
            output,
            pauses: options.pause,
            predicts: options.predict,
            tree: Tree::default(),
            number: 0,
            moment: None,
            held: BTreeSet::new(),
            is_deaf: false,
            right: 0,
            asked: 0,
        }))
    }

    /// Gives it, and tells of each scenario when it is over.
    pub(crate) fn give(
        mut self,
        company: &mut Company,
        scenarios: &[&'static Scenario],
        mut write: impl FnMut(&Told),
    ) -> Result<Vec<Told>, Failure> {
        company.listen_to_keyboard()?;
        let mut told = Vec::new();
        for &scenario in scenarios {
            let scenario = self.scenario(company, scenario)?;
            write(&scenario);
            told.push(scenario);
        }
        if self.asked > 0 {
            let score = format!("\nYou foretold {} of {} states.\n", self.right, self.asked);
            self.say(&styled(BOLD, score))?;
        }
        Ok(told)
    }

    fn scenario(
        &mut self,
        company: &mut Company,
        scenario: &'static Scenario,
    ) -> Result<Told, Failure> {
        self.tree = Tree::default();
        self.number = 0;
        self.held.clear();
        self.say(&report::heading(scenario))?;
        let events = company.play_alone(scenario, false, true, |happening| match happening {
            Happening::Event(event) => self.event(event),
            Happening::Typed(line) => self.typed(line.as_deref()),
            Happening::Quiet => Ok(false),
        })?;
        self.moment = None; // if it broke off there
        let twins_events = match &scenario.twin {
            Some(twin) => {
                let told = format!("\nNow its twin, without a stop: {}.", twin.about);
                self.say(&(styled(DIM, told) + "\n"))?;
                company.play_alone(scenario, true, false, |_| Ok(false))?
            }
            None => Vec::new(),
        };
        let told = Told::new(scenario, events, twins_events);
        self.say(&told.conclusion())?;
        Ok(told)
    }

    /// Whether the run may go on.
    fn event(&mut self, event: &Event) -> Result<bool, Failure> {
        let line = self.tree.take(event);
        let is_part = self.is_part_of_story(&event.what);
        if let Some(line) = line
            && is_part
            && self.may_be_told(&event.what)
        {
            self.say(&(line + "\n"))?;
        }
        let What::Snapshot {
            moment,
            pids,
            held,
            command,
            text,
            ..
        } = &event.what
        else {
            return Ok(false);
        };
        self.number += 1;
        let title = format!("\nMoment {}: {moment}", self.number);
        self.say(&format!("{}\n", styled(BOLD, title)))?;
        if !held {
            self.show(command, text)?;
            let why = styled(DIM, "   It does not stop here: an alarm would not wait.");
            self.say(&(why + "\n"))?;
            return Ok(false);
        }
        let asks = self.predicts && !self.is_deaf;
        let questions = pids.iter().copied().take(QUESTIONS_A_MOMENT);
        if asks {
            let held = "   Who lives is held by SIGSTOP until you have answered.";
            self.say(&(styled(DIM, held) + "\n"))?;
        }
        self.moment = Some(Moment {
            questions: questions.filter(|_| asks).collect(),
            pids: pids.clone(),
            command: command.clone(),
            text: text.clone(),
        });
        self.go_on()
    }

    /// That processes are held at a moment, and go on after it, is not.
    fn is_part_of_story(&mut self, what: &What) -> bool {
        match what {
            What::State { process, state, .. } if *state == 'T' && self.moment.is_some() => {
                self.held.insert(process.pid);
                false
            }
            What::State { process, state, .. } => !self.held.remove(&process.pid) || *state == 'Z',
            _ => true,
        }
    }

    /// What would give away an answer is not, and the picture only when all is answered.
    fn may_be_told(&self, what: &What) -> bool {
        match what {
            What::Snapshot { .. } => false,
            What::State { .. } | What::Gone { .. } | What::Reaped { .. } => !self.predicts,
            _ => true,
        }
    }

    fn typed(&mut self, line: Option<&str>) -> Result<bool, Failure> {
        self.is_deaf = line.is_none();
        if self.is_deaf {
            self.say("\n   The input has ended: on without a stop.\n")?;
        }
        let Some(moment) = &mut self.moment else {
            return Ok(false); // too early
        };
        let Some(&pid) = moment.questions.front() else {
            self.moment = None;
            return Ok(true);
        };
        let Some(line) = line else {
            moment.questions.clear();
            return self.go_on();
        };
        let Some(answer) = State::from_answer(line) else {
            self.say("   That is none of S, T, Z and -.\n")?;
            self.ask(pid)?;
            return Ok(false);
        };
        moment.questions.pop_front();
        let state = State::in_picture(&moment.text, pid);
        self.asked += 1;
        let verdict = if answer == state {
            self.right += 1;
            styled(GOOD, "Right")
        } else {
            styled(BAD, "No")
        };
        let call = self.tree.call(pid);
        self.say(&format!("   {verdict}: {call} {}.\n", state.words()))?;
        self.go_on()
    }

    /// The next question of the moment, or the picture, and how to look for oneself. Whether the
    /// run may go on.
    fn go_on(&mut self) -> Result<bool, Failure> {
        let Some(moment) = &self.moment else {
            return Ok(false);
        };
        if let Some(&pid) = moment.questions.front() {
            self.ask(pid)?;
            return Ok(false);
        }
        self.show(&moment.command, &moment.text)?;
        if self.pauses && !self.is_deaf {
            self.say(&how_to_look(moment))?;
            return Ok(false);
        }
        self.moment = None;
        Ok(true)
    }

    fn show(&self, command: &str, text: &str) -> Result<(), Failure> {
        self.say(&report::picture(command, text, self.output.columns()))
    }

    fn ask(&self, pid: i32) -> Result<(), Failure> {
        let call = self.tree.call(pid);
        self.say(&format!(
            "   What did ps show for {call}? S lives, T stopped, Z zombie, - nothing: "
        ))
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        self.output.text(text).map_err(cannot_write)
    }
}

/// To be pasted into another terminal. Of many who are alike, one is enough.
fn how_to_look(moment: &Moment) -> String {
    let list: Vec<String> = moment.pids.iter().map(ToString::to_string).collect();
    let list = list.join(",");
    let first = |wanted: State| {
        let mut pids = moment.pids.iter().copied();
        pids.find(|&pid| State::in_picture(&moment.text, pid) == wanted)
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
    let mut out = "   To be pasted into another terminal:\n".to_owned();
    for (what_for, command) in commands {
        let _ = writeln!(out, "     {}", styled(DIM, format_args!("{what_for}:")));
        let _ = writeln!(out, "     {}", styled(BOLD, command));
    }
    if first(State::Alive).is_some() {
        out += "   Who lives is held by SIGSTOP meanwhile: your ps shows T (or t) for S.\n";
    }
    out + &styled(DIM, "   Enter goes on, Ctrl-C ends.") + "\n"
}

/// As far as one can foretell it: whether a process that lives runs or sleeps is chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Alive,
    Stopped,
    Zombie,
    Gone,
}

impl State {
    fn in_picture(text: &str, pid: i32) -> Self {
        match ps::row(text, pid) {
            None => State::Gone,
            Some(row) if row.is_zombie() => State::Zombie,
            Some(row) if row.is_alive() => State::Alive,
            Some(_) => State::Stopped,
        }
    }

    fn from_answer(line: &str) -> Option<Self> {
        match line.trim().to_ascii_lowercase().as_str() {
            "s" | "r" => Some(State::Alive),
            "t" => Some(State::Stopped),
            "z" => Some(State::Zombie),
            "-" => Some(State::Gone),
            _ => None,
        }
    }

    fn words(self) -> &'static str {
        match self {
            State::Alive => "lives",
            State::Stopped => "is stopped",
            State::Zombie => "is a zombie",
            State::Gone => "is gone",
        }
    }
}
