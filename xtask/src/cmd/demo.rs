//! `cargo xtask demo`: runs scenarios, and judges.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use crate::cmd::practice::Practice;
use crate::cmd::{Running, clear_up};
use crate::model::event::{Event, What};
use crate::model::failure::Failure;
use crate::runner::{RunEvent, programs, recording};
use crate::scenarios::{self, Scenario};
use crate::verdict::result::{Counts, ScenarioResult};
use crate::view::output::{self, BAD, GOOD, Output, styled};
use crate::view::{files, text};

#[derive(Args)]
pub(crate) struct Demo {
    /// Which scenarios; `cargo xtask list` describes them
    #[arg(required_unless_present = "recheck", value_name = "SCENARIO", value_parser = scenario_names())]
    pub(crate) scenarios: Vec<String>,

    #[command(flatten)]
    pub(crate) running: Running,

    /// Pause at each snapshot: print numbers and commands to paste into another terminal, and go on
    /// at Enter; needs a terminal
    ///
    /// One scenario after another. Live processes are stopped (SIGSTOP) until then. At the end of
    /// input, it goes on without pausing; at q, it ends as at Ctrl-C.
    #[arg(long, conflicts_with_all = ["json", "recheck"])]
    pub(crate) pause: bool,

    /// Ask at each snapshot what ps shows, before showing it: states, a parent, how many zombies. Explain
    /// wrong answers, and keep score; q quits; needs a terminal
    #[arg(long, conflicts_with_all = ["json", "recheck"])]
    pub(crate) predict: bool,

    /// Print events and verdicts as NDJSON on stdout; text for people goes to stderr
    #[arg(long)]
    pub(crate) json: bool,

    /// Where to write the report, with a folder for each scenario: a new or empty folder, or that of
    /// an earlier report, whose page and folders of these scenarios are replaced; by default demo in
    /// cargo's target folder for all scenarios, demo-part for some, or with --pause or --predict. A
    /// run that does not come to its end replaces nothing
    #[arg(long, value_name = "DIR", display_order = 21)]
    pub(crate) report: Option<PathBuf>,

    /// Run nothing: judge again what an earlier run has recorded in this folder, and draw its
    /// timelines again; and its page, if no scenario is named
    #[arg(long, value_name = "DIR", display_order = 22,
          conflicts_with_all = ["speed", "real_time", "report", "programs"])]
    pub(crate) recheck: Option<PathBuf>,
}

impl Demo {
    /// Whether a user pauses it, or answers questions, while it runs.
    fn is_practice(&self) -> bool {
        self.pause || self.predict
    }

    /// The folder for the report. What is only a part must not take the place of the whole.
    fn report_folder(&self) -> PathBuf {
        let name = match recording::is_about_all(&self.scenarios) && !self.is_practice() {
            true => "demo",
            false => "demo-part",
        };
        let default = || programs::target_folder_or_default().join(name);
        self.report.clone().unwrap_or_else(default)
    }
}

fn scenario_names() -> PossibleValuesParser {
    let names = scenarios::all().map(|scenario| scenario.name);
    PossibleValuesParser::new(["all"].into_iter().chain(names))
}

/// Runs the scenarios, or judges recordings. Returns whether everything was as it should be.
pub(crate) fn run(options: &Demo) -> Result<bool, Failure> {
    output::choose_color(options.running.color);
    let output = match options.is_practice() {
        true => Output::dialogue(),
        false => Output::new(options.json),
    };
    let result = match &options.recheck {
        Some(folder) => recheck(folder, options, &output),
        None => demo(options, &output),
    };
    output.finish();
    result
}

fn demo(options: &Demo, output: &Output) -> Result<bool, Failure> {
    let began = Instant::now();
    let scenarios = chosen(&options.scenarios);
    let folder = options.report_folder();
    if let Some(why) = files::refuses(&folder) {
        return Err(Failure::Refused(why));
    }
    let practice = match options.is_practice() {
        true => Some(Practice::new(options.pause, options.predict, output)?),
        false => None,
    };
    let runner = options.running.runner()?;

    let running = Instant::now();
    let results = match practice {
        Some(practice) => practice.run(&runner, &scenarios)?,
        None => runner.run_all(&scenarios, &mut |event| show(event, output).map(|()| false))?,
    };
    // Not before: a run that is broken off must leave an earlier report as it is.
    let written = files::write_report(&folder, &results);

    let place = match &written {
        Ok(()) => format!("The report is {}.", folder.join(files::INDEX).display()),
        Err(_) => String::new(),
    };
    let times = (!options.is_practice()).then(|| (running.elapsed(), began.elapsed()));
    let good = conclude(&results, clear_up(), times, &place, output)?;
    // Last: the verdicts are worth printing though the report cannot be written.
    written.map_err(|error| {
        Failure::Output(format!(
            "cannot write the report to {}: {error}; --report takes another folder",
            folder.display()
        ))
    })?;
    Ok(good)
}

