//! Stops the live processes of a run, so that somebody can look at them for as long as they like.
//!
//! SIGSTOP stops a process, but not its sleep: a sleep that is due meanwhile is over as soon as SIGCONT
//! comes.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::model::process::{Process, Stat, State};
use crate::probe::procfs;

/// How long a process may take to stop. One that waits for a disk does not stop before it has it.
const LIMIT: Duration = Duration::from_secs(1);

/// Stops all of these that are alive. One that we may not stop goes on. Returns those that we have stopped;
/// not those that somebody else had stopped before.
pub(super) fn stop(pids: &[i32]) -> Vec<Process> {
    let is_alive = |stat: &Stat| stat.state() == State::Alive;
    let stats = pids.iter().copied().filter_map(procfs::stat);
    let alive = stats.filter(is_alive).map(|stat| stat.process);
    let stop = |process: &Process| kill(Pid::from_raw(process.pid), Signal::SIGSTOP).is_ok();
    let stopped: Vec<Process> = alive.filter(stop).collect();
    let deadline = Instant::now() + LIMIT;
    let goes_on = |process: &Process| {
        procfs::stat(process.pid).is_some_and(|it| it.process == *process && is_alive(&it))
    };
    while stopped.iter().any(goes_on) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    stopped
}

/// Lets these go on.
pub(super) fn resume(stopped: Vec<Process>) {
    for process in stopped.into_iter().filter(|process| procfs::exists(*process)) {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGCONT);
    }
}
