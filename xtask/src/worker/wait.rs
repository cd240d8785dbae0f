//! Waits for conditions, and records what changes in /proc meanwhile.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::model::event::{SKIPPED, What};
use crate::model::failure::Failure;
use crate::model::process::{Process, Stat, State};
use crate::probe::procfs;
use crate::worker::Worker;

/// Between two looks at /proc.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Plenty for a parent that waits. One that does not has its zombie for seconds.
const TIME_TO_REAP: Duration = Duration::from_millis(500);

/// How long nothing may be left that could change before a condition is given up.
const IDLE_LIMIT: Duration = Duration::from_secs(1);

impl Worker {
    /// Waits until `condition` is true. The run cannot go on without it.
    pub(crate) fn until(
        &mut self,
        condition: &str,
        is_true: impl FnMut(&mut Worker) -> bool,
    ) -> Result<(), Failure> {
        match self.watch(self.deadline, is_true)? {
            true => Ok(()),
            false => Err(Failure::Missed(condition.to_owned())),
        }
    }

    /// Waits until `is_true`, but not for long: where it does not come true, that is what the run shows.
    pub(crate) fn give_time(
        &mut self,
        limit: Duration,
        is_true: impl FnMut(&mut Worker) -> bool,
    ) -> Result<(), Failure> {
        self.watch(Instant::now() + limit * self.patience, is_true).map(drop)
    }

    /// Looks until `is_true`, the deadline, or until nothing can change any more: every process has
    /// ended and all they wrote has been read, some time ago.
    fn watch(
        &mut self,
        deadline: Instant,
        mut is_true: impl FnMut(&mut Worker) -> bool,
    ) -> Result<bool, Failure> {
        let mut idle_since = None;
        let mut last = Instant::now();
        loop {
            self.tick()?;
            let is_true = is_true(self);
            if let Some(error) = self.unreadable.take() {
                return Err(error.into());
            }
            if is_true {
                return Ok(true);
            }
            let now = Instant::now();
            let idle = self.seen.values().all(Stat::is_zombie)
                && self.readers.iter().all(JoinHandle::is_finished);
            let idle_since = *idle_since.insert(idle_since.filter(|_| idle).unwrap_or(now));
            if now >= deadline || now - idle_since > IDLE_LIMIT || self.skipped {
                return Ok(false);
            }
            thread::sleep(TICK);
            self.record_if_late(last);
            last = now;
        }
    }

    pub(super) fn tick(&mut self) -> Result<(), Failure> {
        if self.log.is_stopped() {
            return Err(Failure::Interrupted);
        }
        self.observe()?;
        if self.reaping {
            self.reap();
        }
        Ok(())
    }

    /// Records what has changed in /proc since the last time.
    pub(super) fn observe(&mut self) -> io::Result<()> {
        if let Some(error) = self.unreadable.take() {
            return Err(error);
        }
        // First: a child that is gone was gone before its parent ended, and not after.
        let mut gone = Vec::new();
        for (pid, known) in &self.seen {
            let now = procfs::look(*pid)?;
            if now.is_none_or(|now| now.process != known.process) {
                gone.push(*pid); // also if its number is another's by now
            }
        }
        for stat in gone.iter().filter_map(|pid| self.seen.remove(pid)) {
            let process = stat.process;
            self.log.record(What::Gone { process });
        }
        for pid in procfs::descendants(procfs::own_pid())? {
            let Some(stat) = procfs::look(pid)? else {
                continue;
            };
            let known = self.seen.get(&stat.process.pid);
            if known.is_none_or(|known| has_changed(known, &stat)) {
                self.log.record(What::State { raw: stat.clone() });
                self.seen.insert(stat.process.pid, stat);
            }
        }
        Ok(())
    }

