//! What only a process with one thread may do.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// An error, for this reason, unless the process has one thread.
pub(crate) fn refuse(reason: &str) -> io::Result<()> {
    let threads = match fs::metadata("/proc/self/task") {
        // A folder for each thread, and each is a link to this one, besides the usual two. Reading
        // the names would take longer, and memory, of which a forked child gets a copy.
        Ok(folder) => folder.nlink().saturating_sub(2),
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
