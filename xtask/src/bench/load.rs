//! Load for echo servers, by one thread that never waits for a single connection. Every byte that
//! comes back is compared with the one that was sent.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::SockaddrIn;

use crate::loopback::{self, CHUNK, Pattern, is_for_later};

/// Bytes of a message.
const MESSAGE: u64 = 24;

/// New connections at once.
const AT_ONCE: usize = 32;

/// Connections that play ping-pong.
const PLAYERS: usize = 16;

/// When a server that says nothing is given up.
const PATIENCE: u16 = 5_000; // milliseconds

/// How many times a second something took place, and how long it took.
pub(super) struct Rate {
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// Connects to one server, in several manners.
pub(super) struct Load {
    server: SockaddrIn,
    epoll: Epoll,
    pattern: Pattern,
    buffer: Vec<u8>,
    /// Connections made until now.
    made: u64,
    /// Bytes that came back.
    pub(super) compared: u64,
    /// Those of them that were not what had been sent.
    pub(super) wrong: u64,
}

/// One connection, on which bytes are sent until there are `goal` of them.
struct Connection {
    stream: TcpStream,
    number: u64,
    goal: u64,
    sent: u64,
    received: u64,
    /// Whether to end our side of the stream at the goal.
    ends: bool,
    half_closed: bool,
    /// What the epoll waits for.
    interest: EpollFlags,
    /// When this message, or the whole session, began.
    began: Instant,
}

/// How far a connection has come.
#[derive(PartialEq)]
enum Progress {
    Going,
    /// All that was to be sent has come back.
    AtGoal,
    /// Both sides have ended their streams.
    Over,
}

impl Load {
    pub(super) fn new(server: SocketAddrV4) -> Result<Self, String> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        Ok(Self {
            server: server.into(),
            epoll: epoll.map_err(|error| format!("cannot make an epoll: {error}"))?,
            pattern: Pattern::new(),
            buffer: vec![0; CHUNK],
            made: 0,
            compared: 0,
            wrong: 0,
        })
    }

    /// One session as in [`Load::sessions`].
    pub(super) fn session(&mut self) -> Result<(), String> {
        let mut connection = self.open(0, MESSAGE, true)?;
        while self.exchange(0, &mut connection)? != Progress::Over {
            drop(self.ready()?);
        }
        Ok(())
    }

    /// Sessions, so many at once: connect, a message there and back, half-close, end of stream.
    pub(super) fn sessions(&mut self, length: Duration) -> Result<Rate, String> {
        let began = Instant::now();
        let mut times = Vec::new();
        let mut connections = self.open_some(AT_ONCE, MESSAGE, true)?;
        let mut open = connections.len();
        while open > 0 {
            for index in self.ready()? {
                let connection = &mut connections[index];
                if self.exchange(index, connection)? != Progress::Over {
                    continue;
                }
                let now = Instant::now();
                if now - began < length {
                    times.push(now - connection.began);
                    // Its predecessor is closed by this.
                    *connection = self.open(index, MESSAGE, true)?;
                } else {
                    open -= 1;
                    let _ = self.epoll.delete(&connection.stream);
                }
            }
        }
        Ok(rate(times, length))
    }

    /// Messages there and back, one at a time on each of some connections.
    pub(super) fn ping_pong(&mut self, length: Duration) -> Result<Rate, String> {
        let mut connections = self.hold(PLAYERS)?;
        let mut times = Vec::new();
        let began = Instant::now();
        for (index, connection) in connections.iter_mut().enumerate() {
            self.next_message(index, connection)?;
        }
        let mut playing = connections.len();
        while playing > 0 {
            for index in self.ready()? {
                let connection = &mut connections[index];
                if self.exchange(index, connection)? != Progress::AtGoal {
                    continue;
                }
                let now = Instant::now();
                if now - began < length {
                    times.push(now - connection.began);
                    self.next_message(index, connection)?;
                } else {
                    playing -= 1;
                }
            }
        }
        self.release(connections)?;
        Ok(rate(times, length))
    }

    /// As much as goes through one connection, in MiB a second.
    pub(super) fn bulk(&mut self, length: Duration) -> Result<f64, String> {
        let mut connection = self.open(0, u64::MAX, true)?;
        while self.exchange(0, &mut connection)? != Progress::Over {
            drop(self.ready()?);
            if connection.goal == u64::MAX && connection.began.elapsed() >= length {
                connection.goal = connection.sent;
            }
        }
        let mib = connection.received as f64 / f64::from(1 << 20);
        Ok(mib / connection.began.elapsed().as_secs_f64())
    }

