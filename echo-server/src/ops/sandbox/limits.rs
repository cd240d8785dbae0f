//! Takes away core dumps, further processes and further descriptors, with resource limits.

use std::io;

use nix::sys::resource::{Resource, setrlimit};

use crate::options::Model;

/// Sets the limits. A worker that needs threads keeps the right to start them, a worker of the pool
/// keeps the right to open descriptors, and the template both.
pub(super) fn set(model: Model) -> io::Result<()> {
    // A core dump would contain clients' bytes.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    match model {
        Model::Fork | Model::Reexec => forbid_new(),
        Model::Prefork | Model::Multiplex => forbid_processes(),
        Model::Thread | Model::Template => Ok(()),
    }
}

/// Allows no new process, and no new descriptor.
pub(super) fn forbid_new() -> io::Result<()> {
    forbid_processes()?;
    // Not 0, because poll(2) refuses to watch more descriptors than this limit. It still allows no new
    // one: the only number below it is stdin's.
    Ok(setrlimit(Resource::RLIMIT_NOFILE, 1, 1)?)
}

fn forbid_processes() -> io::Result<()> {
    // It counts threads, too.
    Ok(setrlimit(Resource::RLIMIT_NPROC, 0, 0)?)
}
