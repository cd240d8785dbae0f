//! Waits for conditions, and records what changes meanwhile.

use std::mem;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgid};

use crate::model::event::{By, SKIPPED, What};
use crate::model::failure::Failure;
use crate::model::process::{Process, Stat, State};
use crate::probe::procfs;
use crate::worker::Worker;
use crate::worker::descendant::{self, Change, Descendant, change, is_readable, open_pidfd};
use crate::worker::pipe::Pipe;

/// The longest time between two looks at /proc, in milliseconds.
const TICK: u8 = 10;

/// After the first piece of news, so that one look serves for all that comes at once.
const MOMENT: Duration = Duration::from_millis(1);

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
            let idle = self.seen.values().all(|known| known.stat.is_zombie())
                && self.pipes.iter().all(|(_, _, pipe)| pipe.is_closed());
            let idle_since = *idle_since.insert(idle_since.filter(|_| idle).unwrap_or(now));
            if now >= deadline || now - idle_since > IDLE_LIMIT || self.skipped {
                return Ok(false);
            }
            self.wait_for_news();
            self.record_if_late(last);
            last = now;
        }
    }

    pub(super) fn tick(&mut self) -> Result<(), Failure> {
        self.resumes += self.orders.read().len();
        if self.orders.is_closed() || self.log.is_broken {
            return Err(Failure::Interrupted);
        }
        let observed = self.observe();
        if matches!(observed, Err(Failure::Missed(_))) {
            self.kill_groups();
        }
        observed?;
        if self.reaping {
            self.reap();
        }
        Ok(())
    }

    /// Ends programs that fork for ever. To kill one process after the other would be too slow: the others
    /// go on forking. The kernel kills a group at once, and a fork meanwhile fails.
    fn kill_groups(&self) {
        let own = self.processes.iter().map(|process| Pid::from_raw(process.pid));
        let groups: Vec<Pid> =
            self.seen.keys().filter_map(|&pid| getpgid(Some(Pid::from_raw(pid))).ok()).collect();
        // A group with a descendant of ours in it, and the number of a program, is that program's: its
        // number cannot be another's meanwhile.
        for group in own.filter(|own| groups.contains(own)) {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    /// Waits for a tick; less if a program writes something, a process ends, or an order comes.
    pub(super) fn wait_for_news(&self) {
        let alive = self.seen.values().filter(|known| !known.stat.is_zombie());
        let pidfds = alive.filter_map(|known| known.pidfd.as_ref()).map(AsFd::as_fd);
        let pipes = self.pipes.iter().map(|(_, _, pipe)| pipe);
        let pipes = pipes.chain([&self.orders]).filter_map(Pipe::fd);
        let fds = pidfds.chain(pipes).map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // If it fails, the next look comes earlier.
        let _ = poll(&mut fds.collect::<Vec<_>>(), PollTimeout::from(TICK));
        thread::sleep(MOMENT);
    }

    /// Records what has changed since the last time, each cause before its effects:
    ///
    /// 1. We look at /proc. 2. We read the lines. A process that had ended by 1 wrote its lines before 2,
    ///    so the lines are recorded before its end. 3. If there are lines, we look again: the process that
    ///    wrote them was born before 2, so births and executed programs are recorded before the lines.
    ///    4. The end of a process that ends after 1 is recorded the next time: more lines may come first.
    pub(super) fn observe(&mut self) -> Result<(), Failure> {
        if let Some(error) = self.unreadable.take() {
            return Err(error.into());
        }
        self.log.since = mem::replace(&mut self.looked, Instant::now());
        let look = descendant::look()?;
        let known = self.seen.values().map(|known| known.stat.process);
        let gone: Vec<_> = known.filter(|process| !procfs::exists(*process)).collect();
        let mut lines = Vec::new();
        for (program, stream, pipe) in &mut self.pipes {
            let (program, stream) = (*program, *stream);
            let texts = pipe.read().into_iter();
            lines.extend(texts.map(|text| What::Line { program, stream, text }));
        }
        self.record_states(look.iter().rev(), Change::Life);
        if !lines.is_empty() {
            self.record_states(descendant::look()?.iter().rev(), Change::Life);
        }
        for line in lines {
            self.log.record_noticed(line, By::Pipe);
        }
        for process in gone {
            self.record_gone(process);
        }
        self.record_states(look.iter(), Change::End);
        self.record_states(look.iter(), Change::Adoption);
        Ok(())
    }

    /// Records the changes of this kind that a look shows.
    fn record_states<'a>(&mut self, look: impl Iterator<Item = &'a Stat>, wanted: Change) {
        for stat in look {
            if change(self.seen.get(&stat.process.pid), stat) == Some(wanted) {
                self.record_state(stat);
            }
        }
    }

    fn record_state(&mut self, stat: &Stat) {
        let process = stat.process;
        let before = self.seen.get(&process.pid).map(|known| known.stat.process);
        if let Some(other) = before.filter(|before| *before != process) {
            self.record_gone(other); // it had the same number
        }
        let known = self.seen.remove(&process.pid);
        let pidfd = known.map_or_else(|| open_pidfd(process), |known| known.pidfd);
        let by = match &pidfd {
            Some(pidfd) if stat.is_zombie() && is_readable(pidfd) => By::Pidfd,
            _ => By::Sample,
        };
        self.log.record_noticed(What::State { raw: stat.clone() }, by);
        self.seen.insert(process.pid, Descendant { stat: stat.clone(), pidfd });
    }

    fn record_gone(&mut self, process: Process) {
        let known = self.seen.get(&process.pid);
        if known.is_some_and(|known| known.stat.process == process) {
            self.seen.remove(&process.pid);
            self.log.record_noticed(What::Gone { process }, By::Sample);
        }
    }

    /// Waits for every child that has ended: the programs, and adopted ones. Not before /proc has shown
    /// it as a zombie, or one that has just been adopted would be gone without a record.
    fn reap(&mut self) {
        let own = procfs::own_pid();
        let ended = |known: &&Descendant| known.stat.is_zombie() && known.stat.ppid == own;
        for Descendant { stat: Stat { process, .. }, pidfd } in self.seen.values().filter(ended) {
            let process = *process;
            let number = Id::Pid(Pid::from_raw(process.pid));
            let child = pidfd.as_ref().map_or(number, |pidfd| Id::PIDFd(pidfd.as_fd()));
            let status = match waitid(child, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
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
        let wanted = self.log.lines.iter().filter(|line| line.starts_with(beginning));
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
