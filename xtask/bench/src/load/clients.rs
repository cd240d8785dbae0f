//! The clients of a soak, and of a rolling replacement: many kinds at the same time.

use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{SockaddrIn, setsockopt, sockopt};
use serde::Serialize;

use crate::load::connection::{CHUNK, Connection, Pattern};
use crate::load::session::{Ending, Pace, Plan, Session, Trouble};

/// How many clients of each kind there are at a time in a soak.
pub(crate) const SOAK: &[(Kind, usize)] = &[
    (Kind::Short, 8),
    (Kind::Bulk, 4),
    (Kind::SlowReader, 8),
    (Kind::SlowWriter, 3),
    (Kind::Idle, 6),
    (Kind::Vanishing, 3),
    (Kind::Crowd, 48),
];

/// A crowd connects all at once, this often.
const CROWDS_EVERY: Duration = Duration::from_secs(2);

/// A client that has seen an error lets the server rest for a moment.
const AFTER_AN_ERROR: Duration = Duration::from_millis(20);

/// Streams are shorter than this.
const LONGEST_STREAM: u64 = 4 << 20;

/// Small against a stream, but not against a segment on the loopback device, which has 64 KiB: with
/// less, sender and receiver mostly wait for each other's timers.
const SMALL_BUFFER: usize = 128 * 1024;

/// The longest wait for an event: the soak does other things in between.
const TICK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Kind {
    /// A few bytes there and back.
    Short,
    /// Up to 4 MiB, also none at all; the client half-closes as soon as everything is sent.
    Bulk,
    /// Has a small buffer and takes its time, so that the server cannot write.
    SlowReader,
    /// Sends a few bytes at a time.
    SlowWriter,
    /// Gets its message back and stays for a while.
    Idle,
    /// Leaves in mid-session, by a reset or a plain close.
    Vanishing,
    /// As short, but many at the same moment.
    Crowd,
    /// Sends for so long, or half of it, a piece at a time.
    Long(Duration),
}

impl Kind {
    fn plan(self, rng: &mut Rng) -> Plan {
        let plan = Plan {
            goal: rng.u64(1..=64),
            read: Pace::FAST,
            write: Pace::FAST,
            stays: Duration::ZERO,
            vanishes_after: None,
            has_small_buffer: false,
        };
        match self {
            Kind::Short | Kind::Crowd => plan,
            Kind::Bulk => Plan { goal: stream_length(rng), ..plan },
            Kind::SlowReader => Plan {
                goal: rng.u64(LONGEST_STREAM / 4..LONGEST_STREAM),
                read: Pace { chunk: 16 * 1024, every: Duration::from_millis(rng.u64(2..10)) },
                has_small_buffer: true,
                ..plan
            },
            Kind::SlowWriter => {
                let chunk = rng.usize(1..200);
                Plan {
                    goal: chunk as u64 * rng.u64(10..60),
                    write: Pace { chunk, every: Duration::from_millis(rng.u64(5..30)) },
                    ..plan
                }
            }
            Kind::Long(length) => {
                const PIECES: u32 = 20;
                let chunk = rng.usize(1..2_000);
                let every = length.mul_f64(0.5 + rng.f64() / 2.0) / PIECES;
                let goal = chunk as u64 * u64::from(PIECES);
                Plan { goal, write: Pace { chunk, every }, ..plan }
            }
            Kind::Idle => Plan { stays: Duration::from_millis(rng.u64(300..2_000)), ..plan },
            Kind::Vanishing => {
                let goal = stream_length(rng).max(1);
                Plan { goal, vanishes_after: Some(rng.u64(0..goal)), ..plan }
            }
        }
    }

    /// When its next session begins after one that ended now.
    fn next(self, began: Instant, now: Instant, rng: &mut Rng) -> Instant {
        if self == Kind::Crowd {
            let crowds = (now - began).as_millis() / CROWDS_EVERY.as_millis() + 1;
            return began + CROWDS_EVERY * crowds as u32;
        }
        now + Duration::from_millis(rng.u64(0..10))
    }
}

/// As many short streams as long ones, on a scale of powers of two; and some that are empty.
fn stream_length(rng: &mut Rng) -> u64 {
    match rng.u32(0..23) {
        0 => 0,
        bits => rng.u64(1 << (bits - 1)..1 << bits),
    }
}

