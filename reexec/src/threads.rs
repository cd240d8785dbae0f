//! What only a process with one thread may do.

use std::fs;
use std::io;

/// An error, for this reason, unless the process has one thread.
pub(crate) fn refuse(reason: &str) -> io::Result<()> {
    let threads = match fs::read_dir("/proc/self/task") {
        Ok(tasks) => tasks.count(), // one entry a thread
        // No /proc: it is the caller's word that counts.
        Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
        Err(error) => return Err(error),
    };
    if threads == 1 {
        return Ok(());
    }
    let message = format!("this process has {threads} threads; {reason}");
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}
