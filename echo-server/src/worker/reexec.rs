//! A process for each client, which executes the program again. So it shares no memory with the
//! supervisor and the other workers, and its memory is laid out differently, too.

use std::env;
use std::error::Error;
use std::io;
use std::net::TcpStream;
use std::time::Instant;

use reexec::{Fork, command, inherited_fd};

use crate::log;
use crate::ops::sandbox::Sandbox;
use crate::options::{Model, Options};
use crate::server::accept_loop::Starter;
use crate::session;
use crate::signals;
use crate::worker::terms::{CONNECTION, ENTRY, Terms};

/// Makes the function that starts a worker.
pub(crate) fn starter(options: &Options, sandbox: &Sandbox) -> Starter {
    // Made once: a worker's first steps are repeated for each client.
    let args = Terms::for_workers(options, sandbox);
    Box::new(move |connection| start(connection, &args))
}

fn start(connection: &TcpStream, args: &[String]) -> Result<Fork, Box<dyn Error>> {
    let mut command = command(ENTRY);
    for signal in signals::ignored_by_workers() {
        command.ignore_signal(signal);
    }
    let worker = command
        .args(args)
        .fd(CONNECTION, connection.try_clone()?)
        .parent_death_signal(libc::SIGKILL)
        .process_group(0)
        .spawn_unconfirmed()?;
    Ok(Fork::Parent(worker))
}

/// The whole life of a worker of this model.
pub(super) fn serve() -> io::Result<()> {
    log::open();
    let connection = TcpStream::from(inherited_fd(CONNECTION)?);
    let mut args = env::args().skip(1);
    let Some(terms) = Terms::from(&mut args) else {
        return Err(io::Error::other(
            "cannot read the supervisor's arguments; this program is started by the server only",
        ));
    };
    log::set_level(terms.level);
    let sandbox = Sandbox::new(terms.mode, Model::Reexec)?.with_identity(terms.identity);
    sandbox.of_child(terms.may_miss).enter()?;
    session::serve_in_process(connection, terms.timeouts, Instant::now())
}
