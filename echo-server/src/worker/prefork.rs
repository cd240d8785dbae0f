//! A pool of processes, all of which accept from the one listener. Each serves one client after
//! another.

use std::io;

use nix::poll::{PollFd, PollFlags};

use crate::ops::sandbox::Sandbox;
use crate::options::Options;
use crate::poll::poll_until;
use crate::server::acceptor::{Acceptor, Event};
use crate::server::dispatch::PoolWorker;
use crate::server::pool_admission::Admission;
use crate::session::{self, Session, Timeouts};

/// Accepts and serves one client after another, until the supervisor tells this worker to stop.
pub(crate) fn serve(worker: PoolWorker, options: &Options, _: &Sandbox) -> io::Result<()> {
    let timeouts = Timeouts::of(options);
    let mut admission = Admission::new(worker.board, worker.row, options.max_per_source());
    let mut acceptor = Acceptor::new(worker.listener, worker.stop_pipe)?;
    loop {
        while let Some(Event::Client(connection, source)) = acceptor.next()? {
            acceptor.resume();
            if admission.admit(source)? {
                admission.publish()?;
                let wait = |session: &Session| wait(session, &mut acceptor);
                session::serve_and_watch(connection, timeouts, wait)?;
                admission.release(source)?;
            }
        }
        admission.publish()?;
        if acceptor.is_closed() {
            return Ok(());
        }
        acceptor.wait(None)?;
    }
}

/// Waits as [`Session::wait`] does, and closes the acceptor as soon as the supervisor tells this worker
/// to stop. Kept open until the end of the session, the listener would keep the port, and clients would
/// connect to it that nobody accepts:
///
/// 1. A new server takes over, and tells this worker to stop.
/// 2. The new server dies. Only this worker still has the listener.
fn wait(session: &Session, acceptor: &mut Acceptor) -> io::Result<bool> {
    let Some(stop_pipe) = acceptor.stop_pipe() else {
        return session.wait();
    };
    let mut fds = [session.poll_fd(), PollFd::new(stop_pipe, PollFlags::POLLIN)];
    poll_until(&mut fds, session.deadline())?;
    let [is_ready, is_to_stop] = fds.map(|fd| fd.any() == Some(true));
    if is_to_stop {
        acceptor.close()?;
    }
    Ok(is_ready)
}
