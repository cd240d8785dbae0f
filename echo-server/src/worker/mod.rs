//! What a worker does in each of the models.

pub(crate) mod fork;

pub(crate) mod reexec;

pub(crate) mod prefork;

pub(crate) mod thread;

pub(crate) mod multiplex;

use std::io;

use nix::sys::prctl;

use crate::log;
use crate::ops::sandbox::Sandbox;
use crate::options::Options;
use crate::server::dispatch::Job;
use crate::session::Timeouts;

/// Runs a forked worker, from its first step to its end. A worker of the model `reexec` begins in
/// [`reexec::worker`].
pub(crate) fn work(job: Job, options: &Options, sandbox: &Sandbox) -> io::Result<()> {
    log::forget_lost();
    prctl::set_name(c"echo-worker")?; // for ps
    sandbox.enter()?;
    let timeouts = Timeouts::of(options);
    match job {
        Job::Client(connection) => fork::serve(connection, timeouts),
        Job::Pool(serve, worker) => serve(worker, options, timeouts),
    }
}
