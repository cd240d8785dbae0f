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
        deadlines: BinaryHeap::new(),
        patience,
        buffer: vec![0; BUFFER],
    };
    let mut is_closed = false;
    while !is_closed || !server.clients.is_empty() {
        let max = options.max_children();
        server
            .intake
            .set_room(max.is_none_or(|max| server.clients.len() < max));
        let deadline = server
            .deadlines
            .peek()
            .map(|Reverse((deadline, _))| *deadline);
        match server.intake.next(deadline)? {
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
    /// One for each client that has a deadline at all, at which that client is looked at. It may
    /// have got another by then: so bytes that come do not have to be booked here.
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
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
        let deadline = client.deadline(self.patience);
        self.deadlines
            .extend(deadline.map(|deadline| Reverse((deadline, key))));
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
        while let Some(&Reverse((deadline, key))) = self.deadlines.peek()
            && deadline <= now
        {
            self.deadlines.pop();
            let Some(client) = self.clients.get(&key) else {
                continue;
            };
            match client.deadline(self.patience) {
                Some(later) if later > now => self.deadlines.push(Reverse((later, key))),
                Some(_) => self.take_leave(key, client.session.is_late())?,
                None => {}
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
