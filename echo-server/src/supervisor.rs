//! The main process: it accepts, starts a worker for each connection, reaps, and takes signals.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use reexec::{Child, Fork};

use crate::backoff::Backoff;
use crate::log::log;

/// Which process comes out of [`Supervisor::run`], and with what.
pub(crate) enum Role {
    /// A new process, to serve this connection. It has nothing else of the supervisor's.
    Worker(TcpStream),
    /// The main process, at its end. Whether every session came to its own end.
    Supervisor { drained: bool },
}

/// The main process of the server. Whatever it holds, a forked worker has copies of; they go when
/// the worker's copy of this struct does, which is before it serves.
pub(crate) struct Supervisor {
    /// `None` once we drain: the kernel then refuses new clients.
    listener: Option<TcpListener>,
    /// TERM and INT, which are blocked and read here, in the loop. No handler runs at any time,
    /// so nothing is interrupted half-way.
    signals: SignalFd,
    /// The living workers, and those that have ended since we last looked. A handle holds the
    /// pidfd that tells of its end; dropping one kills.
    workers: Vec<Child>,
    max_children: usize,
    drain_timeout: Duration,
    /// From the first signal on: when the sessions that are left will be cut off.
    deadline: Option<Instant>,
    backoff: Backoff,
}

/// What one look at the descriptors has shown.
struct Ready {
    signal: bool,
    client: bool,
    /// Which workers have ended, by their index.
    ended: Vec<usize>,
}

impl Supervisor {
    /// `max_children` and `drain_timeout` as on the command line: 0 is no limit.
    pub(crate) fn new(
        listener: TcpListener,
        max_children: usize,
        drain_timeout: Duration,
    ) -> io::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
        signals.thread_block()?;
        Ok(Self {
            listener: Some(listener),
            signals: SignalFd::with_flags(
                &signals,
                SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
            )?,
            workers: Vec::new(),
            max_children: if max_children == 0 {
                usize::MAX
            } else {
                max_children
            },
            drain_timeout,
            deadline: None,
            backoff: Backoff::default(),
        })
    }

    /// Serves until a signal comes and the last session has ended. Returns once in the main
    /// process, and once in each worker.
    pub(crate) fn run(mut self) -> io::Result<Role> {
        loop {
            if self.listener.is_none() && self.workers.is_empty() {
                return Ok(Role::Supervisor { drained: true });
            }
            let ready = self.wait()?;
            self.reap(&ready.ended);
            if ready.signal && !self.take_signals()? || self.is_too_late() {
                return Ok(Role::Supervisor {
                    drained: self.workers.is_empty(),
                });
            }
            if ready.client
                && let Some(connection) = self.serve_next()
            {
                return Ok(Role::Worker(connection));
            }
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self) -> io::Result<Ready> {
        let paused = self.backoff.until();
        let accepting = paused.is_none() && self.workers.len() < self.max_children;
        let listener = self.listener.as_ref().filter(|_| accepting);

        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            self.workers
                .iter()
                .map(|worker| PollFd::new(worker.as_fd(), PollFlags::POLLIN)),
        );
        fds.extend(listener.map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
        match poll(
            &mut fds,
            timeout(paused.into_iter().chain(self.deadline).min()),
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }

        // In the order in which they were put in.
        let mut ready = fds.iter().map(|fd| fd.any() == Some(true));
        let signal = ready.next() == Some(true);
        let ended = (0..self.workers.len())
            .filter(|_| ready.next() == Some(true))
            .collect();
        let client = ready.next() == Some(true);
        Ok(Ready {
            signal,
            client,
            ended,
        })
    }

    /// Reaps each worker that has ended, and only these: the pidfd says which, where one SIGCHLD
    /// may stand for many.
    fn reap(&mut self, ended: &[usize]) {
        for &index in ended.iter().rev() {
            let worker = self.workers.swap_remove(index);
            match worker.wait() {
                Ok(status) if status.success() => {}
                Ok(status) => log(format_args!("worker {} failed: {status}", worker.id())),
                Err(error) => log(format_args!("{error}")),
            }
        }
    }

    /// The first signal starts the drain; `false` at the second.
    fn take_signals(&mut self) -> io::Result<bool> {
        while self.signals.read_signal()?.is_some() {
            if self.listener.take().is_none() {
                return Ok(false);
            }
            let sessions = self.workers.len();
            log(format_args!(
                "no new clients; {sessions} sessions left to finish"
            ));
            if !self.drain_timeout.is_zero() {
                self.deadline = Instant::now().checked_add(self.drain_timeout);
            }
        }
        Ok(true)
    }

    fn is_too_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Accepts a client and forks a worker for it. The connection comes back in the worker.
    fn serve_next(&mut self) -> Option<TcpStream> {
        let connection = match self.listener.as_ref()?.accept() {
            Ok((connection, _)) => connection,
            Err(error) if is_the_clients(&error) => return None,
            Err(error) => return self.pause(&format!("cannot accept: {error}")),
        };
        match reexec::fork() {
            Ok(Fork::Child) => return Some(connection),
            // Our copy of the connection is closed at the end of this function: kept, it would
            // hold the connection open after the worker has ended.
            Ok(Fork::Parent(worker)) => self.workers.push(worker),
            Err(error) => return self.pause(&format!("cannot fork, one client dropped: {error}")),
        }
        if self.backoff.leave() {
            log(format_args!("accepting again"));
        }
        None
    }

    fn pause(&mut self, problem: &str) -> Option<TcpStream> {
        if self.backoff.enter() {
            log(format_args!("{problem}; trying again until it works"));
        }
        None
    }
}

/// The client has gone before it was served, or none is left to accept; not our shortage.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(
        error.kind(),
        WouldBlock | Interrupted | ConnectionAborted | ConnectionReset
    )
}

/// Rounded up to whole milliseconds, or the loop would be busy for the last one.
fn timeout(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else {
        return PollTimeout::NONE;
    };
    let left = until.saturating_duration_since(Instant::now()) + Duration::from_nanos(999_999);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
