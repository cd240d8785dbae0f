//! Everybody who plays: the programs, and a process for each run of a scenario or of its twin.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use reexec::Child;

use crate::event::{Event, What};
use crate::outcome::{Failure, cannot_write};
use crate::output::Output;
use crate::performance::{ENTRY, Part, run_name};
use crate::programs::Programs;
use crate::report::Told;
use crate::scenarios::{Clock, Scenario};
use crate::threads::start_thread;
use crate::{interrupt, procfs, programs, ps};

/// More at once would only get into each other's way: they sleep, but their `ps` does not.
const SIDE_BY_SIDE: usize = 12;

/// How often the live line moves.
const STATUS_EVERY: Duration = Duration::from_millis(100);

/// How long runs get to clear up after themselves when they are told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// What comes in from the runs, and from the user.
enum Message {
    /// The programs are built, or cannot be.
    Built(Programs),
    Event(Event),
    /// The stage process of the run at this index has closed its stdout.
    Ended(usize),
    /// A line from the keyboard; `None` is its end.
    Typed(Option<String>),
    Interrupt,
}

/// What whoever watches a run that is alone is told.
pub(crate) enum Happening {
    Event(Event),
    /// A line from the keyboard, if one listens to that; `None` is its end.
    Typed(Option<String>),
    /// Nothing, for a while.
    Quiet,
}

/// One run on its way: of a scenario, or of its twin.
struct Run {
    scenario: &'static Scenario,
    twin: bool,
    /// Whether it waits at each moment until it is told to go on.
    pauses: bool,
    events: Vec<Event>,
    /// Dropped, it kills the stage process. What that has started then comes to us.
    process: Option<Child>,
    /// Closed, it tells the stage process to stop; closed by the kernel, too, if we are killed.
    orders: Option<ChildStdin>,
    over: bool,
}

/// Everybody who plays, and what it takes.
pub(crate) struct Company {
    clock: Clock,
    programs: BTreeMap<String, PathBuf>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

impl Company {
    /// With the programs built, or found in a folder; or a sentence on what is missing.
    pub(crate) fn assemble(clock: Clock, programs: Option<&Path>) -> Result<Self, Failure> {
        let missing = |why, remedy| Failure::Missing(format!("{why}; what helps: {remedy}"));
        procfs::check().map_err(|why| missing(why, procfs::REMEDY))?;
        own_children_only()?;
        ps::check().map_err(|why| missing(why, ps::PACKAGE))?;
        let mut company = Self::new(clock)
            .map_err(|error| Failure::Missing(format!("signals cannot be taken: {error}")))?;
        company.build(programs)?;
        Ok(company)
    }

    fn new(clock: Clock) -> io::Result<Self> {
        let (sender, messages) = mpsc::channel();
        let interrupts = sender.clone();
        interrupt::take_signals(move || {
            let _ = interrupts.send(Message::Interrupt);
        })?;
        nix::sys::prctl::set_child_subreaper(true)?;
        let programs = BTreeMap::new();
        Ok(Self {
            clock,
            programs,
            sender,
            messages,
        })
    }

    /// Has the programs built, or looked for in a folder.
    fn build(&mut self, folder: Option<&Path>) -> Result<(), Failure> {
        let cannot = |error: &dyn Display| Failure::Missing(format!("the build failed: {error}"));
        let builder = reexec::command(programs::BUILD)
            .args(folder)
            .stdin(reexec::Stdio::null())
            .stdout(reexec::Stdio::piped())
            .spawn()
            .map_err(|error| cannot(&error))?;
        let stdout = builder.take_stdout();
        let sender = self.sender.clone();
        start_thread(move || {
            let programs = stdout.map(serde_json::from_reader::<_, Programs>);
            let programs = programs.and_then(Result::ok);
            let broken = || Err("the process that builds has broken off".to_owned());
            let _ = sender.send(Message::Built(programs.unwrap_or_else(broken)));
        })
        .map_err(|error| cannot(&error))?;
        // Interrupted, we drop the builder, and so kill it; cargo, which it leaves behind, comes to
        // us, and is ended with the rest.
        match self.messages.recv() {
            Ok(Message::Built(Ok(programs))) => {
                self.programs = programs;
                Ok(())
            }
            Ok(Message::Built(Err(why))) if !self.is_interrupted() => Err(Failure::Missing(why)),
            _ => Err(Failure::Interrupted),
        }
    }

