//! How a worker of the pool takes clients: until it is ordered to stop.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::backoff::Backoff;
use crate::deadline::time_left;
use crate::listener::{Accepted, Listener};
use crate::log::log;

/// Keys of the two descriptors that are always watched; others take smaller ones.
const LISTENER: u64 = u64::MAX;
const ORDERS: u64 = u64::MAX - 1;

/// What there is to do for the worker.
pub(crate) enum Event {
    Client(TcpStream, IpAddr),
    /// The descriptor that was added to [`Intake::epoll`] under this key is ready.
    Ready(u64),
    /// The deadline has come, or nothing in particular.
    Nothing,
    /// No more clients, for good.
    Closed,
}

pub(crate) struct Intake {
    epoll: Epoll,
    /// `None` once no more clients are to be taken.
    listener: Option<Listener>,
    /// At its end when the supervisor says so, or is no more.
    orders: OwnedFd,
    /// Whether to take all who are there before looking at anything else.
    all_at_once: bool,
    is_watching: bool,
    has_room: bool,
    /// A client for whom there was no room.
    waiting: Option<(TcpStream, IpAddr)>,
    backoff: Backoff,
    events: Vec<EpollEvent>,
}

impl Intake {
    pub(crate) fn new(listener: Listener, orders: OwnedFd, all_at_once: bool) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&orders, EpollEvent::new(EpollFlags::EPOLLIN, ORDERS))?;
        Ok(Self {
            epoll,
            listener: Some(listener),
            orders,
            all_at_once,
            is_watching: false,
            has_room: true,
            waiting: None,
            backoff: Backoff::default(),
            events: Vec::new(),
        })
    }

    /// For more descriptors to watch.
    pub(crate) fn epoll(&self) -> &Epoll {
        &self.epoll
    }

    /// Without room, nobody is accepted; they wait in the kernel's queue.
    pub(crate) fn set_room(&mut self, has_room: bool) {
        self.has_room = has_room;
    }

    /// There may be room again after a shortage.
    pub(crate) fn try_now(&mut self) {
        self.backoff.try_now();
    }

    /// A shortage has come up only after the client was accepted. It will be the next one.
    pub(crate) fn put_back(&mut self, connection: TcpStream, source: IpAddr, problem: &str) {
        self.waiting = Some((connection, source));
        self.pause(problem);
    }

    /// Whether there is such a client, who is to be served also if nobody else is.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// The pipe that becomes readable when the supervisor wants no more clients accepted here; `None`
    /// after [`close`](Self::close), which is then due. [`next`](Self::next) does both on its own.
    pub(crate) fn stop_pipe(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(|_| self.orders.as_fd())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.listener.is_none()
    }

    /// What was accepted last is being served, so there is no shortage.
    pub(crate) fn is_served(&mut self) {
        if self.backoff.leave() {
            log(format_args!("accepting again"));
        }
    }

    /// Waits for something to do, until `deadline` at most.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> io::Result<Event> {
        loop {
            if self.may_serve()
                && let Some((connection, source)) = self.waiting.take()
            {
                return Ok(Event::Client(connection, source));
            }
            let Some(event) = self.events.pop() else {
                return self.wait(deadline).map(|()| Event::Nothing);
            };
            match event.data() {
                ORDERS => {
                    self.close()?;
                    return Ok(Event::Closed);
                }
                LISTENER => {
                    if let Some(event) = self.accept(event) {
                        return Ok(event);
                    }
                }
                key => return Ok(Event::Ready(key)),
            }
        }
    }

    fn may_serve(&mut self) -> bool {
        self.has_room && self.backoff.until().is_none()
    }

    fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.watch_if_open()?;
        let is_wanted = self.listener.is_some() || self.waiting.is_some();
        let paused = self.backoff.until().filter(|_| is_wanted);
        let until = deadline.into_iter().chain(paused).min();
        let mut events = [EpollEvent::empty(); 128];
        // What has come while this worker was in a session; there has been no need to wake it up.
        let mut count = self.look(&mut events, EpollTimeout::ZERO)?;
        let has_slept = count == 0;
        if has_slept {
            count = self.look(&mut events, time_left(until))?;
        }
        self.events.extend(events[..count].iter().rev());
        if !has_slept {
            // Orders come first, also if a client came before them while this worker was in a
            // session: whoever has the listener after us will serve it.
            self.events.sort_by_key(|event| event.data() == ORDERS);
        }
        // Otherwise each in its turn, as the kernel tells of them. Did orders come first then, too:
        // 1. A client comes, and wakes this worker up, and none of the others.
        // 2. Before it runs, the orders come.
        // 3. It leaves, and the others sleep on until the next client comes.
        Ok(())
    }

    fn look(&self, events: &mut [EpollEvent], timeout: EpollTimeout) -> io::Result<usize> {
        match self.epoll.wait(events, timeout) {
            Err(Errno::EINTR) => Ok(0),
            result => Ok(result?),
        }
    }

    fn watch_if_open(&mut self) -> io::Result<()> {
        let is_open = self.may_serve() && self.waiting.is_none();
        let Some(listener) = &self.listener else {
            return Ok(());
        };
        if is_open && !self.is_watching {
            // Exclusive: of the idle workers, one is woken up for a client, and not all of them.
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
            self.epoll
                .add(listener.as_fd(), EpollEvent::new(flags, LISTENER))?;
        } else if !is_open && self.is_watching {
            self.epoll.delete(listener.as_fd())?;
        }
        self.is_watching = is_open;
        Ok(())
    }

    fn accept(&mut self, event: EpollEvent) -> Option<Event> {
        // It may have filled up since the look at the descriptors.
        if !self.may_serve() {
            return None;
        }
        match self.listener.as_ref()?.accept() {
            Accepted::Client(connection, source) => {
                if self.all_at_once {
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
                None
            }
        }
    }

    /// Lets go of the listener: no more clients.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        if let Some(listener) = self.listener.take() {
            if self.is_watching {
                self.epoll.delete(listener.as_fd())?;
            }
            self.epoll.delete(self.orders.as_fd())?;
        }
        Ok(())
    }

    fn pause(&mut self, problem: &str) {
        if self.backoff.enter() {
            log(format_args!("{problem}; clients wait until it works"));
        }
    }
}
