//! One loop for all clients: none of them may keep the others waiting, so nothing in it blocks.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::{IpAddr, TcpStream};
use std::time::Instant;

use nix::sys::epoll::{EpollEvent, EpollFlags};

use crate::intake::{Event, Intake};
use crate::log::failure;
use crate::options::Options;
use crate::pool::Seat;
use crate::record::Record;
use crate::session::{BUFFER, End, Name, Session, Timeouts};

pub(crate) fn serve(seat: Seat, options: &Options, timeouts: Timeouts) -> io::Result<()> {
    let mut server = Multiplex {
        record: Record::new(seat.board, seat.row, options.max_per_source()),
        intake: Intake::new(seat.listener, seat.orders, true)?,
        clients: HashMap::new(),
        next_key: 0,
        looks: BinaryHeap::new(),
        timeouts,
        buffer: vec![0; BUFFER],
    };
    let mut is_closed = false;
    while !is_closed || !server.clients.is_empty() || server.intake.has_waiting() {
        let max = options.max_children();
        server
            .intake
            .set_room(max.is_none_or(|max| server.clients.len() < max));
        let look = server.looks.peek().map(|Reverse((time, _))| *time);
        match server.intake.next(look)? {
            Event::Client(connection, source) => server.welcome(connection, source)?,
            Event::Ready(key) => server.turn(key)?,
            Event::Closed => is_closed = true,
            Event::Nothing => server.disconnect_late()?,
        }
    }
    Ok(())
}

struct Multiplex {
    record: Record,
    intake: Intake,
    /// By a number of its own: that of a descriptor may be another client's by the time an event
    /// is looked at.
    clients: HashMap<u64, Client>,
    next_key: u64,
    /// One for each client that can have a deadline at all: when to look whether it is late. So
    /// bytes that come and go do not have to be booked here.
    looks: BinaryHeap<Reverse<(Instant, u64)>>,
    timeouts: Timeouts,
    /// For all sessions: what is in it has gone, or is kept by the session, after each turn.
    buffer: Vec<u8>,
}

struct Client {
    session: Session,
    source: IpAddr,
    name: Name,
}

impl Multiplex {
    fn welcome(&mut self, connection: TcpStream, source: IpAddr) -> io::Result<()> {
        if !self.record.admits(source)? {
            return Ok(());
        }
        let key = self.next_key;
        let readable = EpollEvent::new(EpollFlags::EPOLLIN, key);
        if let Err(error) = self.intake.epoll().add(&connection, readable) {
            self.record.is_put_back(source)?;
            let problem = format!("cannot watch another client: {error}");
            self.intake.put_back(connection, source, &problem);
            return Ok(());
        }
        self.intake.is_served();
        self.next_key += 1;
        let client = Client {
            name: Name::of(&connection),
            session: Session::new(connection, self.timeouts),
            source,
        };
        let look = client.session.earliest_deadline(Instant::now());
        self.looks.extend(look.map(|time| Reverse((time, key))));
        self.clients.insert(key, client);
        Ok(())
    }

    fn turn(&mut self, key: u64) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&key) else {
            return Ok(());
        };
        let was_writing = client.session.has_unsent();
        let result = client.session.turn(&mut self.buffer);
        if let Some(end) = end_of(result) {
            return self.take_leave(key, end);
        }
        // What the loop waits for: room to write, or else bytes to read.
        let is_writing = client.session.has_unsent();
        if is_writing != was_writing {
            let flags = if is_writing {
                EpollFlags::EPOLLOUT
            } else {
                EpollFlags::EPOLLIN
            };
            let mut event = EpollEvent::new(flags, key);
            self.intake
                .epoll()
                .modify(client.session.connection(), &mut event)?;
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
                self.take_leave(key, end)?;
            } else {
                let look = client.session.earliest_deadline(now);
                self.looks.extend(look.map(|time| Reverse((time, key))));
            }
        }
        Ok(())
    }

    fn take_leave(&mut self, key: u64, end: End) -> io::Result<()> {
        if let Some(client) = self.clients.remove(&key) {
            client.name.log(end);
            self.record.has_left(client.source)?;
            // Its descriptor may be what was missing.
            self.intake.try_now();
        }
        Ok(())
    }
}

/// A session that fails costs nobody else anything.
fn end_of(result: io::Result<Option<End>>) -> Option<End> {
    result.unwrap_or_else(|error| {
        failure(format_args!("a session has failed: {error}"));
        Some(End::Gone)
    })
}
