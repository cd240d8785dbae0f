//! The processes of a server, as seen from outside: how many there are, their descriptors, their
//! memory and their processor time; and the end of all of them.

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::time::ClockId;
use nix::unistd::Pid;
use test_support::{Stat, processes, stat, state, stats};

use crate::programs::Linking;

/// How many processes there are, and what they hold.
#[derive(Clone, Copy, Default, PartialEq)]
pub(crate) struct Census {
    pub(crate) processes: usize,
    pub(crate) zombies: usize,
    pub(crate) descriptors: usize,
}

impl Census {
    /// Counts these processes. Those that have ended meanwhile have no descriptors.
    pub(crate) fn of(stats: &[Stat]) -> Self {
        let zombies = stats.iter().filter(|stat| stat.state == 'Z').count();
        let descriptors = stats.iter().map(|stat| descriptors(stat.pid));
        Self { processes: stats.len() - zombies, zombies, descriptors: descriptors.sum() }
    }
}

fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Returns every process that descends from this one.
pub(crate) fn descendants() -> Vec<Stat> {
    descendants_of(Pid::this())
}

/// Returns the process and its descendants.
pub(crate) fn tree(pid: Pid) -> Vec<Stat> {
    let mut tree = descendants_of(pid);
    tree.extend(stat(pid));
    tree
}

fn descendants_of(pid: Pid) -> Vec<Stat> {
    let mut by_parent: HashMap<Pid, Vec<Stat>> = HashMap::new();
    for stat in stats() {
        by_parent.entry(stat.parent).or_default().push(stat);
    }
    let mut found = by_parent.remove(&pid).unwrap_or_default();
    let mut next = 0;
    while let Some(stat) = found.get(next) {
        found.extend(by_parent.remove(&stat.pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// The memory of these processes, in KiB: their proportional set sizes, where a page that several
/// share counts as one. It does not include what the kernel needs for them.
pub(crate) fn memory_kib(stats: &[Stat]) -> Result<u64, String> {
    let mut sum = 0;
    for Stat { pid, .. } in stats {
        let file = format!("/proc/{pid}/smaps_rollup");
        match fs::read_to_string(&file) {
            Ok(text) => {
                sum += pss_kib(&text).ok_or_else(|| format!("there is no Pss in {file}"))?;
            }
            // It has ended meanwhile, or is a zombie.
            Err(_) if state(*pid).is_none_or(|state| state == 'Z') => {}
            Err(error) => return Err(format!("cannot read {file}: {error}")),
        }
    }
    Ok(sum)
}

fn pss_kib(rollup: &str) -> Option<u64> {
    let value = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

/// The processor time of these processes, and of all children that they have reaped: user and system
/// time.
///
/// For a process that is there, also as a zombie, it is exact. For reaped children, the kernel shows the
/// sums in each parent in steps of 10 ms. The children of a process that ignores SIGCHLD would be
/// missing; no server here ignores it.
pub(crate) fn processor_time(stats: &[Stat]) -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let of = |Stat { pid, ticks, ticks_of_children, .. }: &Stat| {
        let clock = ClockId::pid_cpu_clock_id(*pid).and_then(ClockId::now);
        let own = clock.map_or(TICK * *ticks as u32, Duration::from); // it may have ended meanwhile
        own + TICK * *ticks_of_children as u32
    };
    stats.iter().map(of).sum()
}

/// How the program of a process is linked: a dynamic one has mapped its loader, `ld-linux` or
/// `ld-musl`. `None` if the process is gone.
pub(crate) fn linking(pid: Pid) -> Option<Linking> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut files = maps.lines().filter_map(|line| line.rsplit_once('/'));
    let has_loader = files.any(|(_, file)| file.starts_with("ld-"));
    Some(if has_loader { Linking::Dynamic } else { Linking::Static })
}

/// Kills and reaps every descendant of this process, which must be a child subreaper.
///
/// We kill only children of our own, whose numbers nobody else can get before we reap them. We adopt
/// their children, and kill those in the next round. After a while without a child that ends we give up:
/// xtask tells of those that are left.
pub(crate) fn kill_and_reap_all() {
    const ENDS_WITHIN: Duration = Duration::from_millis(1_500);
    let mut deadline = Instant::now() + ENDS_WITHIN;
    while Instant::now() < deadline {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(status) if status.pid().is_some() => deadline = Instant::now() + ENDS_WITHIN,
            Err(Errno::EINTR) => {}
            Err(_) => return, // there is no child
            Ok(_) => {
                for child in processes(|stat| stat.parent == Pid::this()) {
                    let _ = kill(child, Signal::SIGKILL);
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use test_support::{Program, wait_until};

    use super::*;

    #[test]
    fn processor_time_includes_running_reaped_and_unreaped_processes() {
        const MUCH: Duration = Duration::from_millis(100);
        const ROUNDED: Duration = Duration::from_millis(80);
        let mut shell = Command::new("sh");
        let shell = Program::start(shell.args(["-c", "(while :; do :; done); exec sleep 1000"]));
        let time = || processor_time(&tree(shell.pid()));
        wait_until("the child has run", time, |time| *time > MUCH);
        for child in shell.children() {
            kill(child, Signal::SIGKILL).unwrap();
        }
        let has_become_sleep = |stat: &Option<Stat>| stat.as_ref().unwrap().name == "sleep";
        wait_until("the child is reaped", || stat(shell.pid()), has_become_sleep);
        assert!(time() > ROUNDED, "{:?}", time());
        shell.signal(Signal::SIGKILL);
        wait_until("the shell is a zombie", || state(shell.pid()), |state| *state == Some('Z'));
        assert!(time() > ROUNDED, "{:?}", time());
    }

    #[test]
    fn linking_is_seen() {
        assert_eq!(linking(Pid::this()), Some(Linking::Dynamic));
    }

    #[test]
    fn the_memory_of_a_process_is_found() {
        let rollup =
            "55f0-7ffd ---p 0 00:00 0 [rollup]\nRss:  952 kB\nPss:  123 kB\nPss_Dirty: 4 kB\n";
        assert_eq!(pss_kib(rollup), Some(123));
        assert_eq!(pss_kib(""), None);
    }
}
