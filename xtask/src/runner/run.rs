//! One run on its way: of a scenario, or of its control.

use std::io::Write;
use std::process::ChildStdin;
use std::time::Duration;

use reexec::Child;

use crate::model::event::{Event, What};
use crate::runner::job::{ENTRY, run_name};
use crate::scenarios::Scenario;
use crate::verdict;

/// How long runs get to clear up after themselves before they are given up.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(2);

/// The slowest repeat: a user who waits wants to know at last.
const MAX_SLOWNESS: u32 = 4;

pub(super) struct Run {
    pub(super) scenario: &'static Scenario,
    pub(super) control: bool,
    /// Whether it waits at each snapshot for the order to go on.
    pub(super) pauses: bool,
    /// See [`Scenario::command`].
    pub(super) number: Option<u32>,
    /// How many times as slow as the first time it runs.
    pub(super) slowness: u32,
    pub(super) name: String,
    pub(super) events: Vec<Event>,
    /// Dropped, it kills the worker. The processes that the worker has started then come to us.
    pub(super) process: Option<Child>,
    /// Closed, it tells the worker to stop; the kernel closes it, too, if we are killed.
    pub(super) stdin: Option<ChildStdin>,
    pub(super) over: bool,
}

impl Run {
    pub(super) fn new(scenario: &'static Scenario, control: bool, pauses: bool) -> Self {
        Self {
            scenario,
            control,
            pauses,
            number: None,
            slowness: 1,
            name: run_name(scenario.name, control),
            events: Vec::new(),
            process: None,
            stdin: None,
            over: false,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub(super) fn stop(&mut self) {
        self.stdin = None;
    }

    pub(super) fn resume(&mut self) {
        if let Some(stdin) = &mut self.stdin {
            // If that fails, it has ended, and we are about to learn that.
            let _ = stdin.write_all(b"\n");
        }
    }

    /// Forgets a run that is over if the machine was too slow for it, so that it is run again, more
    /// slowly.
    pub(super) fn repeat_if_too_slow(&mut self) {
        if self.slowness < MAX_SLOWNESS
            && verdict::was_too_slow(self.scenario, self.control, &self.events)
        {
            self.events.clear();
            self.slowness *= 2;
            self.over = false;
        }
    }

    /// Waits for the worker, whose stdout has ended. Returns the event that it should have written and
    /// could not, if any.
    pub(super) fn finish(&mut self) -> Option<&Event> {
        self.stop();
        self.over = true;
        let status = self.process.take()?.wait_timeout(STOP_LIMIT);
        let last = self.events.last();
        if last.is_some_and(|event| matches!(event.what, What::End { .. })) {
            return None;
        }
        let status = status.ok().flatten();
        let status = status.map_or("it goes on".to_owned(), |status| status.to_string());
        let why = format!("its own process, {ENTRY}, has not come to the end: {status}");
        let t = last.map_or(0.0, |event| event.t);
        let failed = Event::new(&self.name, t, What::Failed { why });
        self.events.push(failed);
        self.events.last()
    }
}
