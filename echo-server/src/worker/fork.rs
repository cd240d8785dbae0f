//! A process for each client, forked: the chapter's model.

use std::io;
use std::net::TcpStream;

use crate::server::accept_loop::Starter;
use crate::session::{self, Timeouts};
use crate::signals;

/// Makes the function that forks a worker.
pub(crate) fn starter() -> Starter {
    let options = signals::worker_fork_options();
    Box::new(move |_| Ok(options.fork()?))
}

/// Serves the one client of this worker.
pub(crate) fn serve(connection: TcpStream, timeouts: Timeouts) -> io::Result<()> {
    session::serve_in_process(connection, timeouts)
}
