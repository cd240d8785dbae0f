//! Kills every descendant of this process, which must be a subreaper, until none is left.
//!
//! No other process is ever killed. A child of ours keeps its number until it is reaped. Any other
//! descendant is killed by a pidfd that was checked after it was opened; see [`Process::child_of`].
//!
//! We kill a process first, and list its children then: it cannot fork any more, so the list is
//! complete. In the other order, it could make another child between the two. A descendant that
//! loses its parent meanwhile becomes our child, and the next round finds it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::sys::{self, End, ForkSpec, Forked, WaitTarget};

/// The largest number that a process can have: `PID_MAX_LIMIT` of the kernel.
const LAST_PID: i32 = 4 * 1024 * 1024;

/// How many children are reaped before anything else is done.
const REAP_BATCH: u32 = 1000;

/// What is left after [`reap_some`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// No child; or the kernel refuses to wait.
    Nothing,
    Children,
    /// Children, of which more may have ended.
    Ended,
}

/// Reaps children that have ended, and keeps in `end` how `program` has ended.
///
/// It reaps no more than [`REAP_BATCH`] at once: processes that fork and exit make new ones as fast as
/// we reap them, and we would never do anything else.
pub(crate) fn reap_some(program: i32, end: &mut Option<End>) -> Left {
    for _ in 0..REAP_BATCH {
        match sys::try_reap_any(|_| ()) {
            Ok(Some(child)) if child.pid == program && end.is_none() => *end = Some(child),
            Ok(Some(_)) => {}
            Ok(None) => return Left::Children,
            Err(_) => return Left::Nothing,
        }
    }
    Left::Ended
}

/// Kills and reaps all descendants, keeps in `end` how `program` has ended, and calls `pause` to wait
/// for the end of killed ones.
///
/// It returns when this process has no child any more, or when the kernel refuses to wait.
pub(crate) fn kill_descendants(program: i32, end: &mut Option<End>, mut pause: impl FnMut()) {
    let mut left = reap_some(program, end);
    if left == Left::Nothing {
        return; // most programs leave nothing
    }
    let mut killer = Killer::new();
    let mut known = HashSet::new();
    // If the kernel reaps for us, it may still be about to reap what no wait tells of any more.
    while left != Left::Nothing || killer.has_unreaped() {
        if end.is_some() {
            killer.reap_automatically();
        }
        let found = killer.kill_once(&known);
        // No pause while there are new ones: they would fork meanwhile.
        let is_done = left != Left::Ended && found.is_subset(&known);
        known = found;
        if is_done {
            pause();
        }
        left = reap_some(program, end);
    }
}

/// Kills what it finds.
struct Killer {
    own: i32,
    list: Listing,
    /// Whether the kernel reaps our children, so that a stranger may get the number of a child.
    reaps_automatically: bool,
}

impl Killer {
    fn new() -> Killer {
        raise_descriptor_limit();
        let own = process::id() as i32;
        Killer { own, list: Listing::available(), reaps_automatically: false }
    }

    /// Lets the kernel reap our children from now on: nobody wants to know how they end, and we could
    /// not reap a storm as fast as it ends.
    fn reap_automatically(&mut self) {
        // Then only a pidfd names a child for sure.
        let has_pidfds = || {
            let own = sys::pidfd_open(self.own).ok();
            own.is_some_and(|own| sys::pidfd_send_signal(own, 0).is_ok())
        };
        if !self.reaps_automatically && self.list != Listing::Numbers && has_pidfds() {
            self.reaps_automatically = sys::add_flag(libc::SIGCHLD, libc::SA_NOCLDWAIT).is_ok();
        }
    }

    /// Whether the kernel has yet to reap children. No wait tells of them.
    fn has_unreaped(&self) -> bool {
        self.reaps_automatically && !self.list.children_of(self.own).is_empty()
    }

