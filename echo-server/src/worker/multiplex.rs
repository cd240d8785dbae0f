//! One loop for all clients. Nothing in it blocks, because no client may keep the others waiting.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{IpAddr, TcpStream};
use std::time::Instant;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use crate::log::log_always;
use crate::ops::sandbox::Sandbox;
use crate::options::Options;
use crate::server::acceptor::{Acceptor, Event};
use crate::server::dispatch::PoolWorker;
use crate::server::pool_admission::Admission;
use crate::session::{BUFFER, End, Name, Session, Timeouts};

/// Accepts clients and serves all of them, until the supervisor tells this worker to stop and the last
/// session has ended.
pub(crate) fn serve(worker: PoolWorker, options: &Options, _: &Sandbox) -> io::Result<()> {
    let mut server = Multiplex {
        admission: Admission::new(worker.board, worker.row, options.max_per_source()),
        acceptor: Acceptor::new(worker.listener, worker.stop_pipe)?,
        max: options.max_children(),
        clients: HashMap::new(),
        next_key: 0,
        looks: BinaryHeap::new(),
        timeouts: Timeouts::of(options),
        buffer: vec![0; BUFFER],
    };
    loop {
        while let Some(event) = server.next()? {
            match event {
                Event::Client(connection, source) => server.begin(connection, source)?,
                Event::Ready(key) => server.step(key)?,
                Event::Paused | Event::Closed => {}
            }
        }
        server.admission.publish()?;
        if server.is_finished() {
            return Ok(());
        }
        let look = server.looks.peek().map(|Reverse((time, _))| *time);
        server.acceptor.wait(look)?;
        server.disconnect_late()?;
    }
}

struct Multiplex {
    admission: Admission,
    acceptor: Acceptor,
    /// How many clients to serve at once.
    max: Option<usize>,
    /// The key is a number of our own: that of a descriptor may belong to another client by the time we
    /// look at an event.
    clients: HashMap<u64, Client>,
    next_key: u64,
    /// When to look whether a client is late, one time for each client that can have a deadline. So
    /// nothing has to be changed here when bytes come and go.
    looks: BinaryHeap<Reverse<(Instant, u64)>>,
    timeouts: Timeouts,
    /// One for all sessions: after each step, its bytes have been sent, or the session keeps them.
    buffer: Vec<u8>,
}

struct Client {
    session: Session,
    source: IpAddr,
    name: Name,
}

impl Multiplex {
    fn next(&mut self) -> io::Result<Option<Event>> {
        self.acceptor.set_room(self.max.is_none_or(|max| self.clients.len() < max));
        self.acceptor.next()
    }

    /// Whether the supervisor has told this worker to stop, and the last session has ended.
    fn is_finished(&self) -> bool {
        self.acceptor.is_closed() && self.clients.is_empty() && !self.acceptor.has_waiting()
    }

    fn begin(&mut self, connection: TcpStream, source: IpAddr) -> io::Result<()> {
        if !self.admission.admit(source)? {
            return Ok(());
        }
        let key = self.next_key;
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, key);
        if let Err(error) = self.acceptor.epoll().add(&connection, readable) {
            self.admission.requeue(source)?;
            let problem = format!("cannot watch another client: {error}");
            self.acceptor.requeue(connection, source, &problem);
            return Ok(());
        }
        self.acceptor.resume();
        self.next_key += 1;
        let client = Client {
            name: Name::of(&connection),
            session: Session::new(connection, self.timeouts, Instant::now()),
            source,
        };
        let look = client.session.earliest_deadline(Instant::now());
        self.looks.extend(look.map(|time| Reverse((time, key))));
        self.clients.insert(key, client);
        self.forget_looks();
        Ok(())
    }

    /// Forgets when to look at clients that have left, once these are most of all looks. With short
    /// sessions, millions could be there before their times come.
    fn forget_looks(&mut self) {
        if self.looks.len() > 1000 + 2 * self.clients.len() {
            self.looks.retain(|Reverse((_, key))| self.clients.contains_key(key));
        }
    }

    fn step(&mut self, key: u64) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&key) else {
            return Ok(());
        };
        let was_writing = client.session.has_unsent();
        let result = client.session.step(&mut self.buffer);
        if let Some(end) = end_of(result) {
            return self.end(key, end);
        }
        // The loop waits for room to write, or else for bytes to read.
        let is_writing = client.session.has_unsent();
        if is_writing != was_writing {
            let flags = if is_writing { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
            let mut event = EpollEvent::new(flags, key);
            self.acceptor.epoll().modify(client.session.connection(), &mut event)?;
        }
        Ok(())
    }

    fn disconnect_late(&mut self) -> io::Result<()> {
        let now = Instant::now();
        while let Some(&Reverse((time, key))) = self.looks.peek()
            && time <= now
        {
            self.looks.pop();
            let Some(client) = self.clients.get_mut(&key) else {
                continue;
            };
            if let Some(end) = end_of(client.session.end_if_late(now)) {
                self.end(key, end)?;
            } else {
                let look = client.session.earliest_deadline(now);
                self.looks.extend(look.map(|time| Reverse((time, key))));
            }
        }
        Ok(())
    }

    fn end(&mut self, key: u64, end: End) -> io::Result<()> {
        if let Some(client) = self.clients.remove(&key) {
            client.name.log(end);
            self.admission.release(client.source)?;
            // A descriptor is free again. It may be what was missing.
            self.acceptor.try_now();
        }
        Ok(())
    }
}

/// How a session has ended. One that has failed is logged, and the others go on.
fn end_of(result: io::Result<Option<End>>) -> Option<End> {
    result.unwrap_or_else(|error| {
        log_always(format_args!("a session has failed: {error}"));
        Some(End::Gone)
    })
}
