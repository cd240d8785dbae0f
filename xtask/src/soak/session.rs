//! One session of a client: what it does, and how it ends.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{setsockopt, sockopt};

use crate::loopback::{CHUNK, Pattern, is_for_later};

/// A session that makes no progress for this long is given up. A client may wait in the kernel's
/// queue until a worker of prefork is free, so this is longer than any other session takes.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// What a client is going to do.
pub(super) struct Plan {
    /// How many bytes it sends.
    pub(super) goal: u64,
    pub(super) read: Pace,
    pub(super) write: Pace,
    /// How long it stays after everything is sent, before it half-closes.
    pub(super) stays: Duration,
    /// It leaves once it has sent more than this.
    pub(super) vanishes_after: Option<u64>,
    /// So that the server soon cannot write when the client does not read.
    pub(super) has_small_buffer: bool,
}

/// How much at a time, and how often.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) chunk: usize,
    pub(super) every: Duration,
}

impl Pace {
    pub(super) const FAST: Self = Self {
        chunk: CHUNK,
        every: Duration::ZERO,
    };
}

/// How a session ended: exactly one of these.
#[derive(Debug, PartialEq)]
pub(super) enum Ending {
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
pub(super) enum Trouble {
    Refused,
    Reset,
    /// A clean end before the client had ended its own stream. Nothing was missing.
    EndedEarly,
    Stuck,
    Other,
}

impl Ending {
    pub(super) fn broken(what: &str, error: &io::Error) -> Self {
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

pub(super) struct Session {
    stream: TcpStream,
    number: u64,
    plan: Plan,
    is_connected: bool,
    sent: u64,
    received: u64,
    half_closed: bool,
    began: Instant,
    last_progress: Instant,
    next_read: Instant,
    next_write: Instant,
    /// Known once everything is sent.
    half_closes: Option<Instant>,
    /// Bytes compared since the last call of [`Session::take_compared`].
    compared: u64,
}

impl Session {
    pub(super) fn new(stream: TcpStream, number: u64, plan: Plan, now: Instant) -> Self {
        Self {
            stream,
            number,
            plan,
            is_connected: false,
            sent: 0,
            received: 0,
            half_closed: false,
            began: now,
            last_progress: now,
            next_read: now,
            next_write: now,
            half_closes: None,
            compared: 0,
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn take_compared(&mut self) -> u64 {
        std::mem::take(&mut self.compared)
    }

    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_progress) > STUCK_AFTER
    }

    /// What to wait for. Empty while the client pauses.
    pub(super) fn interest(&self, now: Instant) -> EpollFlags {
        let mut flags = EpollFlags::empty();
        // A connection that is not there yet becomes writable when it is, or has failed.
        flags.set(EpollFlags::EPOLLOUT, !self.is_connected || self.acts(now));
        flags.set(
            EpollFlags::EPOLLIN,
            self.is_connected && self.next_read <= now,
        );
        flags
    }

    /// Whether there is something to send, or the stream to end, by now.
    fn acts(&self, now: Instant) -> bool {
        if self.sent < self.plan.goal {
            return self.next_write <= now;
        }
        !self.half_closed && self.half_closes.is_some_and(|time| time <= now)
    }

    /// When the client stops pausing.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let times = [
            Some(self.next_read),
            Some(self.next_write),
            self.half_closes,
        ];
        times.into_iter().flatten().filter(|time| *time > now).min()
    }

    /// Does what is possible without waiting. Returns how the session ended, if it did.
    pub(super) fn step(
        &mut self,
        now: Instant,
        pattern: &Pattern,
        buffer: &mut [u8],
    ) -> Option<Ending> {
        self.try_step(now, pattern, buffer).err()
    }

    /// The end of the session is what stops it, as an error does.
    fn try_step(
        &mut self,
        now: Instant,
        pattern: &Pattern,
        buffer: &mut [u8],
    ) -> Result<(), Ending> {
        if !self.is_connected {
            if let Ok(Some(error)) = self.stream.take_error() {
                return Err(Ending::broken("cannot connect", &error));
            }
            self.is_connected = true;
            self.last_progress = now;
        }
        // Before a write, which fails once the server has gone: what it sent before that counts.
        if self.next_read <= now {
            self.receive(now, pattern, buffer)?;
        }
        if self.sent < self.plan.goal && self.next_write <= now {
            self.send(now, pattern)?;
        }
        if self
            .plan
            .vanishes_after
            .is_some_and(|limit| self.sent > limit)
        {
            return Err(Ending::Vanished {
                by_reset: self.number.is_multiple_of(2),
            });
        }
        if self.sent == self.plan.goal && !self.half_closed {
            let time = *self.half_closes.get_or_insert(now + self.plan.stays);
            if time <= now {
                self.half_close(now)?;
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
        let length = match self.stream.read(&mut buffer[..length]) {
            Ok(0) => return Err(self.end_of_stream()),
            Ok(length) => length,
            Err(error) if is_for_later(&error) => return Ok(()),
            Err(error) => return Err(Ending::broken("cannot receive", &error)),
        };
        let expected = pattern.bytes(self.number, self.received, length);
        self.compared += length as u64;
        self.received += length as u64;
        if self.received > self.sent || buffer[..length] != *expected {
            return Err(Ending::WrongBytes);
        }
        self.last_progress = now;
        self.next_read = now + self.plan.read.every;
        Ok(())
    }

    fn end_of_stream(&self) -> Ending {
        if self.received < self.sent {
            Ending::SilentLoss
        } else if self.half_closed {
            Ending::Complete
        } else {
            let what = "the server ended its stream first".to_owned();
            Ending::Broken(Trouble::EndedEarly, what)
        }
    }

    fn send(&mut self, now: Instant, pattern: &Pattern) -> Result<(), Ending> {
        let left = self.plan.goal - self.sent;
        let length = left.min(self.plan.write.chunk as u64) as usize;
        match self
            .stream
            .write(pattern.bytes(self.number, self.sent, length))
        {
            Ok(length) => self.sent += length as u64,
            Err(error) if is_for_later(&error) => return Ok(()),
            Err(error) => return Err(Ending::broken("cannot send", &error)),
        }
        self.last_progress = now;
        self.next_write = now + self.plan.write.every;
        Ok(())
    }

    fn half_close(&mut self, now: Instant) -> Result<(), Ending> {
        self.half_closed = true;
        self.last_progress = now;
        self.stream
            .shutdown(Shutdown::Write)
            .map_err(|error| Ending::broken("cannot end the stream", &error))
    }

    /// Closes the connection, by a reset if that is the way to vanish.
    pub(super) fn close(self, ending: &Ending) {
        if let Ending::Vanished { by_reset: true } = ending {
            let linger = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            // If it fails, the client vanishes by a plain close.
            let _ = setsockopt(&self.stream, sockopt::Linger, &linger);
        }
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Session {
            number,
            sent,
            received,
            ..
        } = self;
        let half_closed = if self.half_closed {
            ", half-closed"
        } else {
            ""
        };
        write!(
            f,
            "connection {number}, {sent} bytes sent{half_closed}, {received} back"
        )
    }
}
