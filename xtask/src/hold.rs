//! Holds the processes of a run still, so that somebody can look at a moment as long as they like.
//!
//! SIGSTOP stops a process, and not its time: who sleeps sleeps until a point in time, and if that
//! has passed when SIGCONT comes, the sleep is over. Of two that sleep side by side, who was to wake
//! up long before the other would then wake up together with it, and the story would be another. So
//! for a process that is held, what is left of a sleep is kept.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::event::Process;
use crate::procfs;

/// How long a process may take to stop. One that waits for a disk does not until it has it.
const LIMIT: Duration = Duration::from_secs(1);

/// Those that we have stopped, and nobody else before.
pub(crate) struct Hold {
    held: Vec<Process>,
}

impl Hold {
    /// Stops all of these that live. Where that is not allowed, they go on.
    pub(crate) fn on(pids: &[i32]) -> Self {
        let stats = pids.iter().copied().filter_map(procfs::stat);
        let alive = stats.filter(|stat| !matches!(stat.state, 'Z' | 'X' | 'T' | 't'));
        let stop = |process: &Process| kill(Pid::from_raw(process.pid), Signal::SIGSTOP).is_ok();
        let held: Vec<Process> = alive.map(|stat| stat.process).filter(stop).collect();
        let deadline = Instant::now() + LIMIT;
        for process in &held {
            while !is_stopped(*process) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            for tid in threads(*process) {
                // Each by itself: one that waits for a disk may not have stopped with the others.
                if procfs::stat(tid.as_raw()).is_some_and(|stat| stat.state == 'T') {
                    keep_what_is_left_of_a_sleep(tid);
                }
            }
        }
        Self { held }
    }

    /// Lets them go on: also one that does not look stopped right now, being on its way back into
    /// the stop after we have traced it.
    pub(crate) fn release(self) {
        for process in self.held {
            if procfs::state(process).is_some() {
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGCONT);
            }
        }
    }
}

fn is_stopped(process: Process) -> bool {
    matches!(procfs::state(process), Some('T' | 't'))
}

fn threads(process: Process) -> Vec<Pid> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", process.pid)) else {
        return Vec::new();
    };
    let names = tasks.flatten().map(|task| task.file_name());
    let numbers = names.filter_map(|name| name.to_str()?.parse().ok());
    numbers.map(Pid::from_raw).collect()
}

/// A sleep that a stop has interrupted is one of those system calls that the kernel takes up again
/// by itself, until the same point in time as before. Let the thread see EINTR instead, as after a
/// signal with a handler: then `thread::sleep` sleeps for what was left when it was stopped, which
/// the kernel has written down for it (nanosleep(2)).
///
/// The thread must be stopped, or it could not be let go of again; it stays so. Where tracing it is
/// not allowed, and on other machines, its time goes on.
#[cfg(target_arch = "x86_64")]
fn keep_what_is_left_of_a_sleep(tid: Pid) {
    /// The kernel's own note, which no program ever sees: to be taken up again (linux/errno.h).
    const ERESTART_RESTARTBLOCK: i64 = 516;

    if ptrace::seize(tid, ptrace::Options::empty()).is_err() {
        return;
    }
    if let Ok(mut registers) = ptrace::getregs(tid) {
        let call = registers.orig_rax as i64;
        let is_sleep = [nix::libc::SYS_nanosleep, nix::libc::SYS_clock_nanosleep].contains(&call);
        if is_sleep && registers.rax as i64 == -ERESTART_RESTARTBLOCK {
            registers.rax = -i64::from(nix::libc::EINTR) as u64;
            let _ = ptrace::setregs(tid, registers);
        }
    }
    let _ = ptrace::detach(tid, None);
}

#[cfg(not(target_arch = "x86_64"))]
fn keep_what_is_left_of_a_sleep(_tid: Pid) {}