    /// Whether that is why something else has failed: Ctrl-C is for everybody in our group, and we
    /// may hear of their end first.
    fn is_interrupted(&self) -> bool {
        while let Ok(message) = self.messages.recv_timeout(STATUS_EVERY) {
            if let Message::Interrupt = message {
                return true;
            }
        }
        false
    }

    /// Runs the scenarios and their twins, and tells of each when all before it have been told.
    pub(crate) fn play(
        &mut self,
        scenarios: &[&'static Scenario],
        output: &Output,
        write: impl FnMut(&Told),
    ) -> Result<Vec<Told>, Failure> {
        let mut runs = runs_of(scenarios);
        let told = self.play_runs(scenarios, &mut runs, output, write);
        told.map_err(|failure| self.broken_off(runs, failure))
    }

    fn play_runs(
        &self,
        scenarios: &[&'static Scenario],
        runs: &mut [Run],
        output: &Output,
        mut write: impl FnMut(&Told),
    ) -> Result<Vec<Told>, Failure> {
        let mut told: Vec<Told> = Vec::new();
        while told.len() < scenarios.len() {
            self.start_some(runs, output)?;
            output.status(status(runs));
            match self.messages.recv_timeout(STATUS_EVERY) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Event(event)) => {
                    output.json(&event).map_err(cannot_write)?;
                    if let Some(line) = progress(&event) {
                        output.event(&line);
                    }
                    let run = runs.iter_mut().find(|run| run.name() == event.scenario);
                    if let Some(run) = run {
                        run.events.push(event);
                    }
                }
                Ok(Message::Ended(index)) => {
                    if let Some(failure) = runs[index].finish() {
                        output.json(failure).map_err(cannot_write)?;
                    }
                }
                Ok(Message::Built(_) | Message::Typed(_)) => {}
                Ok(Message::Interrupt) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Interrupted);
                }
            }
            while let Some(next) = scenarios.get(told.len())
                && let Some(scenario) = tell(next, runs)
            {
                write(&scenario);
                for verdict in &scenario.verdicts {
                    output.json(verdict).map_err(cannot_write)?;
                }
                output
                    .text(&scenario.text(output.columns()))
                    .map_err(cannot_write)?;
                told.push(scenario);
            }
        }
        Ok(told)
    }

    /// From now on, what is typed is told to whoever watches a run.
    pub(crate) fn listen_to_keyboard(&self) -> Result<(), Failure> {
        let sender = self.sender.clone();
        let listening = start_thread(move || {
            let lines = io::stdin().lock().split(b'\n').map_while(Result::ok);
            for line in lines {
                let line = String::from_utf8_lossy(&line).into_owned();
                let _ = sender.send(Message::Typed(Some(line)));
            }
            let _ = sender.send(Message::Typed(None));
        });
        listening
            .map(drop)
            .map_err(|error| Failure::Missing(format!("the keyboard cannot be read: {error}")))
    }

    /// Runs a scenario, or its twin, and nothing beside it, and tells `on` all that happens. A run
    /// that pauses waits at each moment until `on` has returned true. Returns the events.
    pub(crate) fn play_alone(
        &mut self,
        scenario: &'static Scenario,
        twin: bool,
        pauses: bool,
        on: impl FnMut(&Happening) -> Result<bool, Failure>,
    ) -> Result<Vec<Event>, Failure> {
        let mut run = Run::new(scenario, twin, pauses);
        match self.play_run(&mut run, on) {
            Ok(()) => Ok(run.events),
            Err(failure) => Err(self.broken_off(vec![run], failure)),
        }
    }

    fn play_run(
        &self,
        run: &mut Run,
        mut on: impl FnMut(&Happening) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        self.start(0, run).map_err(cannot_start)?;
        while !run.over {
            let happening = match self.messages.recv_timeout(STATUS_EVERY) {
                Err(RecvTimeoutError::Timeout) | Ok(Message::Built(_)) => Happening::Quiet,
                Ok(Message::Event(event)) => Happening::Event(event),
                Ok(Message::Typed(line)) => Happening::Typed(line),
                Ok(Message::Ended(_)) => {
                    run.finish();
                    Happening::Quiet
                }
                Ok(Message::Interrupt) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Interrupted);
                }
            };
            if on(&happening)?
                && let Some(orders) = &mut run.orders
            {
                // If it cannot be told, it has ended, and we are about to learn that.
                let _ = orders.write_all(b"\n");
            }
            if let Happening::Event(event) = happening {
                run.events.push(event);
            }
        }
        Ok(())
    }

    /// Keeps the stages full.
    fn start_some(&self, runs: &mut [Run], output: &Output) -> Result<(), Failure> {
        loop {
            let playing = runs.iter().filter(|run| run.process.is_some()).count();
            let waiting = runs
                .iter()
                .position(|run| run.process.is_none() && !run.over);
            let Some(index) = waiting.filter(|_| playing < SIDE_BY_SIDE) else {
                return Ok(());
            };
            output.event(&format!("{}: starting", runs[index].name()));
            self.start(index, &mut runs[index]).map_err(cannot_start)?;
        }
    }

    fn start(&self, index: usize, run: &mut Run) -> Result<(), Box<dyn Error>> {
        let part = Part {
            scenario: run.scenario.name.to_owned(),
            twin: run.twin,
            speed: self.clock.speed,
            pauses: run.pauses,
            programs: self.programs.clone(),
        };
        let process = reexec::command(ENTRY)
            .arg(run.name()) // for ps
            .stdin(reexec::Stdio::piped())
            .stdout(reexec::Stdio::piped())
            // Out of the terminal's foreground group from its first moment: Ctrl-C is for us, who
            // then close its stdin.
            .process_group(0)
            // It has to clear up after us; it learns of our end as the end of its stdin.
            .outlive_parent()
            .spawn()?;
        if let Some(mut orders) = process.take_stdin() {
            writeln!(orders, "{}", serde_json::to_string(&part)?)?;
            run.orders = Some(orders);
        }
        if let Some(stdout) = process.take_stdout() {
            let sender = self.sender.clone();
            start_thread(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if let Ok(event) = serde_json::from_str(&line) {
                        let _ = sender.send(Message::Event(event));
                    }
                }
                let _ = sender.send(Message::Ended(index));
            })?;
        }
        run.process = Some(process);
        Ok(())
    }

    /// Why there is no result, once the runs have been told to stop, and have had time to end what
    /// they have started, and to remove their files.
    fn broken_off(&self, mut runs: Vec<Run>, failure: Failure) -> Failure {
        for run in &mut runs {
            run.orders = None;
        }
        let mut interrupted = false;
        let deadline = Instant::now() + STOP_LIMIT;
        while runs.iter().any(|run| run.process.is_some()) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(Message::Ended(index)) => drop(runs[index].finish()),
                Ok(Message::Interrupt) => interrupted = true,
                Ok(Message::Event(_) | Message::Built(_) | Message::Typed(_)) => {}
                // What they have not ended comes to us, and is ended there.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        if interrupted || self.is_interrupted() {
            Failure::Interrupted
        } else {
            failure
        }
    }
}

