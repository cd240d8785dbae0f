//! Accepts clients in a worker of the pool, until the supervisor tells it to stop.

use std::io;
use std::mem;
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::unistd::close;

use crate::log::log;
use crate::poll::time_left;
use crate::server::backoff::Backoff;
use crate::server::listener::{Accepted, Listener};

/// The keys of the listener and of the stop pipe. Models use smaller keys for their descriptors.
const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// How many clients are accepted in a row. After that, other events have their turn, even if clients
/// come faster than we accept them.
const AT_ONCE: usize = 32;

/// What the worker has to do next.
pub(crate) enum Event {
    Client(TcpStream, IpAddr),
    /// The descriptor that was added to [`Acceptor::epoll`] under this key is ready.
    Ready(u64),
    /// Accepting pauses, because something is missing for it.
    Paused,
    /// There will be no more clients, except one that [is waiting](Acceptor::has_waiting).
    Closed,
}

pub(crate) struct Acceptor {
    epoll: Epoll,
    /// `None` once no more clients are accepted.
    listener: Option<Listener>,
    /// At its end when the supervisor closes the other end, or has ended.
    stop_pipe: OwnedFd,
    /// Clients accepted since the last wait.
    in_a_row: usize,
    is_watching: bool,
    has_room: bool,
    /// A client that was accepted, and for which there was no room.
    waiting: Option<(TcpStream, IpAddr)>,
    backoff: Backoff,
    events: Vec<EpollEvent>,
}

impl Acceptor {
    pub(crate) fn new(listener: Listener, stop_pipe: OwnedFd) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&stop_pipe, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        Ok(Self {
            epoll,
            listener: Some(listener),
            stop_pipe,
            in_a_row: 0,
            is_watching: false,
            has_room: true,
            waiting: None,
            backoff: Backoff::default(),
            events: Vec::new(),
        })
    }

    /// Closes, in a forked process, its copies of our descriptors. Their memory is not freed: freeing writes
    /// to it, and the kernel would have to copy each page that is written to.
    pub(crate) fn leave(self) {
        let own = [self.epoll.0.as_raw_fd(), self.stop_pipe.as_raw_fd()];
        for fd in own.into_iter().chain(self.listener.iter().map(AsRawFd::as_raw_fd)) {
            let _ = close(fd);
        }
        mem::forget(self);
    }

    /// Lets a model watch more descriptors.
    pub(crate) fn epoll(&self) -> &Epoll {
        &self.epoll
    }

    /// Sets whether there is room for another client. Otherwise clients wait in the kernel's queue.
    pub(crate) fn set_room(&mut self, has_room: bool) {
        self.has_room = has_room;
    }

    /// Whether accepting pauses. The end of a session may give back what is missing.
    pub(crate) fn is_paused(&self) -> bool {
        self.backoff.until().is_some()
    }

    /// Ends a pause early because there may be room again.
    pub(crate) fn try_now(&mut self) {
        self.backoff.try_now();
    }

    /// Keeps a client that was accepted although there was no room for it, and pauses. It will be the
    /// next one.
    pub(crate) fn requeue(&mut self, connection: TcpStream, source: IpAddr, problem: &str) {
        self.waiting = Some((connection, source));
        self.pause(problem);
    }

    /// Whether a client was kept. It must be served also after the acceptor is closed.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// The pipe that becomes readable when the supervisor tells this worker to stop: then the caller must
    /// call [`close`](Self::close). [`next`](Self::next) does so itself. `None` when closed.
    pub(crate) fn stop_pipe(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(|_| self.stop_pipe.as_fd())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.listener.is_none()
    }

    /// Ends the pauses: the client that was accepted last is being served, so there is no shortage.
    pub(crate) fn resume(&mut self) {
        if self.backoff.leave() {
            log(format_args!("accepting again"));
        }
    }

    /// Returns what there is to do, without waiting. `None` if nothing is left: then the caller must
    /// [`wait`](Self::wait).
    pub(crate) fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if self.may_serve()
                && let Some((connection, source)) = self.waiting.take()
            {
                return Ok(Some(Event::Client(connection, source)));
            }
            let Some(event) = self.events.pop() else {
                return Ok(None);
            };
            match event.data() {
                STOP => {
                    self.close()?;
                    return Ok(Some(Event::Closed));
                }
                LISTENER => {
                    if let Some(event) = self.accept(event) {
                        return Ok(Some(event));
                    }
                }
                key => return Ok(Some(Event::Ready(key))),
            }
        }
    }

    fn may_serve(&self) -> bool {
        self.has_room && self.backoff.until().is_none()
    }

    /// Waits for something to do, or for the deadline.
    pub(crate) fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.watch_if_open()?;
        let is_wanted = self.listener.is_some() || self.waiting.is_some();
        let paused = self.backoff.until().filter(|_| is_wanted);
        let until = deadline.into_iter().chain(paused).min();
        let mut events = [EpollEvent::empty(); 128];
        let count = match self.epoll.wait(&mut events, time_left(until)) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        // The kernel's order stays. If stop came first:
        // 1. A client comes. The kernel wakes this worker up, and none of the others.
        // 2. Before this worker runs, it is told to stop.
        // 3. It leaves. The others sleep until the next client comes, and the first one waits.
        self.events.extend(events[..count].iter().rev());
        self.in_a_row = 0;
        Ok(())
    }

    fn watch_if_open(&mut self) -> io::Result<()> {
        let is_open = self.may_serve() && self.waiting.is_none();
        let Some(listener) = &self.listener else {
            return Ok(());
        };
        if is_open && !self.is_watching {
            // With EPOLLEXCLUSIVE, a client wakes up one of the idle workers, and not all of them.
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
            self.epoll.add(listener.as_fd(), EpollEvent::new(flags, LISTENER))?;
        } else if !is_open && self.is_watching {
            self.epoll.delete(listener.as_fd())?;
        }
        self.is_watching = is_open;
        Ok(())
    }

    fn accept(&mut self, event: EpollEvent) -> Option<Event> {
        // There may be no room any more, since the events were collected.
        if !self.may_serve() {
            return None;
        }
        match self.listener.as_ref()?.accept() {
            Accepted::Client(connection, source) => {
                // Others may be waiting: we find out sooner by trying than by asking epoll.
                self.in_a_row += 1;
                if self.in_a_row < AT_ONCE {
                    self.events.push(event);
                }
                Some(Event::Client(connection, source))
            }
            Accepted::Nobody => None,
            Accepted::Closed => {
                // If epoll refuses, the listener is closed all the same.
                let _ = self.close();
                Some(Event::Closed)
            }
            Accepted::Shortage(error) => {
                self.pause(&format!("cannot accept: {error}"));
                Some(Event::Paused)
            }
        }
    }

    /// Closes the listener: no more clients are accepted here.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        if let Some(listener) = self.listener.take() {
            if self.is_watching {
                self.epoll.delete(listener.as_fd())?;
            }
            self.epoll.delete(self.stop_pipe.as_fd())?;
        }
        Ok(())
    }

    /// Pauses, because something is missing. Clients wait in the kernel's queue.
    pub(crate) fn pause(&mut self, problem: &str) {
        if self.backoff.enter() {
            log(format_args!("{problem}; clients wait until it works"));
        }
    }
}
