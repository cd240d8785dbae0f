//! What a worker does in each of the models.

mod multiplex;
mod prefork;
pub(crate) mod reexec;
mod thread;

use std::io;

use nix::sys::prctl;

use crate::dispatch::Job;
use crate::log;
use crate::options::{Model, Options};
use crate::sandbox::Sandbox;
use crate::session::{self, Timeouts};

/// A forked worker's life: from its first step in a new process to its end.
pub(crate) fn work(job: Job, options: &Options, sandbox: &Sandbox) -> io::Result<()> {
    log::forget_lost();
    // For ps.
    prctl::set_name(c"echo-worker")?;
    sandbox.enter()?;
    let timeouts = Timeouts::of(options);
    match job {
        Job::Client(connection) => session::serve_in_process(connection, timeouts, None),
        Job::Seat(seat) => match options.model {
            Model::Thread => thread::serve(seat, options, timeouts),
            Model::Multiplex => multiplex::serve(seat, options, timeouts),
            Model::Prefork | Model::Fork | Model::Reexec => prefork::serve(seat, options, timeouts),
        },
    }
}