    /// Kills what can be found now, and returns the numbers. `known` are those of the last time.
    ///
    /// First it kills all children, and does nothing else: a chain of processes that fork and exit
    /// is only cut if a process is killed between the moment when we learn its number and its fork. On
    /// many processors, all chains go on meanwhile. The newest come first, because the others have had
    /// more time to fork.
    ///
    /// A child that we have killed before, and that has not ended, may have children that go on. So we
    /// kill its descendants as well. Those of all others become our children.
    fn kill_once(&self, known: &HashSet<i32>) -> HashSet<i32> {
        let children = self.list.children_of(self.own);
        let mut found: HashSet<i32> =
            children.iter().rev().copied().filter(|pid| self.kill_child(*pid)).collect();
        for pid in children.into_iter().filter(|pid| known.contains(pid)) {
            // Depth first, so that few descriptors are open at a time.
            let mut killed: Vec<Process> = Self::open_child(pid).into_iter().collect();
            while let Some(parent) = killed.pop() {
                for pid in self.list.children_of(parent.pid) {
                    // Without room for its pidfd, it waits until it is a child of ours.
                    if let Some(child) = Process::child_of(&parent, pid) {
                        let _ = sys::pidfd_send_signal(&child.pidfd, libc::SIGKILL);
                        found.insert(pid);
                        killed.push(child);
                    }
                }
            }
        }
        found
    }

    /// Kills the process if it is a child of this one; returns whether it is one.
    fn kill_child(&self, pid: i32) -> bool {
        let pidfd = sys::pidfd_open(pid).ok();
        // If only we reap our children, the number in the list is still that of our child. The kernel
        // may reap it: also if it was made with CLONE_AUTOREAP.
        if !sys::is_unreaped(WaitTarget { pid, pidfd: pidfd.as_ref().map(AsFd::as_fd) }) {
            return false;
        }
        let by_pidfd = pidfd.map(|pidfd| sys::pidfd_send_signal(&pidfd, libc::SIGKILL));
        if !matches!(by_pidfd, Some(Ok(()))) && !self.reaps_automatically {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        true
    }

    /// Opens a child of this process.
    fn open_child(pid: i32) -> Option<Process> {
        let pidfd = sys::pidfd_open(pid).ok()?;
        let child = WaitTarget { pid, pidfd: Some(pidfd.as_fd()) };
        sys::is_unreaped(child).then_some(Process { pid, pidfd })
    }
}

/// A descendant of this process.
struct Process {
    pid: i32,
    pidfd: OwnedFd,
}

impl Process {
    /// Opens the process with this number if it is a child of `parent`.
    ///
    /// 1. We list the children of `parent`. One ends, is reaped, and a stranger gets its number.
    /// 2. We open a pidfd for the number: it refers to the stranger.
    ///
    /// So we ask for the parent of that process afterwards. As long as a process is unreaped, no
    /// other has its number. If both processes are unreaped after the answer, it was about them.
    fn child_of(parent: &Process, pid: i32) -> Option<Process> {
        let pidfd = sys::pidfd_open(pid).ok()?;
        let is_child =
            parent_of(pid) == Some(parent.pid) && is_unreaped(&pidfd) && is_unreaped(&parent.pidfd);
        is_child.then_some(Process { pid, pidfd })
    }
}

/// Whether nobody has reaped the process of this pidfd.
fn is_unreaped(pidfd: &OwnedFd) -> bool {
    !sys::pidfd_send_signal(pidfd, 0).is_err_and(|error| sys::is(&error, libc::ESRCH))
}

/// How to list the children of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// The kernel has lists of children: CONFIG_PROC_CHILDREN.
    Children,
    /// By a look at each process.
    Stat,
    /// Without a /proc of our pid namespace, by asking the kernel for each number whether it is that
    /// of a child of ours. That finds children only, and theirs when they are ours.
    Numbers,
}

impl Listing {
    fn available() -> Listing {
        let own = process::id();
        let linked = fs::read_link("/proc/self");
        if !linked.is_ok_and(|linked| linked.as_os_str() == &*own.to_string()) {
            return Listing::Numbers;
        }
        match fs::read(format!("/proc/self/task/{own}/children")) {
            Ok(_) => Listing::Children,
            Err(_) => Listing::Stat,
        }
    }

