//! A process for each client, made by a template: a copy of the program that has entered the sandbox
//! once, and waits. Its copies lack what it has given up, and need not give it up again.

use std::error::Error;
use std::io;
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::Instant;

use reexec::{Fork, Template, inherited_fd};

use crate::log::{self, cannot};
use crate::ops::sandbox::Sandbox;
use crate::options::{Model, Options};
use crate::server::accept_loop::Starter;
use crate::session::{self, Timeouts};
use crate::signals;
use crate::worker::terms::{CONNECTION, ENTRY, Terms};

/// The name under which the program registers [`prepare`].
pub const PREPARATION: &str = "echo-template";

/// What the template leaves for its copies.
static PREPARED: OnceLock<Prepared> = OnceLock::new();

pub(super) struct Prepared {
    timeouts: Timeouts,
    sandbox: Sandbox,
}

/// Makes the template, and the function that lets it make a worker.
pub(crate) fn starter(options: &Options, sandbox: &Sandbox) -> io::Result<Starter> {
    let args = [log::form()].into_iter().chain(Terms::for_workers(options, sandbox));
    let template = Template::prepared_by(PREPARATION, args)?;
    Ok(Box::new(move |connection| start(connection, &template)))
}

fn start(connection: &TcpStream, template: &Template) -> Result<Fork, Box<dyn Error>> {
    let mut command = template.command(ENTRY);
    for signal in signals::ignored_by_workers() {
        command.ignore_signal(signal);
    }
    let worker = command
        .keep_template_env()
        .fd(CONNECTION, connection.try_clone()?)
        // The worker arranges that itself, without a descriptor.
        .outlive_parent()
        .process_group(0)
        .spawn_unconfirmed()?;
    Ok(Fork::Parent(worker))
}

/// Prepares the template. A worker that had to be executed instead runs this, too.
pub fn prepare(args: &[String]) -> io::Result<()> {
    let mut args = args.iter().cloned();
    let form = args.next();
    let terms = Terms::from(&mut args);
    let (Some(true), Some(terms)) = (form.map(|form| log::open_as(&form)), terms) else {
        return Err(io::Error::other("cannot read the supervisor's arguments"));
    };
    log::set_level(terms.level);
    let sandbox = Sandbox::new(terms.mode, Model::Template)?.with_identity(terms.identity);
    let sandbox = sandbox.of_child(terms.may_miss);
    sandbox.enter_in_template()?;
    let _ = PREPARED.set(Prepared { timeouts: terms.timeouts, sandbox });
    Ok(())
}

/// Returns what the template has left for this process, if a template has made it.
pub(super) fn prepared() -> Option<&'static Prepared> {
    PREPARED.get()
}

/// The whole life of a worker of this model.
pub(super) fn serve(prepared: &Prepared) -> io::Result<()> {
    let connection = TcpStream::from(inherited_fd(CONNECTION)?);
    signals::end_with(prepared.sandbox.supervisor()).map_err(cannot("end with the server"))?;
    prepared.sandbox.enter_in_its_copy()?;
    session::serve_in_process(connection, prepared.timeouts, Instant::now())
}
