//! `cargo xtask demo`: runs scenarios side by side, each in a process of its own, and judges.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ExitCode};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use reexec::Child;
use serde::Serialize;

use crate::event::{Event, What};
use crate::options::Demo;
use crate::output::{BAD, GOOD, Output, styled};
use crate::performance::{ENTRY, Part};
use crate::programs::Programs;
use crate::report::Told;
use crate::scenarios::{ALL, Scenario};
use crate::verdict::Verdict;
use crate::{interrupt, procfs, programs, ps, recheck, report, stage};

pub(crate) const EXIT_NOT_HELD: u8 = 1;
const EXIT_MALFORMED: u8 = 2; // as for wrong usage: what was given is not what it takes
pub(crate) const EXIT_OUTPUT: u8 = 74; // EX_IOERR
pub(crate) const EXIT_MISSING: u8 = 77; // EX_NOPERM in sysexits.h, "skipped" in automake
pub(crate) const EXIT_INTERRUPTED: u8 = 130; // 128 + SIGINT, as a shell reports it

/// More at once would only get into each other's way: they sleep, but their `ps` does not.
const SIDE_BY_SIDE: usize = 12;

/// How often the live line moves.
const STATUS_EVERY: Duration = Duration::from_millis(100);

/// How long runs get to clear up after themselves when they are told to stop.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Why there is no result.
enum Failure {
    /// Something is missing that it takes.
    Missing(String),
    /// What an earlier run is said to have written is something else.
    Malformed(String),
    /// What came out cannot be written.
    Output(String),
    Interrupted,
}

/// Runs what was asked for. Returns the exit code.
pub(crate) fn run(options: &Demo) -> ExitCode {
    let output = Output::new(options.json, options.color);
    let result = match &options.recheck {
        Some(folder) => judge_again(folder, options, &output),
        None => perform(options, &output),
    };
    output.finish();
    let failure = match result {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => return ExitCode::from(EXIT_NOT_HELD),
        Err(failure) => failure,
    };
    let left = clear_up(); // a result has cleared up before it was told
    let (code, sentence) = match failure {
        Failure::Missing(what) => (EXIT_MISSING, what),
        Failure::Malformed(what) => (EXIT_MALFORMED, what),
        Failure::Output(what) => (EXIT_OUTPUT, what),
        Failure::Interrupted => (
            EXIT_INTERRUPTED,
            format!("interrupted; {left} processes left"),
        ),
    };
    let _ = writeln!(io::stderr(), "xtask: {sentence}");
    ExitCode::from(code)
}

/// Whether everything was as it should be.
fn perform(options: &Demo, output: &Output) -> Result<bool, Failure> {
    let began = Instant::now();
    let scenarios = chosen(&options.scenarios);
    ps::check()
        .map_err(|why| Failure::Missing(format!("{why}; install procps ({})", ps::PACKAGE)))?;
    let mut company = Company::new(options.clock().speed)
        .map_err(|error| Failure::Missing(format!("signals cannot be taken: {error}")))?;
    company.build(options.programs.as_deref())?;

    let running = Instant::now();
    let folder = options.report.clone();
    let folder = folder.unwrap_or_else(|| programs::target_folder().join("demo"));
    let mut written = Ok(());
    let told = company.play(&scenarios, output, |scenario| {
        if written.is_ok() {
            written = scenario.write(&folder);
        }
    })?;
    let written = written.and_then(|()| report::write_index(&folder, &told));

    output.text(&report::table(&told)).map_err(cannot_write)?;
    let left = clear_up();
    let good = told.iter().all(Told::is_good) && left == 0;
    let summary = Summary::new(&told, left, running.elapsed(), began.elapsed());
    output.json(&summary).map_err(cannot_write)?;
    let index = folder.join(report::INDEX);
    let place = match &written {
        Ok(()) => format!("To look at: {}.", index.display()),
        Err(_) => String::new(),
    };
    output
        .text(&summary.text(good, &place))
        .map_err(cannot_write)?;
    // Last: the verdicts are worth telling though the report has no place.
    written.map_err(|error| {
        Failure::Output(format!(
            "cannot write the report to {}: {error}; --report takes another folder",
            folder.display()
        ))
    })?;
    Ok(good)
}

/// The same for what an earlier run has recorded.
fn judge_again(folder: &Path, options: &Demo, output: &Output) -> Result<bool, Failure> {
    let told = recheck::read(folder, &options.scenarios).map_err(|failure| match failure {
        recheck::Failure::Missing(what) => Failure::Missing(what),
        recheck::Failure::Malformed(what) => Failure::Malformed(what),
    })?;
    for verdict in told.iter().flat_map(|told| &told.verdicts) {
        output.json(verdict).map_err(cannot_write)?;
    }
    for scenario in told.iter().filter(|told| !told.is_good()) {
        output
            .text(&scenario.text(output.columns()))
            .map_err(cannot_write)?;
    }
    output.text(&report::table(&told)).map_err(cannot_write)?;
    let left = told.iter().map(Told::left).sum();
    let longest = told.iter().map(|told| told.seconds).fold(0.0, f64::max);
    let longest = Duration::from_secs_f64(longest);
    let summary = Summary::new(&told, left, longest, longest);
    output.json(&summary).map_err(cannot_write)?;
    let good = told.iter().all(Told::is_good) && left == 0;
    let source = format!("Judged again from {}.", folder.display());
    output
        .text(&summary.text(good, &source))
        .map_err(cannot_write)?;
    Ok(good)
}

