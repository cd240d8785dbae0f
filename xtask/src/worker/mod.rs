//! One run of a scenario, in a process of its own. It starts the programs from outside as a user does,
//! watches them in /proc, takes snapshots with `ps`, and writes everything down as events on its stdout.
//!
//! This process is a child subreaper: it adopts every orphan of its run. So adoption can be seen, and no
//! process can get away.

pub(crate) mod cleanup;
pub(crate) mod descendant;
mod freeze;
mod log;
mod pipe;
mod snapshot;
mod start;
pub(crate) mod thread;
mod wait;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use crate::model::clock::Clock;
use crate::model::event::{Stream, What};
use crate::model::failure::Failure;
use crate::model::process::{Process, Stat};
use crate::probe::procfs;
use crate::worker::descendant::Descendant;
use crate::worker::log::Log;
use crate::worker::pipe::Pipe;

/// As short as a sleep of the chapter is, apart from none.
const SHORT_SLEEP: Duration = Duration::from_secs(3);

pub(crate) struct Worker {
    log: Log,
    /// Our stdin: a line means "go on", the end means "stop". The end comes also when xtask is killed.
    orders: Pipe,
    /// How many orders to go on there were.
    resumes: usize,
    /// Where each program is.
    programs: BTreeMap<String, OsString>,
    /// The command line of the scenario, or of its control.
    command: String,
    clock: Clock,
    /// How many times as long as usual a process is given to do something.
    patience: u32,
    /// The longest that a look has taken, if that was too long.
    latest: Option<Duration>,
    /// The processes of the run, in the order in which they were started or found.
    processes: Vec<Process>,
    /// The stdin of programs that were started with one.
    stdins: BTreeMap<i32, ChildStdin>,
    /// The stdout and stderr of each program, which its children inherit.
    pipes: Vec<(Process, Stream, Pipe)>,
    /// Our descendants, by pid.
    seen: BTreeMap<i32, Descendant>,
    /// When the last look at them began.
    looked: Instant,
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
    /// Whether it pauses at snapshots.
    pauses: bool,
}

impl Worker {
    /// The worker for a run of this name, which is given up after `limit`, and may pause at snapshots.
    pub(crate) fn new(
        run: &str,
        programs: BTreeMap<String, OsString>,
        command: String,
        (clock, patience): (Clock, u32),
        limit: Duration,
        pauses: bool,
    ) -> io::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true)?;
        let mut log = Log::new(run);
        let process = identify(procfs::own_pid(), procfs::look(procfs::own_pid())?);
        log.record(What::Worker { process });
        Ok(Self {
            log,
            orders: Pipe::new(io::stdin().as_fd().try_clone_to_owned()?)?,
            resumes: 0,
            programs,
            command,
            clock,
            patience,
            latest: None,
            processes: Vec::new(),
            stdins: BTreeMap::new(),
            pipes: Vec::new(),
            seen: BTreeMap::new(),
            looked: Instant::now(),
            deadline: Instant::now() + limit,
            reaping: true,
            skipped: false,
            unreadable: None,
            folder: None,
            pauses,
        })
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
        self.add(process);
        let role = role.to_owned();
        self.log.record(What::Found { process, role });
        process
    }

    /// Gives the children that a process has a role each, with their numbers in it.
    pub(crate) fn children(&mut self, parent: Process, role: &str) -> io::Result<Vec<Process>> {
        let pids = (1..).zip(procfs::children(parent.pid)?);
        Ok(pids.map(|(number, pid)| self.found(pid, &format!("{role} {number}"))).collect())
    }

    fn add(&mut self, process: Process) {
        if !self.processes.contains(&process) {
            self.processes.push(process);
        }
    }

    /// Records that a look which was due at `began` has come too late, if it took longer than
    /// `SHORT_SLEEP`. Records only the latest one of several.
    fn record_if_late(&mut self, began: Instant) {
        let took = began.elapsed();
        let limit = SHORT_SLEEP.div_f64(self.clock.speed);
        if took > self.latest.unwrap_or(limit) {
            self.latest = Some(took);
            let (seconds, speed) = (took.as_secs_f64(), self.clock.speed);
            self.log.record(What::Late { seconds, speed });
        }
    }

    /// Leaves zombies, also adopted ones, unreaped from now on.
    pub(crate) fn stop_reaping(&mut self) {
        self.reaping = false;
    }

    pub(crate) fn reap_again(&mut self) {
        self.reaping = true;
    }

    pub(crate) fn client(&mut self, number: usize, saw: &str) {
        self.log.record(What::Client { number, saw: saw.to_owned() });
    }

    /// Records why the run ended, if that was too early; ends every process that is left of it; and
    /// records how many are left then: none, unless one cannot be ended.
    pub(crate) fn end(mut self, result: Result<(), Failure>) {
        match &result {
            Err(Failure::Missed(condition)) if !self.skipped => {
                self.log.record(What::Missed { condition: condition.clone() })
            }
            Err(Failure::Missing(why)) => self.log.record(What::Skipped { why: why.clone() }),
            Err(Failure::Failed(why)) => self.log.record(What::Failed { why: why.clone() }),
            _ => {}
        }
        let left = cleanup::kill_and_reap_all().map_or(0, |left| left.processes);
        let observed = self.observe();
        if let (Err(error), false) = (observed, matches!(result, Err(Failure::Failed(_)))) {
            self.log.record(What::Failed { why: error.sentence() });
        }
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir_all(folder);
        }
        self.log.record(What::End { left });
    }
}

/// A start time of 0 stands for a process that is gone by now.
fn identify(pid: i32, stat: Option<Stat>) -> Process {
    stat.map_or(Process::new(pid, 0), |stat| stat.process)
}
