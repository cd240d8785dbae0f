//! A process for each client, in a fresh image of the program: it shares no memory with the
//! supervisor and the other workers, not even where things lie in it.

use std::env;
use std::io;
use std::net::TcpStream;
use std::process::ExitCode;

use clap::Parser;
use reexec::{Child, command, inherited_fd};

use crate::log;
use crate::options::Options;
use crate::sandbox::Sandbox;
use crate::session::{self, Patience};

/// The entry's name, which `ps` shows.
pub(crate) const ENTRY: &str = "echo-worker";

const CONNECTION: &str = "connection";

/// In the supervisor. The worker gets the same arguments as we.
// Inlined, it would make the stack deeper where the model `fork` forks, and each page of that is
// one to be copied for each client.
#[inline(never)]
pub(crate) fn start(connection: &TcpStream) -> io::Result<Child> {
    let worker = command(ENTRY)
        .args(env::args_os().skip(1))
        .fd(CONNECTION, connection.try_clone()?)
        .die_with_parent(libc::SIGKILL)
        .process_group(0)
        .spawn_unconfirmed()?;
    Ok(worker)
}

/// In the worker: its whole life.
pub(crate) fn worker() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::failure(format_args!("{error}"));
            ExitCode::from(crate::EXIT_INTERNAL)
        }
    }
}

fn serve() -> io::Result<()> {
    let options = Options::parse();
    log::set_level(options.level());
    let connection = TcpStream::from(inherited_fd(CONNECTION)?);
    let sandbox = Sandbox::new(options.sandbox, options.model, options.user.as_deref())?;
    sandbox.of_child().enter()?;
    session::serve_in_process(connection, Patience::of(&options))
}