    /// Connections that stay, each of which has been served once.
    pub(super) fn held(&mut self, count: usize) -> Result<Held<'_>, String> {
        let connections = self.hold(count)?;
        Ok(Held {
            load: self,
            connections,
        })
    }

    /// Some at a time: a server whose backlog is short loses what does not fit in.
    fn hold(&mut self, count: usize) -> Result<Vec<Connection>, String> {
        let mut connections = self.open_some(count.min(AT_ONCE), MESSAGE, false)?;
        let mut served = 0;
        while served < count {
            for index in self.ready()? {
                if self.exchange(index, &mut connections[index])? != Progress::AtGoal {
                    continue;
                }
                served += 1;
                if connections.len() < count {
                    connections.push(self.open(connections.len(), MESSAGE, false)?);
                }
            }
        }
        Ok(connections)
    }

    fn release(&mut self, mut connections: Vec<Connection>) -> Result<(), String> {
        let mut open = connections.len();
        for connection in &mut connections {
            connection.half_close()?;
        }
        while open > 0 {
            for index in self.ready()? {
                if self.exchange(index, &mut connections[index])? == Progress::Over {
                    open -= 1;
                    let _ = self.epoll.delete(&connections[index].stream);
                }
            }
        }
        Ok(())
    }

    fn open_some(
        &mut self,
        count: usize,
        goal: u64,
        ends: bool,
    ) -> Result<Vec<Connection>, String> {
        (0..count)
            .map(|index| self.open(index, goal, ends))
            .collect()
    }

    /// Connects, and sends what goes out at once. `index` is what [`Load::ready`] will call it.
    fn open(&mut self, index: usize, goal: u64, ends: bool) -> Result<Connection, String> {
        let began = Instant::now();
        let number = self.made;
        let stream = loopback::connect(&self.server, number).map_err(|error| {
            format!(
                "cannot connect to {}, connection {number}: {error}",
                self.server
            )
        })?;
        self.made += 1;
        let mut connection = Connection {
            stream,
            number,
            goal,
            sent: 0,
            received: 0,
            ends,
            half_closed: false,
            interest: EpollFlags::empty(),
            began,
        };
        self.send(&mut connection)?;
        connection.interest = connection.wanted();
        let event = EpollEvent::new(connection.interest, index as u64);
        self.epoll
            .add(&connection.stream, event)
            .map_err(|error| format!("cannot watch connection {number}: {error}"))?;
        Ok(connection)
    }

    /// Which connections can go on.
    fn ready(&self) -> Result<impl Iterator<Item = usize> + use<>, String> {
        let mut events = [EpollEvent::empty(); 64];
        let count = loop {
            match self.epoll.wait(&mut events, EpollTimeout::from(PATIENCE)) {
                Ok(0) => return Err(format!("no answer within {} s", PATIENCE / 1000)),
                Ok(count) => break count,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(format!("cannot wait for an answer: {error}")),
            }
        };
        let ready = events.into_iter().take(count);
        Ok(ready.map(|event| event.data() as usize))
    }

    /// Sends and receives what is possible without waiting, but not more than a chunk of each.
    fn exchange(&mut self, index: usize, connection: &mut Connection) -> Result<Progress, String> {
        self.send(connection)?;
        let over = self.receive(connection)?;
        let at_goal = connection.received == connection.goal;
        if at_goal && connection.ends && !connection.half_closed {
            connection.half_close()?;
        }
        self.watch(index, connection)?;
        Ok(match (over, at_goal) {
            (true, _) => Progress::Over,
            (false, true) => Progress::AtGoal,
            (false, false) => Progress::Going,
        })
    }

    fn next_message(&mut self, index: usize, connection: &mut Connection) -> Result<(), String> {
        connection.goal += MESSAGE;
        connection.began = Instant::now();
        self.send(connection)?;
        self.watch(index, connection)
    }

    fn watch(&self, index: usize, connection: &mut Connection) -> Result<(), String> {
        let wanted = connection.wanted();
        if wanted == connection.interest {
            return Ok(());
        }
        connection.interest = wanted;
        let mut event = EpollEvent::new(wanted, index as u64);
        self.epoll
            .modify(&connection.stream, &mut event)
            .map_err(|error| connection.error("cannot watch it", error))
    }

    fn send(&self, connection: &mut Connection) -> Result<(), String> {
        let left = connection.goal - connection.sent;
        if left == 0 {
            return Ok(());
        }
        let length = left.min(CHUNK as u64) as usize;
        let bytes = self
            .pattern
            .bytes(connection.number, connection.sent, length);
        match connection.stream.write(bytes) {
            Ok(length) => connection.sent += length as u64,
            // NotConnected cannot be: a socket that is still connecting says EAGAIN.
            Err(error) if is_for_later(&error) => {}
            Err(error) => return Err(connection.error("cannot send", error)),
        }
        Ok(())
    }

    /// Returns whether the server has ended its side of the stream, as it should.
    fn receive(&mut self, connection: &mut Connection) -> Result<bool, String> {
        let length = match connection.stream.read(&mut self.buffer) {
            Ok(0) if connection.half_closed && connection.received == connection.sent => {
                return Ok(true);
            }
            Ok(0) => return Err(connection.error("the server has ended the stream", "too early")),
            Ok(length) => length,
            Err(error) if is_for_later(&error) => return Ok(false),
            Err(error) => return Err(connection.error("cannot receive", error)),
        };
        let came = &self.buffer[..length];
        let sent = self
            .pattern
            .bytes(connection.number, connection.received, length);
        self.compared += length as u64;
        if came != sent {
            let wrong = came.iter().zip(sent).filter(|(came, sent)| came != sent);
            self.wrong += wrong.count() as u64;
            return Err(connection.error("not what was sent", "wrong bytes"));
        }
        connection.received += length as u64;
        if connection.received > connection.sent {
            self.wrong += connection.received - connection.sent;
            return Err(connection.error("more has come back than was sent", "wrong bytes"));
        }
        Ok(false)
    }
}