/// How the sessions ended until now.
#[derive(Default)]
pub(crate) struct Tally {
    /// All bytes came back, and then the end of the stream.
    pub(crate) complete: u64,
    pub(crate) bytes_compared: u64,
    /// The client itself left.
    pub(crate) given_up: u64,
    pub(crate) errors: Errors,
    /// A sentence for each session that lost bytes without an error.
    pub(crate) losses: Vec<String>,
    /// A sentence for each session that got other bytes than it had sent.
    pub(crate) wrong: Vec<String>,
}

/// Errors by kind.
#[derive(Default, Serialize)]
pub(crate) struct Errors {
    pub(crate) refused: u64,
    pub(crate) reset: u64,
    pub(crate) ended_early: u64,
    pub(crate) stuck: u64,
    pub(crate) other: u64,
}

/// A session that ended in an error.
pub(crate) struct Broken {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) sentence: String,
}

/// One of the clients, which has one session after another.
struct Client {
    kind: Kind,
    session: Option<Session>,
    /// When the next session begins.
    due: Instant,
    /// What the epoll waits for; empty if it does not know the connection.
    interest: EpollFlags,
}

pub(crate) struct Clients {
    server: SockaddrIn,
    epoll: Epoll,
    rng: Rng,
    pattern: Pattern,
    buffer: Vec<u8>,
    clients: Vec<Client>,
    /// Sessions begun until now.
    pub(crate) begun: u64,
    /// The crowd keeps time from here.
    began: Instant,
    pub(crate) tally: Tally,
    /// Errors since the soak last looked which of them a kill explains.
    pub(crate) broken: Vec<Broken>,
}

