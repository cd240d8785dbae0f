//! Ends every process that a run has started.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::probe::procfs;

/// Between two rounds.
const TICK: Duration = Duration::from_millis(10);

/// How long none of the killed processes may end before the rest is given up: plenty, and less than a
/// worker has to clear up in. A process that waits for a disk, or that we may not kill, could take for
/// ever.
const TIME_TO_END: Duration = Duration::from_millis(1500);

/// Kills every descendant of this process, which must be a child subreaper.
///
/// A number cannot become another process's meanwhile: we kill only our own children, which nobody else
/// can reap. We then adopt their children, and kill those in the next round.
///
/// Returns the processes that could not be ended, if there are any.
pub(crate) fn kill_and_reap_all() -> Option<Left> {
    let mut deadline = Instant::now() + TIME_TO_END;
    loop {
        let is_late = Instant::now() >= deadline;
        // A wait that blocks could block for ever, as the list of children can miss one that we have just
        // adopted. It comes first: without children we must kill nobody, whatever /proc lists.
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return None,
            Ok(WaitStatus::StillAlive) => {}
            Ok(_) => {
                deadline = Instant::now() + TIME_TO_END;
                continue;
            }
            Err(Errno::EINTR) => continue,
            Err(error) => return Some(Left::unknown(error.into())),
        }
        let children = match procfs::children(procfs::own_pid()) {
            Ok(children) => children,
            Err(error) if is_late => return Some(Left::unknown(error)),
            Err(_) => Vec::new(),
        };
        let mut refused = None;
        for pid in &children {
            if let Err(error) = kill(Pid::from_raw(*pid), Signal::SIGKILL) {
                refused = refused.or(Some((*pid, error)));
            }
        }
        if is_late {
            return Some(Left::of(&children, refused));
        }
        thread::sleep(TICK);
    }
}

/// Processes that could not be ended.
pub(crate) struct Left {
    /// One, if it is not known how many.
    pub(crate) processes: usize,
    /// A sentence on why, and what helps.
    pub(crate) why: String,
}

impl Left {
    fn of(children: &[i32], refused: Option<(i32, Errno)>) -> Self {
        let processes = match procfs::descendants(procfs::own_pid()) {
            Ok(left) => left.len().max(1), // there is one, also if the list has missed it
            Err(error) => return Self::unknown(error),
        };
        let call = |pid: i32| {
            let name = procfs::stat(pid).map(|stat| format!(" {:?}", stat.name));
            format!("process {pid}{}", name.unwrap_or_default())
        };
        let why = match (refused, children.first()) {
            (Some((pid, error)), _) => {
                let error = io::Error::from(error);
                let who = call(pid);
                format!("{who} cannot be killed: {error}; what helps: kill -9 {pid}, as root")
            }
            (None, Some(&pid)) => format!(
                "{} has been killed, and has not ended within {TIME_TO_END:?}; it ends when what \
                 it waits for in the kernel has come, such as a disk",
                call(pid)
            ),
            (None, None) => "a process has not ended".to_owned(),
        };
        Self { processes, why }
    }

    fn unknown(error: io::Error) -> Self {
        Self { processes: 1, why: format!("the started processes cannot be ended: {error}") }
    }
}