impl Connection {
    fn wanted(&self) -> EpollFlags {
        if self.sent < self.goal {
            EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
        } else {
            EpollFlags::EPOLLIN
        }
    }

    fn half_close(&mut self) -> Result<(), String> {
        self.half_closed = true;
        self.stream
            .shutdown(Shutdown::Write)
            .map_err(|error| self.error("cannot end the stream", error))
    }

    fn error(&self, what: &str, why: impl std::fmt::Display) -> String {
        format!(
            "connection {}, {} bytes sent, {} back: {what}: {why}",
            self.number, self.sent, self.received
        )
    }
}

/// Connections that a server has to hold.
pub(super) struct Held<'a> {
    load: &'a mut Load,
    connections: Vec<Connection>,
}

impl Held<'_> {
    /// Ends them, as sessions end.
    pub(super) fn release(self) -> Result<(), String> {
        self.load.release(self.connections)
    }
}

fn rate(times: Vec<Duration>, length: Duration) -> Rate {
    let mut times = times;
    times.sort_unstable();
    let at = |part: f64| {
        let index = (times.len() as f64 * part) as usize;
        times
            .get(index)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    };
    Rate {
        per_second: times.len() as f64 / length.as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::thread::{self, JoinHandle};

    use super::*;

    /// Serves so many connections, one after the other, and sends back what `answer` makes of it.
    fn server(count: usize, answer: fn(&mut [u8])) -> (SocketAddrV4, JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            panic!("not IPv4");
        };
        let serve = move || {
            for _ in 0..count {
                let (mut connection, _) = listener.accept().unwrap();
                let mut buffer = [0; 1000];
                while let Ok(length @ 1..) = connection.read(&mut buffer) {
                    answer(&mut buffer[..length]);
                    if connection.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
            }
        };
        (address, thread::spawn(serve))
    }

    #[test]
    fn an_honest_server_is_measured() {
        let (address, server) = server(2, |_| {});
        let mut load = Load::new(address).unwrap();
        load.session().unwrap();
        assert_eq!(load.compared, MESSAGE);
        assert!(load.bulk(Duration::from_millis(50)).unwrap() > 0.0);
        assert_eq!(load.wrong, 0);
        server.join().unwrap();
    }

    #[test]
    fn one_wrong_byte_is_found() {
        let (address, server) = server(1, |bytes| {
            if let [.., last] = bytes {
                *last ^= 1;
            }
        });
        let mut load = Load::new(address).unwrap();
        let error = load.session().unwrap_err();
        assert!(error.contains("wrong bytes"), "{error}");
        assert_eq!((load.compared, load.wrong), (MESSAGE, 1));
        drop(load);
        server.join().unwrap();
    }

    #[test]
    fn a_server_that_ends_too_early_is_found() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            panic!("not IPv4");
        };
        let serve = move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut message = [0; MESSAGE as usize];
            connection.read_exact(&mut message).unwrap();
        };
        let server = thread::spawn(serve);
        let error = Load::new(address).unwrap().session().unwrap_err();
        assert!(error.contains("too early"), "{error}");
        server.join().unwrap();
    }
}
