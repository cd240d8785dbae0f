//! The accept loop of the models in which the supervisor accepts, and starts a worker for each
//! client: `fork` and `reexec`.

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::mem;
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use nix::unistd::close;
use reexec::{Fork, ForkOptions};

use crate::backoff::Backoff;
use crate::dispatch::{Counts, Dispatch, Ended, Job, Slot, Watch, Workers};
use crate::listener::{Accepted, Listener};
use crate::log::{log, session};
use crate::models::reexec::Starter;
use crate::options::Options;
use crate::signals;

pub(crate) struct AcceptLoop {
    /// `None` once we drain.
    listener: Option<Listener>,
    /// Only with `reexec`.
    starter: Option<Starter>,
    /// How workers are forked, otherwise.
    fork: ForkOptions,
    /// A client for which there is no worker yet, because there was no room for another process.
    /// Until there is, the others wait in the kernel's queue.
    waiting: Option<(TcpStream, IpAddr)>,
    max_children: Option<usize>,
    max_per_source: Option<usize>,
    /// How many clients of each address are being served; kept only if that is limited.
    sources: HashMap<IpAddr, usize>,
    backoff: Backoff,
    accepted: u64,
    refused: u64,
}

/// Who is next.
enum Next {
    Client(TcpStream, IpAddr),
    /// One was there, and is disconnected.
    Refused,
    None,
}

impl AcceptLoop {
    /// With a `starter`, workers are fresh images; otherwise they are forked.
    pub(crate) fn new(listener: Listener, options: &Options, starter: Option<Starter>) -> Self {
        Self {
            listener: Some(listener),
            starter,
            fork: signals::of_a_worker(),
            waiting: None,
            max_children: options.max_children(),
            max_per_source: options.max_per_source(),
            sources: HashMap::new(),
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
                if !self.is_one_too_many(source) {
                    return Next::Client(connection, source);
                }
                self.refused += 1;
                session(format_args!("{source} refused: too many of its clients"));
                Next::Refused
            }
            Accepted::Nobody => Next::None,
            // By its owner, who has handed it to us. It is readable all the time then.
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

    fn is_one_too_many(&self, source: IpAddr) -> bool {
        self.max_per_source
            .is_some_and(|max| self.sources.get(&source).is_some_and(|count| *count >= max))
    }

    /// Starts a worker for this client. In the new process of a fork, the connection comes back.
    fn start(
        &mut self,
        workers: &mut Workers,
        connection: TcpStream,
        source: IpAddr,
    ) -> Option<TcpStream> {
        // Our copy of the connection is closed at the end of this function: kept, it would hold the
        // connection open after the worker has ended.
        let worker = if let Some(starter) = &self.starter {
            match starter.start(&connection) {
                Ok(worker) => worker,
                Err(error) => return self.keep_waiting(connection, source, &error),
            }
        } else {
            match self.fork.fork() {
                Ok(Fork::Child) => return Some(connection),
                Ok(Fork::Parent(worker)) => worker,
                Err(error) => return self.keep_waiting(connection, source, &error),
            }
        };
        match workers.add(worker, Slot::Client(source)) {
            Ok(()) => {
                if self.max_per_source.is_some() {
                    *self.sources.entry(source).or_default() += 1;
                }
                if self.backoff.leave() {
                    log(format_args!("accepting again"));
                }
            }
            // Killed already, and nobody else can serve its client.
            Err(error) => self.pause(&format!(
                "a client is disconnected, as its worker cannot be watched: {error}"
            )),
        }
        None
    }

    fn keep_waiting(
        &mut self,
        connection: TcpStream,
        source: IpAddr,
        error: &dyn Display,
    ) -> Option<TcpStream> {
        self.waiting = Some((connection, source));
        self.pause(&format!("cannot start a worker: {error}"));
        None
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
        // Not all who are there, or a flood of clients would keep the supervisor from reaping.
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
                    if let Some(connection) = self.start(workers, connection, source) {
                        return Ok(Some(Job::Client(connection)));
                    }
                }
                Next::Refused => {}
                Next::None => break,
            }
        }
        Ok(None)
    }

    fn has_ended(&mut self, ended: &Ended) -> bool {
        self.backoff.try_now();
        if let Slot::Client(source) = ended.slot
            && let Some(count) = self.sources.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
        if let Some(problem) = &ended.problem {
            log(format_args!("worker {} failed: {problem}", ended.id));
        }
        ended.problem.is_some()
    }

    fn resize(&mut self, _by: isize) {
        log(format_args!(
            "only prefork has a pool to change the size of"
        ));
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
        }
    }

    fn leave(self: Box<Self>) {
        let listener = self.listener.iter().map(AsRawFd::as_raw_fd);
        let waiting = self
            .waiting
            .iter()
            .map(|(connection, _)| connection.as_raw_fd());
        // By number, and never dropped, because to take them out would be to write.
        for fd in listener.chain(waiting) {
            let _ = close(fd);
        }
        mem::forget(self);
    }
}
