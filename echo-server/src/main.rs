//! The chapter's echo server, `echo_mpserv.c`, which its Go edition left out: a process for each
//! client, and the other ways to serve many at the same time, under one supervisor.
//!
//! `cargo run -p echo-server`, and `nc 127.0.0.1 9190` in other terminals.

#![forbid(unsafe_code)]

mod accept_loop;
mod backoff;
mod connection;
mod deadline;
mod dispatch;
mod intake;
mod listener;
mod log;
mod models;
mod nonblocking;
mod options;
mod pool;
mod record;
mod sandbox;
mod scoreboard;
mod service_manager;
mod session;
mod signals;
mod supervisor;
mod upgrade;

use std::io;
use std::os::fd::AsFd;
use std::process::{self, ExitCode};

use accept_loop::AcceptLoop;
use clap::Parser;
use dispatch::Dispatch;
use listener::Listener;
use log::cannot;
use models::reexec::Starter;
use nonblocking::Stream;
use options::{Mode, Model, Options};
use pool::Pool;
use sandbox::{Identity, Sandbox, TriedOut};
use sd_notify::NotifyState;
use signals::Hangup;
use supervisor::{Role, Supervisor};
use upgrade::{Predecessor, Program, SocketIdentity};

const EXIT_CUT_OFF: u8 = 1;
const EXIT_USAGE: u8 = 2; // as clap
const EXIT_UNAVAILABLE: u8 = 69; // EX_UNAVAILABLE
const EXIT_INTERNAL: u8 = 70; // EX_SOFTWARE

fn main() -> ExitCode {
    reexec::register(models::reexec::ENTRY, models::reexec::worker);
    if let Some(code) = reexec::init() {
        return code;
    }
    let options = Options::parse();
    log::set_level(options.level());
    log::open();
    match run(&options) {
        Ok(code) => code,
        Err(Failure { code, error }) => {
            log::failure(format_args!("{error}"));
            ExitCode::from(code)
        }
    }
}

/// Why the server ends, and its exit code.
struct Failure {
    code: u8,
    error: io::Error,
}

/// What is not known better is our own failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self {
            code: EXIT_INTERNAL,
            error,
        }
    }
}

fn run(options: &Options) -> Result<ExitCode, Failure> {
    let program = Program::this();
    let predecessor = upgrade::predecessor();
    let inherited = listener::inherited(predecessor.as_ref()).map_err(unavailable)?;
    // Whatever else we were started with, workers are to have nothing but stdio and a connection.
    reexec::start_clean().map_err(cannot("close what was left open by who has started us"))?;
    let hangup = Hangup::at_start().map_err(cannot("find out what SIGHUP means"))?;
    let listener = match inherited {
        Some(listener) => listener,
        None => listener::open(&options.address, options.backlog).map_err(unavailable)?,
    };
    let user = options.user.as_deref();
    let identity = user
        .map(Identity::of_user)
        .transpose()
        .map_err(unavailable)?;
    let mut sandbox =
        Sandbox::new(options.sandbox, options.model, identity).map_err(unavailable)?;
    if options.sandbox != Mode::Off {
        match sandbox.try_out().map_err(unavailable)? {
            TriedOut::Probe => reexec::exit_now(0),
            TriedOut::Report(lines) => lines
                .iter()
                .for_each(|line| log::log(format_args!("sandbox: {line}"))),
        }
    }
    serve(options, listener, sandbox, program, predecessor, hangup)
}

/// Bad input is the user's to mend; what this machine refuses is not.
fn unavailable(error: io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::InvalidInput => EXIT_USAGE,
        _ => EXIT_UNAVAILABLE,
    };
    Failure { code, error }
}

fn serve(
    options: &Options,
    listener: Listener,
    sandbox: Sandbox,
    program: io::Result<Program>,
    predecessor: Option<Predecessor>,
    hangup: Hangup,
) -> Result<ExitCode, Failure> {
    let address = listener
        .address()
        .map_err(cannot("ask the listener for its address"))?;
    let identity = SocketIdentity::of(listener.as_fd()).map_err(cannot("identify the listener"))?;
    let model = options.model.name();
    let dispatch: Box<dyn Dispatch> = match options.model {
        Model::Fork => Box::new(AcceptLoop::new(listener, options, None)),
        Model::Reexec => {
            let starter = Starter::new(options, &sandbox);
            Box::new(AcceptLoop::new(listener, options, Some(starter)))
        }
        Model::Prefork | Model::Thread | Model::Multiplex => {
            Box::new(Pool::new(listener, options)?)
        }
    };
    // A server that has taken over once has the same parent as the server before it had. That parent
    // did not lose the last server, so it will not lose the next.
    let upgrade_anyway = options.upgrade_anyway || predecessor.is_some();
    let supervisor = Supervisor::new(
        model,
        dispatch,
        program,
        options.drain_timeout(),
        upgrade_anyway,
        hangup,
    )
    .map_err(cannot("get ready for signals and the ends of workers"))?;
    announce(&format!(
        "listening on {address} ({model}, pid {})",
        process::id()
    ))?;
    let predecessor = match predecessor {
        // It tells the service manager.
        Some(predecessor) => Some(
            predecessor
                .take_over(&identity)
                .map_err(cannot("take the place of the server before this one"))?,
        ),
        None => {
            service_manager::tell(&[NotifyState::Ready]);
            None
        }
    };

    match supervisor.run(predecessor)? {
        Role::Worker(job) => end_forked(models::work(job, options, &sandbox)),
        Role::Guardian(handover) => end_forked(handover.guard(|| hangup.pass_on())),
        Role::Supervisor { drained: true } => {}
        Role::Supervisor { drained: false } => return Ok(ExitCode::from(EXIT_CUT_OFF)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The end of a forked process: what is open or registered in the copy is the supervisor's to end.
fn end_forked(result: io::Result<()>) -> ! {
    if let Err(error) = &result {
        log::failure(format_args!("{error}"));
    }
    reexec::exit_now(if result.is_ok() {
        log::exit_code()
    } else {
        EXIT_INTERNAL
    })
}

/// After this line a client can connect, and signals are taken. So it must not wait for its reader:
/// signals would have to wait, too.
fn announce(line: &str) -> io::Result<()> {
    let text = format!("{line}\n");
    match Stream::of(io::stdout()).write(text.as_bytes()) {
        Ok(length) if length == text.len() => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
            Err(cannot("write to stdout")(error))
        }
        _ => {
            log::log(format_args!("{line}; stdout has no room for this line"));
            Ok(())
        }
    }
}
