//! Runs scenarios, each in its own process, and collects their events.

pub(crate) mod answers;
pub(crate) mod interrupt;
pub(crate) mod job;
pub(crate) mod programs;
pub(crate) mod recording;
mod run;

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::num::NonZero;
use std::process::ChildStdin;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use reexec::Child;

use crate::model::clock::Clock;
use crate::model::event::Event;
use crate::model::failure::Failure;
use crate::probe::need::remedy;
use crate::probe::{procfs, ps};
use crate::runner::job::{ENTRY, Job};
use crate::runner::programs::{Programs, Wanted};
use crate::runner::run::{Run, STOP_LIMIT};
use crate::scenarios::Scenario;
use crate::verdict::result::ScenarioResult;
use crate::worker::thread::start_thread;

/// More at once, for each processor, would only get into each other's way: the programs sleep, but `ps`
/// does not.
const SIDE_BY_SIDE: usize = 6;

/// How long the check of `ps` may take on a processor for each run that is there at the same time.
const SHARE: Duration = Duration::from_millis(100);

/// At least this often, the sink is called.
const TICK: Duration = Duration::from_millis(100);

/// What comes in from the workers, and from the user.
enum Message {
    /// The programs are built, or why they cannot be.
    Built(Programs),
    Event(Event),
    /// The worker of the run at this index has closed its stdout.
    Ended(usize),
    /// A line from the keyboard; `None` is its end.
    Typed(Option<String>),
    Interrupt,
}

