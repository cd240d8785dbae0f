//! A process for each client, forked: the chapter's model.

use std::io;
use std::net::TcpStream;
use std::time::Instant;

use reexec::Fork;

use crate::server::accept_loop::Starter;
use crate::session::{self, Timeouts};
use crate::signals;

/// Makes the function that forks a worker.
pub(crate) fn starter() -> Starter {
    let options = signals::worker_fork_options();
    Box::new(move |_| match options.fork() {
        // An arm of its own, because a worker does not have the bytes of a handle, and need not copy them.
        Ok(Fork::Child) => Ok(Fork::Child),
        Ok(Fork::Parent(worker)) => Ok(Fork::Parent(worker)),
        Err(error) => Err(error.into()),
    })
}

/// Serves the one client of this worker, which has been there since then.
pub(crate) fn serve(connection: TcpStream, timeouts: Timeouts, since: Instant) -> io::Result<()> {
    session::serve_in_process(connection, timeouts, since)
}
