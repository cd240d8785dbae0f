//! How clients come to workers: what the supervisor asks of either way.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use reexec::Reaper;

use crate::listener::Listener;
use crate::pool::Seat;

/// The slot table: each worker that has not been reaped, found by its pidfd, so that its end says
/// *which* has ended. One SIGCHLD may stand for many.
pub(crate) type Workers = Reaper<Slot>;

/// What the supervisor knows of a worker.
pub(crate) enum Slot {
    /// It serves one client, from this address.
    Client(IpAddr),
    /// It is a member of the pool, in this place.
    Place(usize),
}

/// What a new process has to do.
pub(crate) enum Job {
    /// To serve this client.
    Client(TcpStream),
    /// To take clients as a member of the pool.
    Seat(Seat),
}

/// What there is to wait for before more workers can be started.
pub(crate) enum Watch<'a> {
    Nothing,
    Until(Instant),
    For(BorrowedFd<'a>),
}

/// The end of a worker.
pub(crate) struct Ended {
    pub(crate) slot: Slot,
    pub(crate) id: u32,
    /// How it has ended, if not as it should.
    pub(crate) problem: Option<String>,
}

/// What the status line says about clients.
pub(crate) struct Counts {
    pub(crate) active: u64,
    pub(crate) limit: Option<usize>,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
}

/// Either the supervisor accepts ([`AcceptLoop`](crate::accept_loop::AcceptLoop)), or the workers
/// do ([`Pool`](crate::pool::Pool)).
pub(crate) trait Dispatch {
    fn watch(&mut self, workers: &Workers) -> Watch<'_>;

    /// Starts what workers there are a need and room for. `is_ready` is whether what was watched
    /// is. `Some` in a new process, which has to leave the supervisor's loop with it.
    fn start_workers(&mut self, workers: &mut Workers, is_ready: bool) -> io::Result<Option<Job>>;

    /// A worker has been reaped. Returns whether it had clients whose sessions have not come to
    /// their own end.
    fn has_ended(&mut self, ended: &Ended) -> bool;

    /// More workers, or fewer.
    fn resize(&mut self, by: isize);

    /// `None` after [`take_listener`](Self::take_listener).
    fn listener(&self) -> Option<&Listener>;

    /// From here on nobody is to be accepted.
    fn take_listener(&mut self) -> Option<Listener>;

    /// Whether there is a client that was accepted and has no worker yet.
    fn has_waiting(&self) -> bool;

    fn counts(&self, workers: &Workers) -> Counts;

    /// In a forked copy: closes its copies of our descriptors.
    fn leave(self: Box<Self>);
}
