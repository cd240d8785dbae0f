//! Counts the threads of this process, for what only a process with one thread may do.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// Fails, with this reason, if the process has several threads.
pub(crate) fn require_one(reason: &str) -> io::Result<()> {
    // With one thread there is nothing to unshare, so this call does nothing; with several, it
    // fails (see CLONE_THREAD in unshare(2)). Asking /proc takes longer.
    let threads = match unshare(CloneFlags::CLONE_THREAD) {
        Ok(()) => return Ok(()),
        Err(Errno::EINVAL) => count().unwrap_or(2),
        // A filter forbids the call, as in many containers. Without a /proc as well, we have to
        // trust the caller.
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

/// Counts the folders of threads in /proc by the links to their parent: each has one, and the parent itself
/// has two. This opens nothing, so it also works in a sandbox that hides files.
fn count() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}
