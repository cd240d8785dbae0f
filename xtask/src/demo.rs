//! `cargo xtask demo`: runs scenarios, and judges.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::company::Company;
use crate::lesson::Lesson;
use crate::options::Demo;
use crate::outcome::{Failure, cannot_write, clear_up, conclude};
use crate::output::{BAD, GOOD, Output, styled};
use crate::report::Told;
use crate::scenarios::{self, ALL, Scenario};
use crate::verdict::Verdict;
use crate::{programs, recheck, report};

/// Runs what was asked for. Returns the exit code.
pub(crate) fn run(options: &Demo) -> ExitCode {
    let output = if options.is_lesson() {
        Output::dialogue(options.color)
    } else {
        Output::new(options.json, options.color)
    };
    let result = match &options.recheck {
        Some(folder) => judge_again(folder, options, &output),
        None => perform(options, &output),
    };
    output.finish();
    conclude(result)
}

/// Whether everything was as it should be.
fn perform(options: &Demo, output: &Output) -> Result<bool, Failure> {
    let began = Instant::now();
    let scenarios = chosen(&options.scenarios);
    let folder = options.report.clone();
    let folder = folder.unwrap_or_else(|| programs::target_folder().join("demo"));
    if let Some(why) = report::refuses(&folder) {
        return Err(Failure::Refused(why));
    }
    let lesson = Lesson::wanted(options, output)?;
    let mut company = Company::assemble(options.pace.clock(), options.programs.as_deref())?;

    let running = Instant::now();
    let mut written = report::begin(&folder);
    let write = |scenario: &Told| {
        if written.is_ok() {
            written = scenario.write(&folder);
        }
    };
    let told = match lesson {
        Some(lesson) => lesson.give(&mut company, &scenarios, write)?,
        None => company.play(&scenarios, output, write)?,
    };
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
        .text(&summary.text(good, !options.is_lesson(), &place))
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

/// The same for what an earlier run has recorded, which itself stays as it is.
fn judge_again(folder: &Path, options: &Demo, output: &Output) -> Result<bool, Failure> {
    let told = recheck::read(folder, &options.scenarios).map_err(|failure| match failure {
        recheck::Failure::Missing(what) => Failure::Missing(what),
        recheck::Failure::Malformed(what) => Failure::Refused(what),
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
    let left = told.iter().map(Told::left).fold(0, usize::saturating_add);
    let longest = told.iter().map(|told| told.seconds).fold(0.0, f64::max);
    let longest = Duration::from_secs_f64(longest);
    let summary = Summary::new(&told, left, longest, longest);
    output.json(&summary).map_err(cannot_write)?;
    let good = told.iter().all(Told::is_good) && left == 0;
    let source = format!("Judged again from {}.", folder.display());
    output
        .text(&summary.text(good, true, &source))
        .map_err(cannot_write)?;
    // Last, as above.
    let all = recheck::is_about_all(&options.scenarios);
    report::redraw(folder, &told, all).map_err(|error| {
        let folder = folder.display();
        Failure::Output(format!("cannot draw the report again in {folder}: {error}"))
    })?;
    Ok(good)
}

/// As they were asked for; all, in the order of the chapter.
fn chosen(names: &[String]) -> Vec<&'static Scenario> {
    if names.iter().any(|name| name == "all") {
        return ALL.iter().collect();
    }
    let mut chosen: Vec<&Scenario> = Vec::new();
    for scenario in names.iter().filter_map(|name| scenarios::find(name)) {
        if chosen.iter().all(|other| other.name != scenario.name) {
            chosen.push(scenario);
        }
    }
    chosen
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

    /// Without `times`, they are those of somebody who looked, or answered, meanwhile.
    fn text(&self, good: bool, times: bool, place: &str) -> String {
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
                "In the twins, {refuted} of {twins} were refuted, as they must be. "
            );
        }
        let _ = write!(out, "{processes_left} processes left. ");
        if times {
            let (seconds, chapter) = (self.seconds, self.seconds_in_chapter);
            let _ = write!(
                out,
                "{seconds:.1} s; with the chapter's times, {chapter:.0} s. "
            );
        }
        out.push_str(place);
        styled(if good { GOOD } else { BAD }, out.trim_end()) + "\n"
    }
}