    fn children_of(self, parent: i32) -> Vec<i32> {
        let children = match self {
            Listing::Children => children_from_lists(parent),
            Listing::Stat => numbers_in("/proc")
                .map(|all| all.into_iter().filter(|pid| parent_of(*pid) == Some(parent)).collect()),
            Listing::Numbers if parent == process::id() as i32 => Ok(children_by_numbers(parent)),
            Listing::Numbers => Ok(Vec::new()),
        };
        children.unwrap_or_default() // it has been reaped
    }
}

/// Finds children of ours by asking the kernel about each number.
///
/// It gives numbers out in order, so all of them are between our own and the newest one. That is not
/// so if it has been through all numbers since we were made; then we ask about every number, which
/// takes seconds.
fn children_by_numbers(own: i32) -> Vec<i32> {
    let is_child = |pid: &i32| sys::is_unreaped(WaitTarget { pid: *pid, pidfd: None });
    let children = match newest_number() {
        Some(newest) if newest > own => (own + 1..newest).filter(is_child).collect(),
        _ => Vec::new(),
    };
    match children.is_empty() {
        true => (1..LAST_PID).filter(is_child).collect(),
        false => children,
    }
}

/// Makes a child that ends at once, and returns its number.
fn newest_number() -> Option<i32> {
    match sys::fork(&ForkSpec::default()).ok()? {
        Forked::Child(_) => sys::exit_now(0),
        Forked::Parent(pid) => {
            let child = WaitTarget { pid, pidfd: None };
            let _ = sys::await_end(child).and_then(|()| sys::try_reap(child));
            Some(pid)
        }
    }
}

/// Reads the lists of children that the threads of a process have.
fn children_from_lists(parent: i32) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for thread in numbers_in(&format!("/proc/{parent}/task"))? {
        if let Ok(list) = fs::read_to_string(format!("/proc/{parent}/task/{thread}/children")) {
            children.extend(list.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    Ok(children)
}

/// Returns the entries of a directory that are numbers.
fn numbers_in(directory: &str) -> io::Result<Vec<i32>> {
    let entries = fs::read_dir(directory)?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Returns the parent of a process, from /proc/PID/stat.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything, also a ')'.
    let after_name = stat.rsplit(|byte| *byte == b')').next()?;
    str::from_utf8(after_name).ok()?.split_whitespace().nth(1)?.parse().ok()
}

/// Makes room for many pidfds.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;
    use std::process::Command;

    /// A process that `parent_of` and the lists of children find.
    fn start() -> (process::Child, Process) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id() as i32;
        (child, Process { pid, pidfd: sys::pidfd_open(pid).unwrap() })
    }

    #[test]
    fn only_a_child_of_that_process_is_opened() {
        let own = process::id() as i32;
        let ourselves = || Process { pid: own, pidfd: sys::pidfd_open(own).unwrap() };
        let (mut one, opened) = start();
        let (mut other, stranger) = start();
        assert!(Process::child_of(&ourselves(), opened.pid).is_some());
        // A list of children may name a number that a stranger has by now.
        assert!(Process::child_of(&opened, stranger.pid).is_none());
        assert!(Process::child_of(&ourselves(), own).is_none());
        // The number of the parent may be that of another process, which has such a child.
        let parent_of_that_number = Process { pid: own, pidfd: opened.pidfd };
        assert!(Process::child_of(&parent_of_that_number, stranger.pid).is_some());
        one.kill().unwrap();
        one.wait().unwrap();
        assert!(Process::child_of(&parent_of_that_number, stranger.pid).is_none());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(Process::child_of(&ourselves(), stranger.pid).is_none());
    }

    #[test]
    fn both_ways_to_list_find_the_same() {
        let own = process::id() as i32;
        let (mut child, opened) = start();
        for list in [Listing::Children, Listing::Stat] {
            let children = list.children_of(own);
            assert!(children.contains(&opened.pid), "{list:?}: {children:?}");
            assert!(list.children_of(opened.pid).is_empty());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
