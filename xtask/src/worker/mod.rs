//! One run of a scenario, in a process of its own. It starts the programs from outside as a user does,
//! watches them in /proc, takes snapshots with `ps`, and writes everything down as events on its stdout.
//!
//! This process is a child subreaper: it adopts every orphan of its run. So adoption can be seen, and no
//! process can get away.

pub(crate) mod cleanup;
mod freeze;
mod log;
mod snapshot;
pub(crate) mod start;
pub(crate) mod thread;
mod wait;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::model::clock::Clock;
use crate::model::event::What;
use crate::model::failure::Failure;
use crate::model::process::{Process, Stat};
use crate::probe::procfs;
use crate::worker::log::Log;
use crate::worker::thread::start_thread;

pub(crate) struct Worker {
    log: Arc<Log>,
    /// Where each program is.
    programs: BTreeMap<String, PathBuf>,
    /// The program of the scenario, or of its control, with its arguments.
    program: String,
    args: Vec<String>,
    clock: Clock,
    /// One for each stream of each program; they end with the last process that can write to it.
    readers: Vec<JoinHandle<()>>,
    /// What has been recorded of our descendants, by pid.
    seen: BTreeMap<i32, Stat>,
    /// When a condition that has not come true is given up.
    deadline: Instant,
    /// Whether the worker waits for its children. An adopter that does not is part of some scenarios.
    reaping: bool,
    /// Whether a program has ended with the status of one that cannot do its part here.
    skipped: bool,
    /// Why something in /proc that the scenario needs could not be read. The run then ends.
    unreadable: Option<io::Error>,
    /// For the programs' files, if there are any; removed at the end.
    folder: Option<PathBuf>,
    /// At how many snapshots it has paused, if it pauses at all.
    pauses: Option<usize>,
}

/// What a worker needs for a run.
pub(crate) struct Setup<'a> {
    /// The name of the run.
    pub(crate) run: &'a str,
    pub(crate) programs: BTreeMap<String, PathBuf>,
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(crate) clock: Clock,
    pub(crate) limit: Duration,
    pub(crate) pauses: bool,
}

impl Worker {
    pub(crate) fn new(setup: Setup<'_>) -> io::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true)?;
        let log = Arc::new(Log::new(setup.run));
        let log_of_orders = Arc::clone(&log);
        start_thread(move || log_of_orders.take_orders())?;
        let process = identify(procfs::own_pid(), procfs::look(procfs::own_pid())?);
        log.record(What::Worker { process });
        Ok(Self {
            log,
            programs: setup.programs,
            program: setup.program,
            args: setup.args,
            clock: setup.clock,
            readers: Vec::new(),
            seen: BTreeMap::new(),
            deadline: Instant::now() + setup.limit,
            reaping: true,
            skipped: false,
            unreadable: None,
            folder: None,
            pauses: setup.pauses.then_some(0),
        })
    }

    /// For the times of a second program.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Gives a process its role. If a program has printed the number of a process that is not one of
    /// ours, we must not signal it: it is treated as gone.
    pub(crate) fn found(&mut self, pid: i32, role: &str) -> Process {
        let stat = procfs::look_at_descendant(pid, procfs::own_pid());
        let stat = stat.unwrap_or_else(|error| {
            self.unreadable = Some(error);
            None
        });
        let process = identify(pid, stat);
        self.log.record(What::Found {
            process,
            role: role.to_owned(),
        });
        process
    }

    /// Leaves zombies, also adopted ones, unreaped from now on.
    pub(crate) fn stop_reaping(&mut self) {
        self.reaping = false;
    }

    pub(crate) fn reap_again(&mut self) {
        self.reaping = true;
    }

    pub(crate) fn client(&mut self, number: usize, saw: &str) {
        self.log.record(What::Client {
            number,
            saw: saw.to_owned(),
        });
    }

    /// Records why the run ended, if that was too early; ends every process that is left of it; and
    /// records how many are left then: none, unless one cannot be ended.
    pub(crate) fn end(mut self, result: Result<(), Failure>) {
        match &result {
            Err(Failure::Missed(condition)) if !self.skipped => self.log.record(What::Missed {
                condition: condition.clone(),
            }),
            Err(Failure::Missing(why)) => self.log.record(What::Skipped { why: why.clone() }),
            Err(Failure::Failed(why)) => self.log.record(What::Failed { why: why.clone() }),
            _ => {}
        }
        let left = cleanup::kill_and_reap_all().map_or(0, |left| left.processes);
        let observed = self.observe();
        if let (Err(error), false) = (observed, matches!(result, Err(Failure::Failed(_)))) {
            let why = error.to_string();
            self.log.record(What::Failed { why });
        }
        for reader in self.readers.drain(..) {
            // A process that is left may keep the other end open for as long as it lives.
            if left == 0 || reader.is_finished() {
                let _ = reader.join();
            }
        }
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
        self.log.record(What::End { left });
    }
}

/// A start time of 0 stands for a process that is gone by now.
fn identify(pid: i32, stat: Option<Stat>) -> Process {
    stat.map_or(Process { pid, start_time: 0 }, |stat| stat.process)
}
