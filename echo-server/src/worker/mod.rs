//! What a worker does in each of the models.

pub(crate) mod fork;

mod name;

pub(crate) mod terms;

pub(crate) mod reexec;

pub(crate) mod template;

pub(crate) mod prefork;

pub(crate) mod thread;

pub(crate) mod multiplex;

use std::io;
use std::process::ExitCode;

use crate::exit;
use crate::log;
use crate::ops::sandbox::Sandbox;
use crate::options::Options;
use crate::server::dispatch::Job;
use crate::session::Timeouts;
use crate::worker::name::name_worker;

/// Runs a worker of the model `reexec`, which is not forked.
pub fn run() -> ExitCode {
    end(reexec::serve())
}

/// Ends a worker at once: whatever is open or registered in a copy belongs to its original.
pub(crate) fn end(result: io::Result<()>) -> ! {
    if let Err(error) = &result {
        log::log_always(format_args!("{error}"));
    }
    ::reexec::exit_now(if result.is_ok() { log::exit_code() } else { exit::INTERNAL })
}

/// Runs a forked worker, from its first step to its end.
pub(crate) fn work(job: Job, options: &Options, sandbox: &Sandbox) -> io::Result<()> {
    log::forget_lost();
    name_worker()?;
    sandbox.enter()?;
    match job {
        Job::Client(connection, since) => fork::serve(connection, Timeouts::of(options), since),
        Job::Pool(serve, boxed) => {
            // The box is freed before the worker serves, and not in each copy of a template.
            let worker = {
                let boxed = boxed;
                *boxed
            };
            serve(worker, options, sandbox)
        }
    }
}
