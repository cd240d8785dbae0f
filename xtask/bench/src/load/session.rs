//! One session of a client: what it does, and how it ends.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{setsockopt, sockopt};

use crate::load::connection::{CHUNK, Connection, Pattern, Received};

/// A session that makes no progress for this long is given up. A client may wait in the kernel's
/// queue until a worker of prefork is free, so this is longer than any other session takes.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// What a client is going to do.
pub(crate) struct Plan {
    /// How many bytes it sends.
    pub(crate) goal: u64,
    pub(crate) read: Pace,
    pub(crate) write: Pace,
    /// How long it stays after everything is sent, before it half-closes.
    pub(crate) stays: Duration,
    /// It leaves once it has sent more than this.
    pub(crate) vanishes_after: Option<u64>,
    /// With one, the server soon cannot write if the client does not read.
    pub(crate) has_small_buffer: bool,
}

/// How much at a time, and how often.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) chunk: usize,
    pub(crate) every: Duration,
}

impl Pace {
    pub(crate) const FAST: Self = Self { chunk: CHUNK, every: Duration::ZERO };
}

/// How a session ended: exactly one of these.
#[derive(Debug, PartialEq)]
pub(crate) enum Ending {
    /// All bytes came back, and then the end of the stream.
    Complete,
    /// The client left on purpose.
    Vanished {
        by_reset: bool,
    },
    /// The connection failed, as the sentence says.
    Broken(Trouble, String),
    /// A clean end of the stream, but not all bytes came back.
    SilentLoss,
    WrongBytes,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Trouble {
    Refused,
    Reset,
    /// A clean end before the client had ended its own stream. Nothing was missing.
    EndedEarly,
    Stuck,
    Other,
}

impl Ending {
    pub(crate) fn broken(what: &str, error: &io::Error) -> Self {
        let trouble = match error.kind() {
            ErrorKind::ConnectionRefused => Trouble::Refused,
            // A socket that has been reset is not connected any more.
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected => {
                Trouble::Reset
            }
            _ => Trouble::Other,
        };
        Ending::Broken(trouble, format!("{what}: {error}"))
    }
}

pub(crate) struct Session {
    pub(crate) connection: Connection,
    plan: Plan,
    is_connected: bool,
    began: Instant,
    last_progress: Instant,
    next_read: Instant,
    next_write: Instant,
    /// Known once everything is sent.
    half_closes: Option<Instant>,
}

impl Session {
    pub(crate) fn new(connection: Connection, plan: Plan, now: Instant) -> Self {
        Self {
            connection,
            plan,
            is_connected: false,
            began: now,
            last_progress: now,
            next_read: now,
            next_write: now,
            half_closes: None,
        }
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    pub(crate) fn is_stuck(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_progress) > STUCK_AFTER
    }

    /// Returns what to wait for: nothing while the client pauses.
    pub(crate) fn interest(&self, now: Instant) -> EpollFlags {
        let mut flags = EpollFlags::empty();
        // A connection that is not there yet becomes writable when it is, or has failed.
        flags.set(EpollFlags::EPOLLOUT, !self.is_connected || self.acts(now));
        flags.set(EpollFlags::EPOLLIN, self.is_connected && self.next_read <= now);
        flags
    }

    /// Whether there is something to send, or the stream to end, by now.
    fn acts(&self, now: Instant) -> bool {
        if self.left_to_send() > 0 {
            return self.next_write <= now;
        }
        !self.connection.half_closed && self.half_closes.is_some_and(|time| time <= now)
    }

    fn left_to_send(&self) -> u64 {
        self.plan.goal - self.connection.sent
    }

    /// Returns when the client stops pausing.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        let times = [Some(self.next_read), Some(self.next_write), self.half_closes];
        times.into_iter().flatten().filter(|time| *time > now).min()
    }

    /// Does what is possible without waiting. Returns how many bytes it compared, and how the session
    /// ended, if it did.
    pub(crate) fn step(
        &mut self,
        now: Instant,
        pattern: &Pattern,
        buffer: &mut [u8],
    ) -> (u64, Option<Ending>) {
        let before = self.connection.received;
        let ending = self.try_step(now, pattern, buffer).err();
        (self.connection.received - before, ending)
    }

    /// The end of the session stops it, as an error does.
    fn try_step(
        &mut self,
        now: Instant,
        pattern: &Pattern,
        buffer: &mut [u8],
    ) -> Result<(), Ending> {
        if !self.is_connected {
            if let Ok(Some(error)) = self.connection.stream.take_error() {
                return Err(Ending::broken("cannot connect", &error));
            }
            self.is_connected = true;
            self.last_progress = now;
        }
        // Before a write, which fails once the server has gone: what it sent before that counts.
        if self.next_read <= now {
            self.receive(now, pattern, buffer)?;
        }
        if self.left_to_send() > 0 && self.next_write <= now {
            self.send(now, pattern)?;
        }
        let vanishes_after = self.plan.vanishes_after;
        if vanishes_after.is_some_and(|limit| self.connection.sent > limit) {
            return Err(Ending::Vanished { by_reset: self.connection.number.is_multiple_of(2) });
        }
        if self.left_to_send() == 0 && !self.connection.half_closed {
            let time = *self.half_closes.get_or_insert(now + self.plan.stays);
            if time <= now {
                self.last_progress = now;
                let half_closed = self.connection.half_close();
                half_closed.map_err(|error| Ending::broken("cannot end the stream", &error))?;
            }
        }
        Ok(())
    }

    fn receive(
        &mut self,
        now: Instant,
        pattern: &Pattern,
        buffer: &mut [u8],
    ) -> Result<(), Ending> {
        let length = self.plan.read.chunk.min(buffer.len());
        match self.connection.receive(pattern, &mut buffer[..length]) {
            Ok(Received::Nothing) => Ok(()),
            Ok(Received::EndOfStream) => Err(self.end_of_stream()),
            Ok(Received::Bytes { wrong: 0, .. }) => {
                self.last_progress = now;
                self.next_read = now + self.plan.read.every;
                Ok(())
            }
            Ok(Received::Bytes { .. }) => Err(Ending::WrongBytes),
            Err(error) => Err(Ending::broken("cannot receive", &error)),
        }
    }

    fn end_of_stream(&self) -> Ending {
        if self.connection.received < self.connection.sent {
            Ending::SilentLoss
        } else if self.connection.half_closed {
            Ending::Complete
        } else {
            let what = "the server ended its stream first".to_owned();
            Ending::Broken(Trouble::EndedEarly, what)
        }
    }

    fn send(&mut self, now: Instant, pattern: &Pattern) -> Result<(), Ending> {
        let limit = self.left_to_send().min(self.plan.write.chunk as u64);
        match self.connection.send(pattern, limit) {
            Ok(0) => {}
            Ok(_) => {
                self.last_progress = now;
                self.next_write = now + self.plan.write.every;
            }
            Err(error) => return Err(Ending::broken("cannot send", &error)),
        }
        Ok(())
    }

    /// Closes the connection, by a reset if that is the way to vanish.
    pub(crate) fn close(self, ending: &Ending) {
        if let Ending::Vanished { by_reset: true } = ending {
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            // If it fails, the client vanishes by a plain close.
            let _ = setsockopt(&self.connection.stream, sockopt::Linger, &linger);
        }
    }
}
