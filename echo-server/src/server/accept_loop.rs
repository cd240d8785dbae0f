//! Accepts clients in the supervisor and starts a worker for each: the models `fork` and
//! `reexec`.

use std::error::Error;
use std::io;
use std::mem;
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use nix::unistd::close;
use reexec::{Child, Fork};

use crate::log::log;
use crate::options::{Model, Options};
use crate::server::backoff::Backoff;
use crate::server::dispatch::{Counts, Dispatch, Ended, Job, Slot, Watch, Workers};
use crate::server::listener::{Accepted, Listener};
use crate::server::per_source_limit::{PerSourceLimit, log_refusal};

/// Starts a worker for a client. Returns its handle, or `Fork::Child` in a forked worker.
pub(crate) type Starter = Box<dyn Fn(&TcpStream) -> Result<Fork, Box<dyn Error>>>;

pub(crate) struct AcceptLoop {
    model: Model,
    /// `None` once we drain.
    listener: Option<Listener>,
    /// The one thing in which the models differ.
    starter: Starter,
    /// A client without a worker, because there was no room for another process. Until there is room,
    /// the other clients wait in the kernel's queue.
    waiting: Option<(TcpStream, IpAddr)>,
    max_children: Option<usize>,
    per_source: PerSourceLimit,
    backoff: Backoff,
    accepted: u64,
    refused: u64,
}

enum Next {
    Client(TcpStream, IpAddr),
    /// A client was there, and has been disconnected.
    Refused,
    None,
}

impl AcceptLoop {
    pub(crate) fn new(listener: Listener, options: &Options, starter: Starter) -> Self {
        Self {
            model: options.model,
            listener: Some(listener),
            starter,
            waiting: None,
            max_children: options.max_children(),
            per_source: PerSourceLimit::new(options.max_per_source()),
            backoff: Backoff::default(),
            accepted: 0,
            refused: 0,
        }
    }

    fn has_room(&self, workers: &Workers) -> bool {
        self.max_children.is_none_or(|max| workers.len() < max)
    }

    fn next_client(&mut self) -> Next {
        if let Some((connection, source)) = self.waiting.take() {
            return Next::Client(connection, source);
        }
        let Some(listener) = &self.listener else {
            return Next::None;
        };
        match listener.accept() {
            Accepted::Client(connection, source) => {
                self.accepted += 1;
                if !self.per_source.is_full(source, 0) {
                    return Next::Client(connection, source);
                }
                self.refused += 1;
                log_refusal(source);
                Next::Refused
            }
            Accepted::Nobody => Next::None,
            // The owner of the listener has shut it down. From then on it is always readable.
            Accepted::Closed => {
                self.pause("cannot accept: the listener has been shut down");
                Next::None
            }
            Accepted::Shortage(error) => {
                self.pause(&format!("cannot accept: {error}"));
                Next::None
            }
        }
    }

    /// Starts a worker for this client. Returns the connection in the new process of a fork.
    fn start(
        &mut self,
        workers: &mut Workers,
        connection: TcpStream,
        source: IpAddr,
    ) -> Option<TcpStream> {
        match (self.starter)(&connection) {
            Ok(Fork::Child) => return Some(connection),
            // Our copy of the connection is closed here. Otherwise it would hold the connection open
            // after the worker has ended.
            Ok(Fork::Parent(worker)) => self.add(workers, worker, source),
            Err(error) => {
                self.waiting = Some((connection, source));
                self.pause(&format!("cannot start a worker: {error}"));
            }
        }
        None
    }

    fn add(&mut self, workers: &mut Workers, worker: Child, source: IpAddr) {
        match workers.add(worker, Slot::Client(source)) {
            Ok(()) => {
                self.per_source.add(source);
                if self.backoff.leave() {
                    log(format_args!("accepting again"));
                }
            }
            // The worker has been killed, and no other worker can serve its client.
            Err(error) => self.pause(&format!(
                "a client is disconnected, as its worker cannot be watched: {error}"
            )),
        }
    }

    fn pause(&mut self, problem: &str) {
        if self.backoff.enter() {
            log(format_args!("{problem}; clients wait until it works"));
        }
    }
}

impl Dispatch for AcceptLoop {
    fn watch(&mut self, workers: &Workers) -> Watch<'_> {
        if let Some(until) = self.backoff.until() {
            return Watch::Until(until);
        }
        if !self.has_room(workers) {
            return Watch::Nothing;
        }
        match (&self.waiting, &self.listener) {
            (Some(_), _) => Watch::Until(Instant::now()),
            (None, Some(listener)) => Watch::For(listener.as_fd()),
            (None, None) => Watch::Nothing,
        }
    }

    fn start_workers(&mut self, workers: &mut Workers, is_ready: bool) -> io::Result<Option<Job>> {
        // At most this many, or a flood of clients would keep the supervisor from reaping.
        const AT_ONCE: usize = 16;
        if !is_ready && self.waiting.is_none() {
            return Ok(None);
        }
        for _ in 0..AT_ONCE {
            if self.backoff.until().is_some() || !self.has_room(workers) {
                break;
            }
            match self.next_client() {
                Next::Client(connection, source) => {
                    // A worker's own first look at the clock would cost it three page faults.
                    let now = Instant::now();
                    if let Some(connection) = self.start(workers, connection, source) {
                        return Ok(Some(Job::Client(connection, now)));
                    }
                }
                Next::Refused => {}
                Next::None => break,
            }
        }
        Ok(None)
    }

    fn on_exit(&mut self, ended: &Ended) -> bool {
        self.backoff.try_now();
        if let Slot::Client(source) = ended.slot {
            self.per_source.remove(source);
        }
        if let Some(problem) = &ended.problem {
            log(format_args!("worker {} failed: {problem}", ended.id));
        }
        ended.problem.is_some()
    }

    fn resize(&mut self, _by: isize) {
        log(format_args!("only the pool of prefork can change its size"));
    }

    fn listener(&self) -> Option<&Listener> {
        self.listener.as_ref()
    }

    fn take_listener(&mut self) -> Option<Listener> {
        self.listener.take()
    }

    fn has_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    fn counts(&self, workers: &Workers) -> Counts {
        Counts {
            active: workers.len() as u64,
            limit: self.max_children,
            accepted: self.accepted,
            refused: self.refused,
            reaped: 0,
            killed: 0,
        }
    }

    fn leave(self: Box<Self>) {
        if self.model != Model::Fork {
            return; // a starter may have descriptors, too
        }
        let listener = self.listener.iter().map(AsRawFd::as_raw_fd);
        let waiting = self.waiting.iter().map(|(connection, _)| connection.as_raw_fd());
        // We close them by number and never drop them: taking them out would write to our memory.
        for fd in listener.chain(waiting) {
            let _ = close(fd);
        }
        mem::forget(self);
    }
}
