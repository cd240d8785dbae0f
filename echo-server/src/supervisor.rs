//! The main process: it accepts, starts a worker for each connection, reaps, and takes signals.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use reexec::{Fork, Reaper};

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
    /// The workers that have not been reaped. It watches their pidfds, so it says which has ended,
    /// where one SIGCHLD may stand for many.
    workers: Reaper<()>,
    /// A client for which there is no worker yet, because there was no room for another process.
    /// Until there is, the others wait in the kernel's queue.
    waiting: Option<TcpStream>,
    max_children: usize,
    drain_timeout: Duration,
    /// Whether a session was cut off since we drain, by the end of its worker.
    cut_off: bool,
    /// From the first signal on: when the sessions that are left will be cut off.
    deadline: Option<Instant>,
    backoff: Backoff,
}

/// What one look at the descriptors has shown.
struct Ready {
    signal: bool,
    worker: bool,
    client: bool,
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
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self {
            listener: Some(listener),
            signals: SignalFd::with_flags(&signals, flags)?,
            workers: Reaper::new()?,
            waiting: None,
            max_children: if max_children == 0 {
                usize::MAX
            } else {
                max_children
            },
            drain_timeout,
            cut_off: false,
            deadline: None,
            backoff: Backoff::default(),
        })
    }

    /// Serves until a signal comes and the last session has ended. Returns once in the main
    /// process, and once in each worker.
    pub(crate) fn run(mut self) -> io::Result<Role> {
        loop {
            if self.listener.is_none() && self.workers.is_empty() {
                return Ok(Role::Supervisor {
                    drained: !self.cut_off,
                });
            }
            let ready = self.wait()?;
            if ready.worker {
                self.reap()?;
            }
            if ready.signal && !self.take_signals()? || self.is_too_late() {
                return Ok(self.cut_off_the_rest());
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
        if accepting && self.waiting.is_some() {
            return Ok(Ready {
                signal: false,
                worker: false,
                client: true,
            });
        }
        let listener = self
            .listener
            .as_ref()
            .filter(|_| accepting && self.waiting.is_none());

        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![watch(self.signals.as_fd()), watch(self.workers.as_fd())];
        fds.extend(listener.map(|listener| watch(listener.as_fd())));
        match poll(
            &mut fds,
            timeout(paused.into_iter().chain(self.deadline).min()),
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }

        let is_ready = |index: usize| fds.get(index).is_some_and(|fd| fd.any() == Some(true));
        Ok(Ready {
            signal: is_ready(0),
            worker: is_ready(1),
            client: is_ready(2),
        })
    }

    /// Reaps every worker that has ended.
    fn reap(&mut self) -> io::Result<()> {
        for exit in self.workers.wait(Some(Duration::ZERO))? {
            self.backoff.try_now();
            match exit.status {
                Ok(status) if status.success() => {}
                Ok(status) => {
                    self.cut_off |= self.listener.is_none();
                    log(format_args!("worker {} failed: {status}", exit.id));
                }
                Err(error) => log(format_args!("{error}")),
            }
        }
        Ok(())
    }

    /// The first signal starts the drain; `false` at the second.
    fn take_signals(&mut self) -> io::Result<bool> {
        while self.signals.read_signal()?.is_some() {
            if self.listener.take().is_none() {
                return Ok(false);
            }
            self.waiting = None;
            let left = self.workers.len();
            let sessions = if left == 1 { "session" } else { "sessions" };
            log(format_args!(
                "no new clients; {left} {sessions} left to finish"
            ));
            if !self.drain_timeout.is_zero() {
                self.deadline = Instant::now().checked_add(self.drain_timeout);
            }
        }
        Ok(true)
    }

    /// The workers are killed and reaped when we are dropped.
    fn cut_off_the_rest(&self) -> Role {
        let left = self.workers.len();
        if left > 0 {
            log(format_args!("{} cut off", sessions(left)));
        }
        Role::Supervisor {
            drained: left == 0 && !self.cut_off,
        }
    }

    fn is_too_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Forks a worker for the next client. The connection comes back in the worker.
    fn serve_next(&mut self) -> Option<TcpStream> {
        let connection = self.next_client()?;
        match reexec::fork() {
            Ok(Fork::Child) => return Some(connection),
            // Our copy of the connection is closed at the end of this block: kept, it would hold
            // the connection open after the worker has ended.
            Ok(Fork::Parent(worker)) => {
                drop(connection);
                if let Err(error) = self.workers.add(worker, ()) {
                    self.pause(&format!("cannot watch another worker: {error}"));
                    return None;
                }
            }
            Err(error) => {
                self.waiting = Some(connection);
                self.pause(&format!("cannot fork: {error}"));
                return None;
            }
        }
        if self.backoff.leave() {
            log(format_args!("accepting again"));
        }
        None
    }

    fn next_client(&mut self) -> Option<TcpStream> {
        if let Some(connection) = self.waiting.take() {
            return Some(connection);
        }
        match self.listener.as_ref()?.accept() {
            Ok((connection, _)) => Some(connection),
            Err(error) if is_the_clients(&error) => None,
            Err(error) => {
                self.pause(&format!("cannot accept: {error}"));
                None
            }
        }
    }

    fn pause(&mut self, problem: &str) {
        if self.backoff.enter() {
            log(format_args!("{problem}; clients wait until it works"));
        }
    }
}

fn sessions(count: usize) -> String {
    if count == 1 {
        "1 session".to_owned()
    } else {
        format!("{count} sessions")
    }
}

/// None is left to accept, or the next has gone before it was served, which accept(2) says with
/// whatever error its connection had. Not a shortage of ours.
fn is_the_clients(error: &io::Error) -> bool {
    use Errno::{
        EAGAIN, ECONNABORTED, ECONNRESET, EHOSTDOWN, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH,
        ENONET, ENOPROTOOPT, EOPNOTSUPP, EPROTO, ETIMEDOUT,
    };
    const OF_THE_CONNECTION: [Errno; 13] = [
        EAGAIN,
        ECONNABORTED,
        ECONNRESET,
        EHOSTDOWN,
        EHOSTUNREACH,
        EINTR,
        ENETDOWN,
        ENETUNREACH,
        ENONET,
        ENOPROTOOPT,
        EOPNOTSUPP,
        EPROTO,
        ETIMEDOUT,
    ];
    error
        .raw_os_error()
        .is_some_and(|number| OF_THE_CONNECTION.contains(&Errno::from_raw(number)))
}

/// Rounded up to whole milliseconds, or the loop would be busy for the last one.
fn timeout(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else {
        return PollTimeout::NONE;
    };
    let left = until.saturating_duration_since(Instant::now()) + Duration::from_nanos(999_999);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
