//! What the supervisor asks of either way in which clients come to workers.

use std::fs::File;
use std::io;
use std::net::{IpAddr, TcpStream};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

use reexec::{Exit, Reaper};

use crate::log;
use crate::ops::sandbox::Sandbox;
use crate::options::Options;
use crate::server::listener::Listener;
use crate::server::scoreboard::Scoreboard;

/// The workers that have not been reaped, each found by its pidfd. So an end says *which* worker has
/// ended, although one SIGCHLD may stand for many.
pub(crate) type Workers = Reaper<Slot>;

/// What the supervisor knows of a worker.
pub(crate) enum Slot {
    /// It serves one client, from this address.
    Client(IpAddr),
    /// It is in this place of the pool.
    Place(usize),
}

/// What a forked worker has to do.
pub(crate) enum Job {
    /// Serve this client, which has been there since then.
    Client(TcpStream, Instant),
    /// Accept and serve clients, as this function does.
    /// It is boxed so that the other kind, which each client of the model `fork` costs, is small to move.
    Pool(Serve, Box<PoolWorker>),
}

/// The whole work of a worker of the pool; each model has another one.
pub(crate) type Serve = fn(PoolWorker, &Options, &Sandbox) -> io::Result<()>;

/// What a worker of the pool gets from the supervisor.
pub(crate) struct PoolWorker {
    pub(crate) listener: Listener,
    /// At its end when no more clients are to be accepted. The supervisor has the other end.
    pub(crate) stop_pipe: OwnedFd,
    pub(crate) board: Scoreboard,
    /// The worker's row on the board.
    pub(crate) row: usize,
    /// Where the template says, a line each, which of its copies have failed. A write never waits.
    pub(crate) failures: Option<File>,
}

/// What to wait for before more workers can be started.
pub(crate) enum Watch<'a> {
    Nothing,
    Until(Instant),
    For(BorrowedFd<'a>),
}

/// A worker that has been reaped.
pub(crate) struct Ended<S = Slot> {
    pub(crate) slot: S,
    pub(crate) id: u32,
    /// How it has ended, if not as it should.
    pub(crate) problem: Option<String>,
    pub(crate) was_killed: bool,
}

impl<S> Ended<S> {
    /// `None` if the process was not a worker. Counts the lines that the worker has lost.
    pub(crate) fn of(exit: Exit<S>) -> Option<Self> {
        let problem = match &exit.status {
            Ok(status) if log::count_lost_by_worker(*status) => None,
            Ok(status) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let was_killed = exit.status.is_ok_and(|status| status.signal().is_some());
        Some(Self { slot: exit.token?, id: exit.id, problem, was_killed })
    }
}

/// The figures about clients in the status line.
pub(crate) struct Counts {
    pub(crate) active: u64,
    pub(crate) limit: Option<usize>,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    /// Processes for one client that were reaped by a worker, and those of them that a signal has killed.
    pub(crate) reaped: u64,
    pub(crate) killed: u64,
}

/// A way in which clients come to workers. Either the supervisor accepts
/// ([`AcceptLoop`](crate::server::accept_loop::AcceptLoop)), or the workers do
/// ([`Pool`](crate::server::pool::Pool)).
pub(crate) trait Dispatch {
    /// What to wait for before calling [`start_workers`](Self::start_workers).
    fn watch(&mut self, workers: &Workers) -> Watch<'_>;

    /// Starts the workers that are needed and for which there is room. `is_ready` tells whether the
    /// watched descriptor is ready. Returns a job in a new process, which must leave the supervisor's
    /// loop with it.
    fn start_workers(&mut self, workers: &mut Workers, is_ready: bool) -> io::Result<Option<Job>>;

    /// Handles the end of a worker that has been reaped. Returns whether that cut off a session.
    fn on_exit(&mut self, ended: &Ended) -> bool;

    /// Logs which sessions have failed since the last call, in processes that a worker has made. Returns
    /// whether there was one.
    fn report_failures(&mut self) -> bool {
        false
    }

    /// Changes the number of workers in the pool.
    fn resize(&mut self, by: isize);

    /// `None` after [`take_listener`](Self::take_listener).
    fn listener(&self) -> Option<&Listener>;

    /// Stops accepting, for good.
    fn take_listener(&mut self) -> Option<Listener>;

    /// Whether a client was accepted that has no worker yet.
    fn has_waiting(&self) -> bool;

    fn counts(&self, workers: &Workers) -> Counts;

    /// Closes the copies of our descriptors in a forked process.
    fn leave(self: Box<Self>);
}
