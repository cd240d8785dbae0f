//! What only a process with one thread may do.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// An error, for this reason, unless the process has one thread.
pub(crate) fn refuse(reason: &str) -> io::Result<()> {
    // In a process with one thread there is nothing to unshare, so this does nothing; with several
    // it is refused: see CLONE_THREAD in unshare(2). Reading /proc takes a hundred times as long.
    let threads = match unshare(CloneFlags::CLONE_THREAD) {
        Ok(()) => return Ok(()),
        Err(Errno::EINVAL) => count().unwrap_or(2),
        // The call as such is forbidden here, as in many containers.
        Err(_) => count()?,
    };
    if threads == 1 {
        return Ok(());
    }
    let message = format!("this process has {threads} threads; {reason}");
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

fn count() -> io::Result<usize> {
    match fs::read_dir("/proc/self/task") {
        Ok(tasks) => Ok(tasks.count()), // one entry a thread
        // No /proc: it is the caller's word that counts.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(1),
        Err(error) => Err(error),
    }
}
