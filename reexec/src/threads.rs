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
        // The call as such is forbidden here, as in many containers. Without a /proc as well, it is the
        // caller's word that counts.
        Err(_) => match count() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            threads => threads?,
        },
    };
    if threads == 1 {
        return Ok(());
    }
    let message = format!("this process has {threads} threads; {reason}");
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

fn count() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count()) // one entry a thread
}