fn chosen(names: &[String]) -> Vec<&'static Scenario> {
    let all = names.iter().any(|name| name == "all");
    ALL.iter()
        .filter(|scenario| all || names.iter().any(|name| name == scenario.name))
        .collect()
}

fn cannot_write(error: io::Error) -> Failure {
    Failure::Output(format!("cannot write the result: {error}"))
}

/// Ends what is left of the runs, which should be nothing, and counts what then is left.
///
/// This process is a subreaper: if a stage process was killed, what it had started is ours now.
pub(crate) fn clear_up() -> usize {
    stage::kill_and_reap_all();
    procfs::descendants(procfs::own_pid()).len()
}

/// What comes in from the runs, and from the user.
enum Message {
    /// The programs are built, or cannot be.
    Built(Programs),
    Event(Event),
    /// The stage process of the run at this index has closed its stdout.
    Ended(usize),
    Interrupt,
}

/// One run on its way: of a scenario, or of its twin.
struct Run {
    scenario: &'static Scenario,
    twin: bool,
    events: Vec<Event>,
    /// Dropped, it ends the stage process, which then ends what it has started.
    process: Option<Child>,
    /// Closed, it tells the stage process to stop; closed by the kernel, too, if we are killed.
    orders: Option<ChildStdin>,
    over: bool,
}

/// Everybody who plays, and what it takes.
struct Company {
    speed: f64,
    programs: BTreeMap<String, PathBuf>,
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

impl Company {
    fn new(speed: f64) -> io::Result<Self> {
        let (sender, messages) = mpsc::channel();
        let interrupts = sender.clone();
        interrupt::take_signals(move || {
            let _ = interrupts.send(Message::Interrupt);
        })?;
        nix::sys::prctl::set_child_subreaper(true)?;
        let programs = BTreeMap::new();
        Ok(Self {
            speed,
            programs,
            sender,
            messages,
        })
    }

    /// Has the programs built, or looked for in a folder.
    fn build(&mut self, folder: Option<&Path>) -> Result<(), Failure> {
        let cannot = |error: io::Error| Failure::Missing(format!("the build failed: {error}"));
        let builder = reexec::command(programs::BUILD)
            .args(folder)
            .stdin(reexec::Stdio::null())
            .stdout(reexec::Stdio::piped())
            .spawn()
            .map_err(|error| cannot(error.into()))?;
        let stdout = builder.take_stdout();
        let sender = self.sender.clone();
        thread::spawn(move || {
            let programs = stdout.map(serde_json::from_reader::<_, Programs>);
            let programs = programs.and_then(Result::ok);
            let broken = || Err("the process that builds has broken off".to_owned());
            let _ = sender.send(Message::Built(programs.unwrap_or_else(broken)));
        });
        // Interrupted, we drop the builder, and so kill it; cargo, which it leaves behind, comes to
        // us, and is ended with the rest.
        match self.messages.recv() {
            Ok(Message::Built(programs)) => {
                self.programs = programs.map_err(Failure::Missing)?;
                Ok(())
            }
            _ => Err(Failure::Interrupted),
        }
    }

    /// Runs the scenarios and their twins, and tells of each when all before it have been told.
    fn play(
        &mut self,
        scenarios: &[&'static Scenario],
        output: &Output,
        mut write: impl FnMut(&Told),
    ) -> Result<Vec<Told>, Failure> {
        let mut runs = runs_of(scenarios);
        let mut told: Vec<Told> = Vec::new();
        while told.len() < scenarios.len() {
            self.start_some(&mut runs, output)?;
            output.status(status(&runs));
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
                Ok(Message::Ended(index)) => runs[index].finish(),
                Ok(Message::Built(_)) => {}
                Ok(Message::Interrupt) | Err(RecvTimeoutError::Disconnected) => {
                    self.stop(runs);
                    return Err(Failure::Interrupted);
                }
            }
            while let Some(next) = scenarios.get(told.len())
                && let Some(scenario) = tell(next, &mut runs)
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
            self.start(index, &mut runs[index])
                .map_err(|error| Failure::Missing(format!("cannot start {ENTRY}: {error}")))?;
        }
    }