impl Run {
    fn new(scenario: &'static Scenario, twin: bool, pauses: bool) -> Self {
        Self {
            scenario,
            twin,
            pauses,
            events: Vec::new(),
            process: None,
            orders: None,
            over: false,
        }
    }

    fn name(&self) -> String {
        run_name(self.scenario.name, self.twin)
    }

    fn has_come_to_its_end(&self) -> bool {
        let last = self.events.last();
        last.is_some_and(|event| matches!(event.what, What::End { .. }))
    }

    /// What it could not write down itself any more.
    fn end_without_a_word(&self, status: &str) -> Event {
        let what = What::Failed {
            why: format!("its own process, {ENTRY}, has not come to the end: {status}"),
        };
        Event {
            scenario: self.name(),
            t: self.events.last().map_or(0.0, |event| event.t),
            source: what.source(),
            what,
        }
    }

    /// Its stdout has ended, so it is about to end. Returns what it should have told of that, if it
    /// has not.
    fn finish(&mut self) -> Option<&Event> {
        self.orders = None;
        self.over = true;
        let status = self.process.take()?.wait_timeout(STOP_LIMIT);
        if self.has_come_to_its_end() {
            return None;
        }
        let status = status.ok().flatten();
        let status = status.map_or("it goes on".to_owned(), |status| status.to_string());
        self.events.push(self.end_without_a_word(&status));
        self.events.last()
    }
}

