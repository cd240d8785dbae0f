//! Counts the threads of this process, for what only a process with one thread may do.

use std::fs;
use std::io::{self, ErrorKind};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// Fails, with this reason, if the process has several threads.
pub(crate) fn require_one(reason: &str) -> io::Result<()> {
    // With one thread there is nothing to unshare, so this call does nothing; with several, it
    // fails (see CLONE_THREAD in unshare(2)). Reading /proc takes a hundred times as long.
    let threads = match unshare(CloneFlags::CLONE_THREAD) {
        Ok(()) => return Ok(()),
        Err(Errno::EINVAL) => count().unwrap_or(2),
        // A filter forbids the call, as in many containers. If there is no /proc as well, or a sandbox
        // hides it, we have to trust the caller.
        Err(_) => match count().map_err(|error| (error.kind(), error)) {
            Err((ErrorKind::NotFound | ErrorKind::PermissionDenied, _)) => 1,
            threads => threads.map_err(|(_, error)| error)?,
        },
    };
    if threads == 1 {
        return Ok(());
    }
    let message = format!("this process has {threads} threads; {reason}");
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

fn count() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count()) // one entry for each thread
}