    fn start(&self, index: usize, run: &mut Run) -> io::Result<()> {
        let part = Part {
            scenario: run.scenario.name.to_owned(),
            twin: run.twin,
            speed: self.speed,
            programs: self.programs.clone(),
        };
        let process = reexec::command(ENTRY)
            .arg(run.name()) // for ps
            .stdin(reexec::Stdio::piped())
            .stdout(reexec::Stdio::piped())
            // It has to clear up after us; it learns of our end as the end of its stdin.
            .outlive_parent()
            .spawn()?;
        if let Some(mut orders) = process.take_stdin() {
            writeln!(orders, "{}", serde_json::to_string(&part)?)?;
            run.orders = Some(orders);
        }
        if let Some(stdout) = process.take_stdout() {
            let sender = self.sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if let Ok(event) = serde_json::from_str(&line) {
                        let _ = sender.send(Message::Event(event));
                    }
                }
                let _ = sender.send(Message::Ended(index));
            });
        }
        run.process = Some(process);
        Ok(())
    }

    /// Tells all runs to stop, and gives them time to end what they have started.
    fn stop(&self, mut runs: Vec<Run>) {
        for run in &mut runs {
            run.orders = None;
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while runs.iter().any(|run| run.process.is_some()) {
            match self
                .messages
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(Message::Ended(index)) => runs[index].finish(),
                Ok(Message::Event(_) | Message::Built(_)) => {}
                // Again: at once, then. What they have not ended comes to us, and is ended there.
                Ok(Message::Interrupt)
                | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

impl Run {
    fn name(&self) -> String {
        crate::performance::run_name(self.scenario.name, self.twin)
    }

    /// Its stdout has ended, so it is about to end.
    fn finish(&mut self) {
        self.orders = None;
        if let Some(process) = self.process.take() {
            let _ = process.wait_timeout(STOP_LIMIT);
        }
        self.over = true;
    }
}

/// The longest first, or they would be waited for at the end, alone.
fn runs_of(scenarios: &[&'static Scenario]) -> Vec<Run> {
    let mut runs = Vec::new();
    for &scenario in scenarios {
        for twin in [false, true] {
            if !twin || scenario.twin.is_some() {
                runs.push(Run {
                    scenario,
                    twin,
                    events: Vec::new(),
                    process: None,
                    orders: None,
                    over: false,
                });
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

/// The last line. Its form in `--json` is a promise.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "summary")]
struct Summary {
    scenarios: usize,
    held: usize,
    not_held: usize,
    skipped: usize,
    refuted: usize,
    not_refuted: usize,
    processes_left: usize,
    seconds: f64,
    seconds_with_build: f64,
    seconds_in_chapter: f64,
}

impl Summary {
    fn new(told: &[Told], left: usize, running: Duration, with_build: Duration) -> Self {
        let verdicts = || told.iter().flat_map(|told| &told.verdicts);
        let count = |twin: bool, good: bool| {
            let is_counted = |v: &&Verdict| match v {
                Verdict::Own { held, .. } => !twin && *held == good,
                Verdict::Twin { refuted, .. } => twin && *refuted == good,
                Verdict::Skipped { .. } => false,
            };
            verdicts().filter(is_counted).count()
        };
        let is_skipped = |v: &&Verdict| matches!(v, Verdict::Skipped { .. });
        let longest = told
            .iter()
            .map(|told| told.scenario.seconds)
            .fold(0.0, f64::max);
        Self {
            scenarios: told.len(),
            held: count(false, true),
            not_held: count(false, false),
            skipped: verdicts().filter(is_skipped).count(),
            refuted: count(true, true),
            not_refuted: count(true, false),
            processes_left: left,
            seconds: running.as_secs_f64(),
            seconds_with_build: with_build.as_secs_f64(),
            seconds_in_chapter: longest,
        }
    }

    fn text(&self, good: bool, place: &str) -> String {
        let Summary {
            held,
            not_held,
            skipped,
            refuted,
            not_refuted,
            processes_left,
            ..
        } = self;
        let mut out = match not_held {
            0 if *held == 0 => "\n".to_owned(),
            0 if *held == 1 => "\nThe claim held. ".to_owned(),
            0 => format!("\nAll {held} claims held. "),
            _ => format!("\n{not_held} of {} claims did NOT hold. ", held + not_held),
        };
        if *skipped > 0 {
            let _ = write!(out, "{skipped} skipped. ");
        }
        let twins = refuted + not_refuted;
        if twins > 0 {
            let _ = write!(
                out,
                "{refuted} of {twins} failed where they must, in the twins. "
            );
        }
        let _ = write!(out, "{processes_left} processes left. ");
        let chapter = self.seconds_in_chapter;
        let _ = write!(
            out,
            "{:.1} s; with the chapter's times, {chapter:.0} s. ",
            self.seconds
        );
        out.push_str(place);
        styled(if good { GOOD } else { BAD }, out.trim_end()) + "\n"
    }
}