/// At the end we end all of our children. A shell that becomes us by exec hands over what it has
/// started in the background.
fn own_children_only() -> Result<(), Failure> {
    let missing = |error: io::Error| Failure::Missing(error.to_string());
    for pid in procfs::children(procfs::own_pid()).map_err(missing)? {
        let stat = procfs::look(pid).map_err(missing)?;
        if stat.is_some_and(|stat| stat.state != 'Z') {
            return Err(Failure::Missing(format!(
                "process {pid} is a child of this one, which has not started it, and would end it; \
                 what helps: to start it without exec"
            )));
        }
    }
    Ok(())
}

fn cannot_start(error: Box<dyn Error>) -> Failure {
    Failure::Missing(format!(
        "a run cannot be started: {error}; what helps: fewer scenarios at once, or higher limits \
         (ulimit -n, ulimit -u)"
    ))
}

/// The longest first, or they would be waited for at the end, alone.
fn runs_of(scenarios: &[&'static Scenario]) -> Vec<Run> {
    let mut runs = Vec::new();
    for &scenario in scenarios {
        for twin in [false, true] {
            if !twin || scenario.twin.is_some() {
                runs.push(Run::new(scenario, twin, false));
            }
        }
    }
    runs.sort_by(|one, other| other.scenario.seconds.total_cmp(&one.scenario.seconds));
    runs
}

/// What there is to tell of the scenario, if it and its twin are over.
fn tell(scenario: &'static Scenario, runs: &mut [Run]) -> Option<Told> {
    let mut of_scenario: Vec<_> = runs
        .iter_mut()
        .filter(|run| run.scenario.name == scenario.name)
        .collect();
    if of_scenario.iter().any(|run| !run.over) {
        return None;
    }
    let mut take = |twin: bool| {
        let run = of_scenario.iter_mut().find(|run| run.twin == twin);
        run.map(|run| std::mem::take(&mut run.events))
            .unwrap_or_default()
    };
    let (events, twins_events) = (take(false), take(true));
    Some(Told::new(scenario, events, twins_events))
}

fn status(runs: &[Run]) -> String {
    let over = runs.iter().filter(|run| run.over).count();
    let playing = runs.iter().filter(|run| run.process.is_some() && !run.twin);
    let playing: Vec<_> = playing.map(|run| run.scenario.name).collect();
    format!(
        "{over} of {} runs over; running {}",
        runs.len(),
        playing.join(", ")
    )
}

/// The events that are worth a line of their own where there is no live line.
fn progress(event: &Event) -> Option<String> {
    let what = match &event.what {
        What::Start { command, .. } => format!("$ {command}"),
        What::Snapshot { moment, .. } => format!("ps: {moment}"),
        What::End { .. } => "over".to_owned(),
        _ => return None,
    };
    Some(format!("{}: {:.3} s: {what}", event.scenario, event.t))
}
