//! Measures how fast a server serves: one kind of load at a time, as fast as it goes.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::SockaddrIn;

use crate::load::connection::{CHUNK, Connection, Pattern, Received};

/// Bytes of a message.
const MESSAGE: u64 = 24;

/// New connections at once.
const AT_ONCE: usize = 32;

/// Connections that exchange messages.
const WITH_MESSAGES: usize = 16;

/// A server that does not answer for this long is given up.
const ANSWERS_WITHIN: u16 = 5_000; // milliseconds

/// How many times a second something took place, and how long it took.
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Connects to one server, in several manners.
pub(crate) struct Load {
    server: SockaddrIn,
    epoll: Epoll,
    pattern: Pattern,
    buffer: Vec<u8>,
    /// Connections made until now.
    pub(crate) made: u64,
    /// Bytes that came back.
    pub(crate) compared: u64,
    /// Those of them that differ from what was sent.
    pub(crate) wrong: u64,
}

/// Sends bytes on a connection until there are `goal` of them.
pub(crate) struct Client {
    connection: Connection,
    goal: u64,
    /// Whether to end our side of the stream at the goal.
    ends: bool,
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
    pub(crate) fn new(server: SocketAddrV4) -> Result<Self, String> {
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
    pub(crate) fn session(&mut self) -> Result<(), String> {
        let mut client = self.open(0, MESSAGE, true)?;
        while self.exchange(0, &mut client)? != Progress::Over {
            drop(self.ready()?);
        }
        Ok(())
    }

    /// Sessions, so many at once: connect, a message there and back, half-close, end of stream.
    pub(crate) fn sessions(&mut self, length: Duration) -> Result<Rate, String> {
        let began = Instant::now();
        let mut times = Vec::new();
        let mut clients = self.open_some(AT_ONCE, MESSAGE, true)?;
        let mut open = clients.len();
        while open > 0 {
            for index in self.ready()? {
                let client = &mut clients[index];
                if self.exchange(index, client)? != Progress::Over {
                    continue;
                }
                let now = Instant::now();
                if now - began < length {
                    times.push(now - client.began);
                    // Its predecessor is closed by this.
                    *client = self.open(index, MESSAGE, true)?;
                } else {
                    open -= 1;
                    let _ = self.epoll.delete(&client.connection.stream);
                }
            }
        }
        Ok(rate(times, length))
    }

    /// Messages there and back, one at a time on each of some connections.
    pub(crate) fn messages(&mut self, length: Duration) -> Result<Rate, String> {
        let mut clients = self.hold(WITH_MESSAGES)?;
        let mut times = Vec::new();
        let began = Instant::now();
        for (index, client) in clients.iter_mut().enumerate() {
            self.next_message(index, client)?;
        }
        let mut busy = clients.len();
        while busy > 0 {
            for index in self.ready()? {
                let client = &mut clients[index];
                if self.exchange(index, client)? != Progress::AtGoal {
                    continue;
                }
                let now = Instant::now();
                if now - began < length {
                    times.push(now - client.began);
                    self.next_message(index, client)?;
                } else {
                    busy -= 1;
                }
            }
        }
        self.release(clients)?;
        Ok(rate(times, length))
    }

    /// As much as goes through one connection, in MiB a second.
    pub(crate) fn bulk(&mut self, length: Duration) -> Result<f64, String> {
        let mut client = self.open(0, u64::MAX, true)?;
        while self.exchange(0, &mut client)? != Progress::Over {
            drop(self.ready()?);
            if client.goal == u64::MAX && client.began.elapsed() >= length {
                client.goal = client.connection.sent;
            }
        }
        let mib = client.connection.received as f64 / f64::from(1 << 20);
        Ok(mib / client.began.elapsed().as_secs_f64())
    }

    /// Connections that stay, each of which has been served once.
    ///
    /// They connect some at a time: a server with a short backlog loses connections that do not fit in.
    pub(crate) fn hold(&mut self, count: usize) -> Result<Vec<Client>, String> {
        let mut clients = self.open_some(count.min(AT_ONCE), MESSAGE, false)?;
        let mut served = 0;
        while served < count {
            for index in self.ready()? {
                if self.exchange(index, &mut clients[index])? != Progress::AtGoal {
                    continue;
                }
                served += 1;
                if clients.len() < count {
                    clients.push(self.open(clients.len(), MESSAGE, false)?);
                }
            }
        }
        Ok(clients)
    }

    /// Ends them, as sessions end.
    pub(crate) fn release(&mut self, mut clients: Vec<Client>) -> Result<(), String> {
        let mut open = clients.len();
        for client in &mut clients {
            client.half_close()?;
        }
        while open > 0 {
            for index in self.ready()? {
                if self.exchange(index, &mut clients[index])? == Progress::Over {
                    open -= 1;
                    let _ = self.epoll.delete(&clients[index].connection.stream);
                }
            }
        }
        Ok(())
    }

    fn open_some(&mut self, count: usize, goal: u64, ends: bool) -> Result<Vec<Client>, String> {
        (0..count).map(|index| self.open(index, goal, ends)).collect()
    }

    /// Connects, and sends what goes out at once. `index` is what [`Load::ready`] will call it.
    fn open(&mut self, index: usize, goal: u64, ends: bool) -> Result<Client, String> {
        let began = Instant::now();
        let number = self.made;
        let connection = Connection::open(&self.server, number).map_err(|error| {
            format!("cannot connect to {}, connection {number}: {error}", self.server)
        })?;
        self.made += 1;
        let mut client = Client { connection, goal, ends, interest: EpollFlags::empty(), began };
        self.send(&mut client)?;
        client.interest = client.wanted();
        let event = EpollEvent::new(client.interest, index as u64);
        self.epoll
            .add(&client.connection.stream, event)
            .map_err(|error| format!("cannot watch connection {number}: {error}"))?;
        Ok(client)
    }

    /// Which connections can go on.
    fn ready(&self) -> Result<impl Iterator<Item = usize> + use<>, String> {
        let mut events = [EpollEvent::empty(); 64];
        let count = loop {
            match self.epoll.wait(&mut events, EpollTimeout::from(ANSWERS_WITHIN)) {
                Ok(0) => return Err(format!("no answer within {} s", ANSWERS_WITHIN / 1000)),
                Ok(count) => break count,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(format!("cannot wait for an answer: {error}")),
            }
        };
        let ready = events.into_iter().take(count);
        Ok(ready.map(|event| event.data() as usize))
    }

    /// Sends and receives what is possible without waiting, but not more than a chunk of each.
    fn exchange(&mut self, index: usize, client: &mut Client) -> Result<Progress, String> {
        self.send(client)?;
        let over = self.receive(client)?;
        let at_goal = client.connection.received == client.goal;
        if at_goal && client.ends && !client.connection.half_closed {
            client.half_close()?;
        }
        self.watch(index, client)?;
        Ok(match (over, at_goal) {
            (true, _) => Progress::Over,
            (false, true) => Progress::AtGoal,
            (false, false) => Progress::Going,
        })
    }

    fn next_message(&mut self, index: usize, client: &mut Client) -> Result<(), String> {
        client.goal += MESSAGE;
        client.began = Instant::now();
        self.send(client)?;
        self.watch(index, client)
    }

    fn watch(&self, index: usize, client: &mut Client) -> Result<(), String> {
        let wanted = client.wanted();
        if wanted == client.interest {
            return Ok(());
        }
        client.interest = wanted;
        let mut event = EpollEvent::new(wanted, index as u64);
        self.epoll
            .modify(&client.connection.stream, &mut event)
            .map_err(|error| client.error("cannot watch it", error))
    }

    fn send(&self, client: &mut Client) -> Result<(), String> {
        let left = client.goal - client.connection.sent;
        if left > 0 {
            let sent = client.connection.send(&self.pattern, left);
            sent.map_err(|error| client.error("cannot send", error))?;
        }
        Ok(())
    }

    /// Returns whether the server has ended its side of the stream, as it should.
    fn receive(&mut self, client: &mut Client) -> Result<bool, String> {
        let connection = &mut client.connection;
        match connection.receive(&self.pattern, &mut self.buffer) {
            Ok(Received::Nothing) => Ok(false),
            Ok(Received::EndOfStream)
                if connection.half_closed && connection.received == connection.sent =>
            {
                Ok(true)
            }
            Ok(Received::EndOfStream) => {
                Err(client.error("the server has ended the stream", "too early"))
            }
            Ok(Received::Bytes { count, wrong }) => {
                self.compared += count;
                self.wrong += wrong;
                match wrong {
                    0 => Ok(false),
                    _ => Err(client.error("not what was sent", "wrong bytes")),
                }
            }
            Err(error) => Err(client.error("cannot receive", error)),
        }
    }
}

impl Client {
    fn wanted(&self) -> EpollFlags {
        if self.connection.sent < self.goal {
            EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
        } else {
            EpollFlags::EPOLLIN
        }
    }

    fn half_close(&mut self) -> Result<(), String> {
        let half_closed = self.connection.half_close();
        half_closed.map_err(|error| self.error("cannot end the stream", error))
    }

    fn error(&self, what: &str, why: impl std::fmt::Display) -> String {
        format!("{}: {what}: {why}", self.connection)
    }
}

fn rate(times: Vec<Duration>, length: Duration) -> Rate {
    let mut times = times;
    times.sort_unstable();
    let at = |part: f64| {
        let index = (times.len() as f64 * part) as usize;
        times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    };
    Rate {
        per_second: times.len() as f64 / length.as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};
    use std::thread::{self, JoinHandle};

    use super::*;

    /// Serves `count` connections, one after the other, and sends back what `answer` makes of their bytes.
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
    fn a_correct_server_is_measured() {
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
