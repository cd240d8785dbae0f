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
use crate::session::{BUFFER, End, Name, Patience, Session, Turn, is_not_now};

pub(crate) fn serve(seat: Seat, options: &Options, patience: Patience) -> io::Result<()> {
    let mut server = Multiplex {
        record: Record::new(seat.board, seat.row, options.max_per_source()),
        intake: Intake::new(seat.listener, seat.orders, true)?,
        clients: HashMap::new(),
        next_key: 0,
        looks: BinaryHeap::new(),
        patience,
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
    patience: Patience,
    /// For all sessions: what is in it has gone, or is kept by the session, after each turn.
    buffer: Vec<u8>,
}

struct Client {
    session: Session,
    source: IpAddr,
    name: Name,
    /// What the loop waits for: room to write, or else bytes to read.
    is_writing: bool,
    last_progress: Instant,
}

impl Client {
    fn deadline(&self, patience: Patience) -> Option<Instant> {
        let time = if self.is_writing {
            patience.write
        } else {
            patience.idle
        };
        self.last_progress.checked_add(time?)
    }

    /// Not after any deadline that it can have by then, as it may turn from reading to writing.
    fn next_look(&self, patience: Patience, now: Instant) -> Option<Instant> {
        let soonest = [patience.idle, patience.write].into_iter().flatten().min();
        let any = soonest.and_then(|time| now.checked_add(time));
        self.deadline(patience).into_iter().chain(any).min()
    }
}

impl Multiplex {
    fn welcome(&mut self, connection: TcpStream, source: IpAddr) -> io::Result<()> {
        if !self.record.admits(source)? {
            return Ok(());
        }
        connection.set_nonblocking(true)?;
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
            session: Session::new(connection),
            source,
            is_writing: false,
            last_progress: Instant::now(),
        };
        let look = client.next_look(self.patience, client.last_progress);
        self.looks.extend(look.map(|time| Reverse((time, key))));
        self.clients.insert(key, client);
        Ok(())
    }

    fn turn(&mut self, key: u64) -> io::Result<()> {
        let Some(client) = self.clients.get_mut(&key) else {
            return Ok(());
        };
        match client.session.turn(&mut self.buffer) {
            Ok(Turn::Done) => client.last_progress = Instant::now(),
            Ok(Turn::Ended(end)) => return self.take_leave(key, end),
            Err(error) if is_not_now(&error) => {}
            Err(error) => {
                failure(format_args!("a session has failed: {error}"));
                return self.take_leave(key, End::Gone);
            }
        }
        if client.is_writing != client.session.has_unsent() {
            client.is_writing = !client.is_writing;
            let flags = if client.is_writing {
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
            let Some(client) = self.clients.get(&key) else {
                continue;
            };
            match client.deadline(self.patience) {
                Some(deadline) if deadline <= now => {
                    self.take_leave(key, client.session.is_late())?
                }
                _ => {
                    let look = client.next_look(self.patience, now);
                    self.looks.extend(look.map(|time| Reverse((time, key))));
                }
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
