//! Stops the live processes of a run, so that somebody can look at them for as long as they like.
//!
//! SIGSTOP stops a process, but not its sleep: a sleep that is due meanwhile is over as soon as SIGCONT
//! comes.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::model::process::{Process, State};
use crate::probe::procfs;

/// How long a process may take to stop. One that waits for a disk does not stop before it has it.
const LIMIT: Duration = Duration::from_secs(1);

/// The processes that we have stopped; not those that somebody else had stopped before.
pub(super) struct Freeze {
    stopped: Vec<Process>,
}

impl Freeze {
    /// Stops all of these that are alive. One that we may not stop goes on.
    pub(super) fn begin(pids: &[i32]) -> Self {
        let stats = pids.iter().copied().filter_map(procfs::stat);
        let alive = stats.filter(|stat| stat.state() == State::Alive);
        let stop = |process: &Process| kill(Pid::from_raw(process.pid), Signal::SIGSTOP).is_ok();
        let stopped: Vec<Process> = alive.map(|stat| stat.process).filter(stop).collect();
        let deadline = Instant::now() + LIMIT;
        let is_alive = |process: &Process| {
            let stat = procfs::stat(process.pid).filter(|stat| stat.process == *process);
            stat.is_some_and(|stat| stat.state() == State::Alive)
        };
        while stopped.iter().any(is_alive) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        Self { stopped }
    }

    /// Lets them go on.
    pub(super) fn end(self) {
        for process in self.stopped {
            if procfs::exists(process) {
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGCONT);
            }
        }
    }
}