/// Prints what the runner reports.
fn show(event: &RunEvent<'_>, output: &Output) -> Result<(), Failure> {
    match event {
        RunEvent::Starting(run) => output.event(&format!("{run}: starting")),
        RunEvent::Event(event) => {
            output.json(event)?;
            if let Some(line) = progress(event) {
                output.event(&line);
            }
        }
        RunEvent::Result(result) => {
            for verdict in &result.verdicts {
                output.json(verdict)?;
            }
            output.text(&text::whole(result, output.columns()))?;
        }
        RunEvent::Progress { over, all, running } => {
            let running = running.join(", ");
            output.status(format!("{over} of {all} runs over; running {running}"));
        }
        RunEvent::Typed(_) => {}
    }
    Ok(())
}

/// A line for some of the events, where there is no status line.
fn progress(event: &Event) -> Option<String> {
    let what = match &event.what {
        What::Start { command, .. } => format!("$ {command}"),
        What::Snapshot(snapshot) => format!("ps: {}", snapshot.title),
        What::End { .. } => "over".to_owned(),
        _ => return None,
    };
    Some(format!("{}: {:.3} s: {what}", event.scenario, event.t))
}

/// Judges what an earlier run has recorded, which itself stays as it is.
fn recheck(folder: &Path, options: &Demo, output: &Output) -> Result<bool, Failure> {
    let results = recording::read(folder, &options.scenarios)?;
    for verdict in results.iter().flat_map(|result| &result.verdicts) {
        output.json(verdict)?;
    }
    for result in results.iter().filter(|result| !result.is_good()) {
        output.text(&text::whole(result, output.columns()))?;
    }
    let left = results.iter().map(ScenarioResult::left);
    let left = left.fold(0, usize::saturating_add);
    let seconds = results.iter().map(|result| result.seconds);
    let longest = Duration::from_secs_f64(seconds.fold(0.0, f64::max));
    let source = format!("Judged again from {}.", folder.display());
    let good = conclude(&results, left, Some((longest, longest)), &source, output)?;
    // Last, as above.
    let all = recording::is_about_all(&options.scenarios);
    files::redraw(folder, &results, all).map_err(|error| {
        let folder = folder.display();
        Failure::Output(format!("cannot draw the report again in {folder}: {error}"))
    })?;
    Ok(good)
}

/// Prints the table and the summary; with the times of the runs, without and with the build. Returns
/// whether everything was as it should be.
fn conclude(
    results: &[ScenarioResult],
    left: usize,
    times: Option<(Duration, Duration)>,
    place: &str,
    output: &Output,
) -> Result<bool, Failure> {
    output.text(&text::table(results))?;
    let good = results.iter().all(ScenarioResult::is_good) && left == 0;
    let in_chapter = results.iter().map(|result| result.scenario.seconds);
    let (seconds, with_build) = times.unwrap_or_default();
    let summary = Summary {
        scenarios: results.len(),
        counts: Counts::of(results),
        processes_left: left,
        seconds: seconds.as_secs_f64(),
        seconds_with_build: with_build.as_secs_f64(),
        seconds_in_chapter: in_chapter.fold(0.0, f64::max),
    };
    output.json(&summary)?;
    output.text(&summary.text(good, times.is_some(), place))?;
    Ok(good)
}

/// The scenarios of these names, each once; with `all`, in the order of the chapter.
fn chosen(names: &[String]) -> Vec<&'static Scenario> {
    if names.iter().any(|name| name == "all") {
        return scenarios::all().collect();
    }
    let mut chosen: Vec<&Scenario> = Vec::new();
    for scenario in names.iter().filter_map(|name| scenarios::find(name)) {
        if chosen.iter().all(|other| other.name != scenario.name) {
            chosen.push(scenario);
        }
    }
    chosen
}

/// The last line. `--json` prints it in this form.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "summary")]
struct Summary {
    scenarios: usize,
    #[serde(flatten)]
    counts: Counts,
    processes_left: usize,
    seconds: f64,
    seconds_with_build: f64,
    seconds_in_chapter: f64,
}

impl Summary {
    /// Without `times`, as they would include the time in which somebody looked, or answered.
    fn text(&self, good: bool, times: bool, place: &str) -> String {
        let Counts { held, not_held, skipped, controls_failed, controls_not_failed } = self.counts;
        let mut out = match not_held {
            0 if held == 0 => "\n".to_owned(),
            0 if held == 1 => "\nThe claim held. ".to_owned(),
            0 => format!("\nAll {held} claims held. "),
            _ => format!("\n{not_held} of {} claims did NOT hold. ", held + not_held),
        };
        if skipped > 0 {
            let _ = write!(out, "{skipped} skipped. ");
        }
        let controls = controls_failed + controls_not_failed;
        if controls > 0 {
            let failed = format!("{controls_failed} of {controls} failed as expected");
            let _ = write!(out, "In the controls, {failed}. ");
        }
        let _ = write!(out, "{} processes left. ", self.processes_left);
        if times {
            let (seconds, chapter) = (self.seconds, self.seconds_in_chapter);
            let _ = write!(out, "{seconds:.1} s; with the chapter's times, {chapter:.0} s. ");
        }
        out.push_str(place);
        styled(if good { GOOD } else { BAD }, out.trim_end()) + "\n"
    }
}
