//! What a worker does in each of the models.

pub(crate) mod fork;

pub(crate) mod terms;

pub(crate) mod reexec;

pub(crate) mod template;

pub(crate) mod prefork;

pub(crate) mod thread;

pub(crate) mod multiplex;

use std::ffi::CStr;
use std::hint;
use std::io;
use std::process::ExitCode;

use nix::sys::prctl;

use crate::exit;
use crate::log;
use crate::ops::sandbox::Sandbox;
use crate::options::Options;
use crate::server::dispatch::Job;
use crate::session::Timeouts;

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
    // For ps. On the stack: the constant would be the only one that a worker needs of its page.
    let name = hint::black_box(*b"echo-worker\0");
    prctl::set_name(CStr::from_bytes_until_nul(&name).unwrap_or_default())?;
    sandbox.enter()?;
    match job {
        Job::Client(connection, since) => fork::serve(connection, Timeouts::of(options), since),
        Job::Pool(serve, worker) => serve(*worker, options, sandbox),
    }
}