/// What the runner reports while it runs.
pub(crate) enum RunEvent<'a> {
    /// The worker of this run is about to be started.
    Starting(&'a str),
    Event(&'a Event),
    /// A scenario and its control are over, and so are all before it.
    Result(&'a ScenarioResult),
    /// A line from the keyboard, if the runner listens to that; `None` is its end.
    Typed(Option<&'a str>),
    /// How far it is; several times a second.
    Progress {
        over: usize,
        all: usize,
        running: Vec<&'static str>,
    },
}

/// Where run events go. Returns whether a run that pauses may go on.
pub(crate) type Sink<'a> = dyn FnMut(&RunEvent<'_>) -> Result<bool, Failure> + 'a;

pub(crate) struct Runner {
    clock: Clock,
    /// How many runs there may be at the same time.
    side_by_side: usize,
    programs: BTreeMap<String, OsString>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

impl Runner {
    /// Builds the programs, or finds them.
    pub(crate) fn new(clock: Clock, programs: Wanted) -> Result<Self, Failure> {
        let missing = |why, need| Failure::Missing(format!("{why}; what helps: {}", remedy(need)));
        procfs::check().map_err(|why| missing(why, "/proc"))?;
        own_children_only()?;
        let began = Instant::now();
        ps::check().map_err(|why| missing(why, "ps"))?;
        let side_by_side = side_by_side(began.elapsed());
        let (sender, messages) = mpsc::channel();
        let interrupts = sender.clone();
        let interrupt = move || drop(interrupts.send(Message::Interrupt));
        interrupt::take_signals(interrupt)
            .and_then(|()| Ok(set_child_subreaper(true)?))
            .map_err(|error| Failure::Missing(format!("signals cannot be taken: {error}")))?;
        let mut runner = Self { clock, side_by_side, programs: BTreeMap::new(), sender, messages };
        runner.build(programs)?;
        Ok(runner)
    }

    fn build(&mut self, wanted: Wanted) -> Result<(), Failure> {
        let is_answer = wanted.answer.is_some();
        let job = Job::Build(wanted);
        let parse = |line: &str| serde_json::from_str(line).ok().map(Message::Built);
        let broken = Message::Built(Err("the process that builds has broken off".to_owned()));
        // Interrupted, we drop the builder, and so kill it; cargo, which it leaves behind, comes to us,
        // and is ended with the rest.
        let _builder = self
            .start_worker("build", &job, parse, broken)
            .map_err(|error| Failure::Missing(format!("the build failed: {error}")))?;
        match self.messages.recv() {
            Ok(Message::Built(Ok(programs))) => {
                self.programs = programs;
                Ok(())
            }
            Ok(Message::Built(Err(_))) if self.is_interrupted() => Err(Failure::Interrupted),
            Ok(Message::Built(Err(why))) if is_answer => Err(Failure::Failed(why)),
            Ok(Message::Built(Err(why))) => Err(Failure::Missing(why)),
            _ => Err(Failure::Interrupted),
        }
    }

    /// Whether an interrupt is why something else has failed: Ctrl-C is for every process in our group,
    /// and we may learn of their ends first.
    fn is_interrupted(&self) -> bool {
        while let Ok(message) = self.messages.recv_timeout(TICK) {
            if let Message::Interrupt = message {
                return true;
            }
        }
        false
    }

    /// Sends what is typed to the sink from now on.
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

    /// Runs the scenarios and their controls side by side; again, more slowly, a run for which the machine
    /// was too slow. Reports the results in this order, and returns them.
    pub(crate) fn run_all(
        &self,
        scenarios: &[&'static Scenario],
        sink: &mut Sink<'_>,
    ) -> Result<Vec<ScenarioResult>, Failure> {
        let mut results = Vec::new();
        self.run(&mut runs_of(scenarios, self.clock), sink, |runs, ended, sink| {
            if let Some(index) = ended {
                runs[index].repeat_if_too_slow();
            }
            while let Some(next) = scenarios.get(results.len())
                && let Some(result) = result_of(next, runs)
            {
                sink(&RunEvent::Result(&result))?;
                results.push(result);
            }
            Ok(())
        })?;
        Ok(results)
    }

    /// Runs a scenario, or its control, alone, and once. With `pauses`, it waits at each snapshot until
    /// the sink has returned true. `number` replaces that of its command. Returns the events.
    pub(crate) fn run_alone(
        &self,
        scenario: &'static Scenario,
        control: bool,
        pauses: bool,
        number: Option<u32>,
        sink: &mut Sink<'_>,
    ) -> Result<Vec<Event>, Failure> {
        let mut runs = [Run { number, ..Run::new(scenario, control, pauses) }];
        self.run(&mut runs, sink, |_, _, _| Ok(()))?;
        let [run] = runs;
        Ok(run.events)
    }

    /// Starts the runs, and takes in messages until all are over. Calls `after` for each message, with the
    /// index of the run that has ended, if one has.
    fn run(
        &self,
        runs: &mut [Run],
        sink: &mut Sink<'_>,
        mut after: impl FnMut(&mut [Run], Option<usize>, &mut Sink<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut until_over = || {
            while runs.iter().any(|run| !run.over) {
                self.start_some(runs, sink)?;
                let ended = self.step(runs, sink)?;
                after(runs, ended, sink)?;
            }
            Ok(())
        };
        until_over().map_err(|failure| self.break_off(runs, failure))
    }

    /// Takes in one message, or nothing for a while. Returns the index of a run that has ended.
    fn step(&self, runs: &mut [Run], sink: &mut Sink<'_>) -> Result<Option<usize>, Failure> {
        sink(&progress(runs))?;
        match self.messages.recv_timeout(TICK) {
            Err(RecvTimeoutError::Timeout) | Ok(Message::Built(_)) => {}
            Ok(Message::Event(event)) => {
                let may_go_on = sink(&RunEvent::Event(&event))?;
                if let Some(run) = runs.iter_mut().find(|run| run.name == event.scenario) {
                    run.events.push(event);
                    if may_go_on {
                        run.resume();
                    }
                }
            }
            Ok(Message::Typed(line)) => {
                if sink(&RunEvent::Typed(line.as_deref()))? {
                    runs.iter_mut().for_each(Run::resume);
                }
            }
            Ok(Message::Ended(index)) => {
                if let Some(failed) = runs[index].finish() {
                    sink(&RunEvent::Event(failed))?;
                }
                return Ok(Some(index));
            }
            Ok(Message::Interrupt) | Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::Interrupted);
            }
        }
        Ok(None)
    }

    /// Starts as many runs as may run side by side; last, when there are fewer, those that are repeated.
    fn start_some(&self, runs: &mut [Run], sink: &mut Sink<'_>) -> Result<(), Failure> {
        loop {
            let running = runs.iter().filter(|run| run.is_running()).count();
            let waiting = runs.iter().enumerate();
            let waiting = waiting.filter(|(_, run)| !run.is_running() && !run.over);
            let next = waiting.min_by_key(|(_, run)| run.slowness);
            let Some((index, run)) = next.filter(|_| running < self.side_by_side) else {
                return Ok(());
            };
            sink(&RunEvent::Starting(&run.name))?;
            self.start(index, &mut runs[index]).map_err(cannot_start)?;
        }
    }

    fn start(&self, index: usize, run: &mut Run) -> Result<(), Box<dyn Error>> {
        let job = Job::Run(job::Run {
            scenario: run.scenario.name.to_owned(),
            control: run.control,
            speed: self.clock.speed,
            slowness: run.slowness,
            pauses: run.pauses,
            number: run.number,
            programs: self.programs.clone(),
        });
        let parse = |line: &str| serde_json::from_str(line).ok().map(Message::Event);
        let (process, stdin) = self.start_worker(&run.name, &job, parse, Message::Ended(index))?;
        (run.process, run.stdin) = (Some(process), stdin);
        Ok(())
    }

    /// Starts a worker, gives it its job, and sends what it answers, and `end` when that has ended.
    fn start_worker(
        &self,
        name: &str,
        job: &Job,
        parse: impl Fn(&str) -> Option<Message> + Send + 'static,
        end: Message,
    ) -> Result<(Child, Option<ChildStdin>), Box<dyn Error>> {
        let mut worker = reexec::command(ENTRY);
        worker
            .arg(name) // for ps
            .stdin(reexec::Stdio::piped())
            .stdout(reexec::Stdio::piped());
        if let Job::Run(_) = job {
            worker
                // Out of the terminal's foreground group from its first moment: Ctrl-C is for us, who
                // then close its stdin.
                .process_group(0)
                // It has to clear up after us; it learns of our end as the end of its stdin.
                .outlive_parent();
        }
        let worker = worker.spawn()?;
        let mut stdin = worker.take_stdin();
        if let Some(stdin) = &mut stdin {
            writeln!(stdin, "{}", serde_json::to_string(job)?)?;
        }
        if let Some(stdout) = worker.take_stdout() {
            let sender = self.sender.clone();
            start_thread(move || {
                let lines = BufReader::new(stdout).lines().map_while(Result::ok);
                for message in lines.filter_map(|line| parse(&line)) {
                    let _ = sender.send(message);
                }
                let _ = sender.send(end);
            })?;
        }
        Ok((worker, stdin))
    }

    /// Stops the runs, and gives them time to end the processes that they have started, and to remove
    /// their files. Returns why there is no result.
    fn break_off(&self, runs: &mut [Run], failure: Failure) -> Failure {
        runs.iter_mut().for_each(Run::stop);
        let mut interrupted = false;
        let deadline = Instant::now() + STOP_LIMIT;
        while runs.iter().any(Run::is_running) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(Message::Ended(index)) => drop(runs[index].finish()),
                Ok(Message::Interrupt) => interrupted = true,
                Ok(Message::Event(_) | Message::Built(_) | Message::Typed(_)) => {}
                // The processes that they have not ended come to us, and are ended there.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        for run in runs {
            run.process = None;
        }
        if interrupted || self.is_interrupted() { Failure::Interrupted } else { failure }
    }
}

/// Fails if we have children already. At the end we end all of our children, and a shell that becomes
/// us by exec hands over what it has started in the background.
fn own_children_only() -> Result<(), Failure> {
    let missing = |error: io::Error| Failure::Missing(error.to_string());
    for pid in procfs::children(procfs::own_pid()).map_err(missing)? {
        let stat = procfs::look(pid).map_err(missing)?;
        if stat.is_some_and(|stat| !stat.is_zombie()) {
            return Err(Failure::Missing(format!(
                "process {pid} is a child of this one, which has not started it, and would end it; \
                 what helps: to start it without exec"
            )));
        }
    }
    Ok(())
}

/// As many as the processors can serve if the check of `ps` has taken so long.
fn side_by_side(check: Duration) -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let by_speed = SHARE.as_secs_f64() * SIDE_BY_SIDE as f64 / check.as_secs_f64();
    ((processors as f64 * by_speed) as usize).clamp(1, SIDE_BY_SIDE * processors)
}

fn cannot_start(error: Box<dyn Error>) -> Failure {
    Failure::Missing(format!(
        "a run cannot be started: {error}; what helps: fewer scenarios at once, or higher limits \
         (ulimit -n, ulimit -u)"
    ))
}

/// The longest first, or they would run alone at the end.
fn runs_of(scenarios: &[&'static Scenario], clock: Clock) -> Vec<Run> {
    let mut runs = Vec::new();
    for &scenario in scenarios {
        runs.push(Run::new(scenario, false, false));
        if scenario.has_control() {
            runs.push(Run::new(scenario, true, false));
        }
    }
    let seconds = |run: &Run| run.scenario.seconds / run.scenario.clock(clock).speed;
    runs.sort_by(|one, other| seconds(other).total_cmp(&seconds(one)));
    runs
}

/// The result of the scenario, if it and its control are over.
fn result_of(scenario: &'static Scenario, runs: &mut [Run]) -> Option<ScenarioResult> {
    let mut of_scenario = runs.iter_mut().filter(|run| run.scenario.name == scenario.name);
    let (own, control) = (of_scenario.next()?, of_scenario.next());
    if !own.over || control.as_ref().is_some_and(|run| !run.over) {
        return None;
    }
    let events = std::mem::take(&mut own.events);
    let control_events = control.map(|run| std::mem::take(&mut run.events));
    Some(ScenarioResult::new(scenario, events, control_events.unwrap_or_default()))
}

fn progress(runs: &[Run]) -> RunEvent<'static> {
    let running = runs.iter().filter(|run| run.is_running() && !run.control);
    RunEvent::Progress {
        over: runs.iter().filter(|run| run.over).count(),
        all: runs.len(),
        running: running.map(|run| run.scenario.name).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_run_side_by_side_where_ps_is_slow() {
        let processors = thread::available_parallelism().unwrap().get();
        let in_milliseconds = |time| side_by_side(Duration::from_millis(time));
        assert_eq!(in_milliseconds(10), SIDE_BY_SIDE * processors);
        assert_eq!(in_milliseconds(300), 2 * processors);
        assert_eq!(in_milliseconds(60_000), 1);
    }
}
