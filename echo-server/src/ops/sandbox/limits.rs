//! Takes away core dumps, further processes and further descriptors, with resource limits.

use std::io;

use nix::sys::resource::{Resource, setrlimit};

use crate::options::Model;

/// Sets the limits. A worker that needs threads keeps the right to start them, and a worker of the pool
/// keeps the right to open descriptors.
pub(super) fn set(model: Model) -> io::Result<()> {
    // A core dump would contain clients' bytes.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    if !model.has_threads() {
        // It counts threads, too.
        setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    }
    if !model.has_pool() {
        // Not 0, because poll(2) refuses to watch more descriptors than this limit. It still
        // allows no new one: the only number below it is stdin's.
        setrlimit(Resource::RLIMIT_NOFILE, 1, 1)?;
    }
    Ok(())
}