impl Clients {
    pub(crate) fn new(
        server: SocketAddrV4,
        kinds: &[(Kind, usize)],
        seed: u64,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let client = |kind| Client { kind, session: None, due: now, interest: EpollFlags::empty() };
        let clients = kinds.iter().flat_map(|&(kind, count)| (0..count).map(move |_| client(kind)));
        Ok(Self {
            server: server.into(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            rng: Rng::with_seed(seed),
            pattern: Pattern::new(),
            buffer: vec![0; CHUNK],
            clients: clients.collect(),
            begun: 0,
            began: now,
            tally: Tally::default(),
            broken: Vec::new(),
        })
    }

    /// Whether no session is going on.
    pub(crate) fn are_at_rest(&self) -> bool {
        self.clients.iter().all(|client| client.session.is_none())
    }

    /// Goes on with every session that can go on, after a short wait for one of them. New ones begin
    /// only if `may_begin`.
    pub(crate) fn step(&mut self, may_begin: bool) -> io::Result<()> {
        let now = Instant::now();
        for index in 0..self.clients.len() {
            match &self.clients[index].session {
                None if may_begin && self.clients[index].due <= now => self.begin(index, now),
                Some(session) if session.is_stuck(now) => {
                    self.end(index, now, Ending::Broken(Trouble::Stuck, "no progress".into()));
                }
                _ => {}
            }
            self.watch(index, now)?;
        }
        let mut events = [EpollEvent::empty(); 64];
        let timeout = EpollTimeout::from(self.until_something_is_due(now, may_begin));
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        for event in &events[..count] {
            let index = event.data() as usize;
            let now = Instant::now();
            let Some(session) = &mut self.clients[index].session else {
                continue;
            };
            let (compared, ending) = session.step(now, &self.pattern, &mut self.buffer);
            self.tally.bytes_compared += compared;
            if let Some(ending) = ending {
                self.end(index, now, ending);
            }
        }
        Ok(())
    }

    fn begin(&mut self, index: usize, now: Instant) {
        let client = &mut self.clients[index];
        let number = self.begun;
        self.begun += 1;
        let plan = client.kind.plan(&mut self.rng);
        let connection = Connection::open(&self.server, number).and_then(|connection| {
            if plan.has_small_buffer {
                setsockopt(&connection.stream, sockopt::RcvBuf, &SMALL_BUFFER)?;
            }
            Ok(connection)
        });
        match connection {
            Ok(connection) => client.session = Some(Session::new(connection, plan, now)),
            Err(error) => {
                let ending = Ending::broken("cannot connect", &error);
                self.count(index, now, now, ending, format!("connection {number}"));
            }
        }
    }

    /// Has the epoll wait for what the session can do now. While it pauses it is taken out: the epoll
    /// would report again and again that the server has hung up, which the client is too slow to see.
    fn watch(&mut self, index: usize, now: Instant) -> io::Result<()> {
        let client = &mut self.clients[index];
        let Some(session) = &client.session else {
            return Ok(());
        };
        let wanted = session.interest(now);
        if wanted == client.interest {
            return Ok(());
        }
        let stream = &session.connection.stream;
        let mut event = EpollEvent::new(wanted, index as u64);
        if client.interest.is_empty() {
            self.epoll.add(stream, event)?;
        } else if wanted.is_empty() {
            self.epoll.delete(stream)?;
        } else {
            self.epoll.modify(stream, &mut event)?;
        }
        client.interest = wanted;
        Ok(())
    }

    /// At most a tick.
    fn until_something_is_due(&self, now: Instant, may_begin: bool) -> u8 {
        let due = self.clients.iter().filter_map(|client| match &client.session {
            Some(session) => session.next_due(now),
            None => may_begin.then_some(client.due),
        });
        let wait = due.min().map_or(TICK, |due| due.saturating_duration_since(now));
        // Rounded up: otherwise the last millisecond would be spent in a busy loop.
        (wait.min(TICK).as_micros().div_ceil(1_000)) as u8
    }

    fn end(&mut self, index: usize, now: Instant, ending: Ending) {
        let client = &mut self.clients[index];
        let Some(session) = client.session.take() else {
            return;
        };
        client.interest = EpollFlags::empty(); // the epoll forgets what is closed
        let (began, text) = (session.began(), session.connection.to_string());
        session.close(&ending);
        self.count(index, began, now, ending, text);
    }

    fn count(&mut self, index: usize, began: Instant, now: Instant, ending: Ending, who: String) {
        let client = &mut self.clients[index];
        client.due = client.kind.next(self.began, now, &mut self.rng);
        let sentence = |what: &str| format!("{:?}, {who}: {what}", client.kind);
        match ending {
            Ending::Complete => self.tally.complete += 1,
            Ending::Vanished { .. } => self.tally.given_up += 1,
            Ending::SilentLoss => {
                let sentence = sentence("the server ended the stream cleanly");
                self.tally.losses.push(sentence);
            }
            Ending::WrongBytes => self.tally.wrong.push(sentence("not what was sent")),
            Ending::Broken(trouble, what) => {
                self.tally.errors.count(trouble);
                self.broken.push(Broken { began, ended: now, sentence: sentence(&what) });
                client.due = client.due.max(now + AFTER_AN_ERROR);
            }
        }
    }
}

impl Tally {
    /// Those that have ended.
    pub(crate) fn sessions(&self) -> u64 {
        let faults = self.losses.len() + self.wrong.len();
        self.complete + self.given_up + self.errors.sum() + faults as u64
    }
}

impl Errors {
    pub(crate) fn sum(&self) -> u64 {
        self.kinds().iter().map(|(_, count)| count).sum()
    }

    /// For people.
    pub(crate) fn by_kind(&self) -> String {
        let kinds = self.kinds();
        let there = kinds.iter().filter(|(_, count)| *count > 0);
        let there: Vec<_> = there.map(|(kind, count)| format!("{count} {kind}")).collect();
        there.join(", ")
    }

    fn kinds(&self) -> [(&'static str, u64); 5] {
        [
            ("refused", self.refused),
            ("reset", self.reset),
            ("ended early", self.ended_early),
            ("stuck", self.stuck),
            ("other", self.other),
        ]
    }

    fn count(&mut self, trouble: Trouble) {
        *match trouble {
            Trouble::Refused => &mut self.refused,
            Trouble::Reset => &mut self.reset,
            Trouble::EndedEarly => &mut self.ended_early,
            Trouble::Stuck => &mut self.stuck,
            Trouble::Other => &mut self.other,
        } += 1;
    }
}
