//! The processes below the worker, and what changes in them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::model::failure::Failure;
use crate::model::process::{Process, Stat};
use crate::probe::procfs::{self, MANY};

pub(super) struct Descendant {
    /// As it was last recorded.
    pub(super) stat: Stat,
    /// `None` if the kernel gives us none: then only /proc shows that it has ended.
    pub(super) pidfd: Option<OwnedFd>,
}

/// What a look at /proc shows of a process, in the order in which it is recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is new, or it has stopped, goes on, or has another name, program or disposition of SIGCHLD.
    Life,
    End,
    /// It has another parent, as the one before has ended. It may have ended itself, too.
    Adoption,
}

/// What ends a run with more processes.
pub(crate) const NOT_TOO_MANY: &str = "there are at most 100 processes";

/// How often we look again for a parent that was missing.
const LOOKS: usize = 3;

/// Our descendants, each read before its parent: if one has been adopted, its parent is found to have
/// ended. Fails if there are too many.
pub(super) fn look() -> Result<Vec<Stat>, Failure> {
    let own = procfs::own_pid();
    let mut look: Vec<Stat> = Vec::new();
    for _ in 0..LOOKS {
        let pids = procfs::descendants(own)?;
        if pids.len() > MANY {
            return Err(Failure::Missed(NOT_TOO_MANY.to_owned()));
        }
        let pids = pids.into_iter().rev();
        look = pids.filter_map(|pid| procfs::look(pid).transpose()).collect::<io::Result<_>>()?;
        // A parent may have gone after we read its child. By now, the child has another one.
        let is_there = |pid: i32| pid == own || look.iter().any(|stat| stat.process.pid == pid);
        if look.iter().all(|stat| is_there(stat.ppid)) {
            break;
        }
    }
    Ok(look)
}

/// What has changed since the process was recorded. That it fell asleep or woke up is not recorded.
pub(super) fn change(known: Option<&Descendant>, now: &Stat) -> Option<Change> {
    let known = known.map(|known| &known.stat);
    let Some(known) = known.filter(|known| known.process == now.process) else {
        return Some(Change::Life);
    };
    if known.ppid != now.ppid {
        return Some(Change::Adoption);
    }
    if now.is_zombie() && !known.is_zombie() {
        return Some(Change::End);
    }
    let is_other = known.state() != now.state()
        || known.name != now.name
        || known.stack != now.stack
        || known.ignores_sigchld != now.ignores_sigchld;
    is_other.then_some(Change::Life)
}

/// `None` if the kernel gives us none, or the process is gone.
pub(super) fn open_pidfd(process: Process) -> Option<OwnedFd> {
    let pidfd = reexec::workspace::open_pidfd(process.pid).ok()?;
    // If the process is still there, its number was not another's when we opened the pidfd.
    procfs::exists(process).then_some(pidfd)
}

/// Whether the process of the pidfd has ended.
pub(super) fn is_readable(pidfd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1)
}
