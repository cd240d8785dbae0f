//! Kills every descendant of this process, which must be a subreaper, until none is left.
//!
//! No other process is ever killed. A child of ours keeps its number until we reap it. Any other
//! descendant is killed by a pidfd that was checked after it was opened; see [`Process::child_of`].
//!
//! We kill a process first, and list its children then: it cannot fork any more, so the list is
//! complete. In the other order, it could make another child between the two. A descendant that
//! loses its parent meanwhile becomes our child, and the next round finds it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::sys::{self, End, Forked, WaitTarget};

/// The largest number that a process can have: `PID_MAX_LIMIT` of the kernel.
const LAST_PID: i32 = 4 * 1024 * 1024;

/// Kills and reaps all descendants. Calls `on_end` for each child that has ended, and `pause` between
/// rounds.
///
/// It returns when this process has no child any more, or when the kernel refuses to wait.
pub(crate) fn kill_descendants(mut on_end: impl FnMut(End), mut pause: impl FnMut()) {
    let mut list = None; // most programs leave nothing
    while reap(&mut on_end) {
        let list = list.get_or_insert_with(|| {
            raise_descriptor_limit();
            Listing::available()
        });
        kill_once(*list, process::id() as i32);
        pause();
    }
}

/// Reaps the children that have ended; returns whether children are left.
fn reap(on_end: &mut impl FnMut(End)) -> bool {
    loop {
        match sys::try_reap_any(|_| ()) {
            Ok(Some(end)) => on_end(end),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Kills all descendants that can be found now.
fn kill_once(list: Listing, own: i32) {
    let mut killed = Vec::new();
    for pid in list.children_of(own) {
        killed.extend(kill_child(pid));
        // Depth first, so that few descriptors are open at a time.
        while let Some(parent) = killed.pop() {
            for pid in list.children_of(parent.pid) {
                // Without room for its pidfd, it waits until it is a child of ours.
                if let Some(child) = Process::child_of(&parent, pid) {
                    let _ = sys::pidfd_send_signal(&child.pidfd, libc::SIGKILL);
                    killed.push(child);
                }
            }
        }
    }
}

/// Kills a child of this process. Returns it if it has a pidfd, so that its children can be checked.
fn kill_child(pid: i32) -> Option<Process> {
    let pidfd = sys::pidfd_open(pid).ok();
    let child = WaitTarget { pid, pidfd: pidfd.as_ref().map(AsFd::as_fd) };
    // Only we reap our children, so the number in the list is still that of our child. The kernel may
    // have reaped it if it was made with CLONE_AUTOREAP.
    if !sys::is_unreaped(child) {
        return None;
    }
    let by_pidfd = pidfd.as_ref().map(|pidfd| sys::pidfd_send_signal(pidfd, libc::SIGKILL));
    if !matches!(by_pidfd, Some(Ok(()))) {
        let _ = sys::kill(pid, libc::SIGKILL);
    }
    Some(Process { pid, pidfd: pidfd? })
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
    match sys::fork(false, &[]).ok()? {
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
