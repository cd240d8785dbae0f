//! From the command line to the supervisor's loop, and what becomes of each process that leaves it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{self, ExitCode};

use sd_notify::NotifyState;

use crate::exit;
use crate::log::nonblocking::Stream;
use crate::log::{self, cannot};
use crate::ops::sandbox::{Identity, Sandbox};
use crate::ops::service_manager;
use crate::ops::upgrade::{self, Predecessor, Program, SocketIdentity};
use crate::options::{Mode, Model, Options};
use crate::server::accept_loop::AcceptLoop;
use crate::server::dispatch::Dispatch;
use crate::server::listener::{self, Listener};
use crate::server::pool::Pool;
use crate::server::supervisor::{Role, Supervisor};
use crate::signals::Hangup;
use crate::worker;

/// Runs the server until it ends. Returns its exit code.
pub fn run(options: &Options) -> ExitCode {
    log::set_level(options.level());
    log::open();
    match serve(options) {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, error }) => {
            log::log_always(format_args!("{error}"));
            ExitCode::from(code)
        }
    }
}

fn serve(options: &Options) -> Result<u8, Failure> {
    // Before anything else: names still mean what they meant to our launcher, and descriptors that it
    // has left open are still there.
    let program = Program::this();
    let predecessor = upgrade::predecessor();
    let made_by_predecessor = predecessor.as_ref().is_some_and(|it| it.made_the_listener);
    let inherited = listener::take_inherited(made_by_predecessor).map_err(unavailable)?;
    // A worker must have nothing but stdio and a connection, whatever we were started with.
    reexec::start_clean().map_err(cannot("close what our launcher has left open"))?;
    let hangup = Hangup::at_start().map_err(cannot("find out what SIGHUP means"))?;

    let listener = match inherited {
        Some(listener) => listener,
        None => listener::open(&options.address, options.backlog).map_err(unavailable)?,
    };
    let address = listener.address().map_err(cannot("ask the listener for its address"))?;
    let identity = SocketIdentity::of(listener.as_fd()).map_err(cannot("identify the listener"))?;
    let (sandbox, applied) = make_sandbox(options).map_err(unavailable)?;
    let dispatch = choose_dispatch(options, listener, &sandbox)?;
    // The parent did not lose the server before us, so it will not lose the next one.
    let upgrade_anyway = options.upgrade_anyway || predecessor.is_some();
    let supervisor = Supervisor::new(options, dispatch, program, upgrade_anyway, hangup)
        .map_err(cannot("get ready for signals and the ends of workers"))?;

    let (model, pid) = (options.model, process::id());
    announce(&format!("listening on {address} ({model}, pid {pid})"))?;
    for line in applied {
        log::log(format_args!("sandbox: {line}"));
    }
    let predecessor = take_over(predecessor, &identity)?;

    match supervisor.run(predecessor)? {
        Role::Worker(job) => worker::end(worker::work(job, options, &sandbox)),
        Role::Guardian(handover) => worker::end(handover.guard(|| hangup.pass_on())),
        Role::Supervisor { drained: true } => Ok(0),
        Role::Supervisor { drained: false } => Ok(exit::CUT_OFF),
    }
}

/// Makes the sandbox for workers, and tries it out. Returns also what was applied, a line each: that is
/// logged later, after the first line of the server.
fn make_sandbox(options: &Options) -> io::Result<(Sandbox, Vec<String>)> {
    let user = options.user.as_deref();
    let identity = user.map(Identity::of_user).transpose()?;
    let mut sandbox = Sandbox::new(options.sandbox, options.model)?.with_identity(identity);
    let applied = match options.sandbox {
        Mode::Off => Vec::new(),
        Mode::Try | Mode::Require => sandbox.try_out()?,
    };
    Ok((sandbox, applied))
}

/// Chooses how clients come to workers, and what workers do.
fn choose_dispatch(
    options: &Options,
    listener: Listener,
    sandbox: &Sandbox,
) -> Result<Box<dyn Dispatch>, Failure> {
    let accept_loop = |starter, listener| Box::new(AcceptLoop::new(listener, options, starter));
    let pool = |serve, listener| Pool::new(listener, options, serve).map(Box::new);
    Ok(match options.model {
        Model::Fork => accept_loop(worker::fork::starter(), listener),
        Model::Reexec => accept_loop(worker::reexec::starter(options, sandbox), listener),
        Model::Template => pool(worker::template::serve, listener)?,
        Model::Prefork => pool(worker::prefork::serve, listener)?,
        Model::Thread => pool(worker::thread::serve, listener)?,
        Model::Multiplex => pool(worker::multiplex::serve, listener)?,
    })
}

/// Prints that clients can connect, and that we take signals. This must not wait for a reader: signals
/// would have to wait, too.
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

/// Takes the place of the server before this one, if there is one. Otherwise tells the service manager
/// that we serve: after an upgrade, the server before this one does that.
fn take_over(
    predecessor: Option<Predecessor>,
    listener: &SocketIdentity,
) -> io::Result<Option<UnixStream>> {
    let Some(predecessor) = predecessor else {
        service_manager::tell(&[NotifyState::Ready]);
        return Ok(None);
    };
    predecessor
        .take_over(listener)
        .map(Some)
        .map_err(cannot("take the place of the server before this one"))
}

/// Why the server ends, and its exit code.
struct Failure {
    code: u8,
    error: io::Error,
}

/// Any other I/O error is an internal failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { code: exit::INTERNAL, error }
    }
}

/// Tells bad input, which the user can mend, from what this machine refuses.
fn unavailable(error: io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::InvalidInput => exit::USAGE,
        _ => exit::UNAVAILABLE,
    };
    Failure { code, error }
}