    /// Waits for every child that has ended: the programs, and adopted ones. Not before /proc has shown
    /// it as a zombie, or one that has just been adopted would be gone without a record.
    fn reap(&mut self) {
        let own = procfs::own_pid();
        let ended = |stat: &&Stat| stat.is_zombie() && stat.ppid == own;
        let ended = self.seen.values().filter(ended);
        for process in ended.map(|stat| stat.process) {
            let pid = Pid::from_raw(process.pid);
            let status = match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => format!("exit status: {code}"),
                Ok(WaitStatus::Signaled(_, signal, _)) => format!("signal: {signal}"),
                _ => continue,
            };
            self.skipped |= status == SKIPPED;
            self.log.record(What::Reaped { process, status });
        }
    }

    /// What /proc says of a process; `None` once it is gone, also if its number is another's by now.
    pub(crate) fn stat(&mut self, process: Process) -> Option<Stat> {
        match procfs::look(process.pid) {
            Ok(stat) => stat.filter(|stat| stat.process == process),
            Err(error) => {
                self.unreadable = Some(error); // it is not gone: the run ends with this error
                None
            }
        }
    }

    pub(crate) fn state(&mut self, process: Process) -> Option<State> {
        self.stat(process).map(|stat| stat.state())
    }

    pub(crate) fn is_asleep(&mut self, process: Process) -> bool {
        self.stat(process).is_some_and(|stat| stat.is_asleep())
    }

    /// Whether it is a zombie, or gone.
    pub(crate) fn has_ended(&mut self, process: Process) -> bool {
        matches!(self.state(process), None | Some(State::Zombie))
    }

    pub(crate) fn is_gone(&mut self, process: Process) -> bool {
        self.state(process).is_none()
    }

    /// Waits until this process is gone from the process table.
    pub(crate) fn until_gone(&mut self, process: Process) -> Result<(), Failure> {
        let condition = format!("process {} is gone", process.pid);
        self.until(&condition, |worker| worker.is_gone(process))
    }

    /// Waits until this process has ended, and then for a moment in which a parent that reaps gets
    /// around to it.
    pub(crate) fn until_ended(&mut self, process: Process) -> Result<(), Failure> {
        let condition = format!("process {} has ended", process.pid);
        self.until(&condition, |worker| worker.has_ended(process))?;
        self.give_time(TIME_TO_REAP, |worker| worker.is_gone(process))
    }

    /// Waits until this process has ended, and somebody has still to wait for it.
    pub(crate) fn until_zombie(&mut self, process: Process) -> Result<(), Failure> {
        let condition = format!("process {} is a zombie", process.pid);
        self.until(&condition, |worker| worker.state(process) == Some(State::Zombie))
    }

    /// Waits until this process sleeps, or has ended: it has then done what it was to do. On a
    /// busy processor that may take a while.
    pub(crate) fn until_settled(&mut self, process: Process) -> Result<(), Failure> {
        let condition = format!("process {} sleeps, or has ended", process.pid);
        self.until(&condition, |worker| worker.is_asleep(process) || worker.has_ended(process))
    }

    /// Waits for a line on stdout that begins like this.
    pub(crate) fn line(&mut self, beginning: &str) -> Result<String, Failure> {
        let condition = format!("the line {beginning:?} is printed");
        self.until(&condition, |worker| !worker.lines(beginning).is_empty())?;
        let line = self.lines(beginning).into_iter().next();
        line.ok_or(Failure::Missed(condition))
    }

    /// Waits until so many lines on stdout begin like this.
    pub(crate) fn until_lines(&mut self, count: usize, beginning: &str) -> Result<(), Failure> {
        let condition = format!("{count} lines {beginning:?} are printed");
        self.until(&condition, |worker| worker.lines(beginning).len() >= count)
    }

    /// The lines on stdout so far that begin like this.
    pub(crate) fn lines(&self, beginning: &str) -> Vec<String> {
        let lines = self.log.lines();
        let wanted = lines.iter().filter(|line| line.starts_with(beginning));
        wanted.cloned().collect()
    }

    /// Waits for a line on stdout that begins like this, and ends with the number of a process.
    pub(crate) fn process_in_line(
        &mut self,
        beginning: &str,
        role: &str,
    ) -> Result<Process, Failure> {
        let line = self.line(beginning)?;
        let pid = line.trim_start_matches(beginning).parse();
        let pid = pid.map_err(|_| Failure::Failed(format!("no process number in {line:?}")))?;
        Ok(self.found(pid, role))
    }

    /// Waits for the child that prints its number, as the chapter's children do.
    pub(crate) fn child(&mut self) -> Result<Process, Failure> {
        self.process_in_line("My pid is: ", "child")
    }

    /// Waits for a child that has executed its program: not the copy of its parent that it is at first,
    /// nor `exe`, which is the name that /proc/self/exe gives it for an instant.
    pub(crate) fn child_of(&mut self, parent: Process, role: &str) -> Result<Process, Failure> {
        let condition = format!("the {role} is there");
        let mut child = None;
        self.until(&condition, |_| {
            let parent_name = procfs::stat(parent.pid).map(|stat| stat.name);
            let children = procfs::children(parent.pid).unwrap_or_default();
            child = children.into_iter().find(|&child| {
                procfs::stat(child).is_some_and(|s| s.name != "exe" && Some(s.name) != parent_name)
            });
            child.is_some()
        })?;
        let child = child.ok_or(Failure::Missed(condition))?;
        Ok(self.found(child, role))
    }
}

/// Whether there is something to record. Falling asleep or waking up is not; stopping, ending, a new
/// parent, name or program, and that it ignores SIGCHLD from now on, are.
fn has_changed(known: &Stat, now: &Stat) -> bool {
    known.process != now.process
        || known.state() != now.state()
        || known.ppid != now.ppid
        || known.name != now.name
        || known.stack != now.stack
        || known.ignores_sigchld != now.ignores_sigchld
}
