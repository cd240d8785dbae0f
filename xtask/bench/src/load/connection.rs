//! A connection to a server on this machine, and the bytes that go through it: each connection sends
//! its own, so that every byte that comes back can be compared with the one that was sent.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};

/// The most that is written or read in one go.
pub(crate) const CHUNK: usize = 64 * 1024;

/// A prime, so that the bytes of no two buffers of a server are the same.
const PERIOD: usize = 65_521;

/// A connection that is over stays in TIME_WAIT for a minute, and its port is in use for as long. So
/// connections come from many addresses, 127.0.0.2 and on, each of which has all ports.
const SOURCES: u64 = 250;

/// A connection, how many bytes it has sent, and how many of them have come back.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) number: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) half_closed: bool,
}

/// What a read has found.
pub(crate) enum Received {
    /// Nothing yet.
    Nothing,
    /// So many bytes, and so many of them are not those that were sent.
    Bytes {
        count: u64,
        wrong: u64,
    },
    EndOfStream,
}

impl Connection {
    /// Connects without waiting: the socket becomes writable when it is connected.
    pub(crate) fn open(server: &SockaddrIn, number: u64) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        let source = Ipv4Addr::LOCALHOST.to_bits() + 1 + (number % SOURCES) as u32;
        let source = SocketAddrV4::new(source.into(), 0);
        // The kernel then chooses the port when it knows the server, so a port that is in use towards
        // another server is free for this one.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(source))?;
        match connect(socket.as_raw_fd(), server) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self { stream: socket.into(), number, sent: 0, received: 0, half_closed: false })
    }

    /// Sends at most `limit` bytes, and a chunk. Returns how many: none if the socket is full, or still
    /// connecting.
    pub(crate) fn send(&mut self, pattern: &Pattern, limit: u64) -> io::Result<usize> {
        let length = limit.min(CHUNK as u64) as usize;
        let bytes = pattern.bytes(self.number, self.sent, length);
        match self.stream.write(bytes) {
            Ok(length) => {
                self.sent += length as u64;
                Ok(length)
            }
            Err(error) if is_for_later(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Receives what fits into `buffer`, and compares it.
    pub(crate) fn receive(&mut self, pattern: &Pattern, buffer: &mut [u8]) -> io::Result<Received> {
        let length = match self.stream.read(buffer) {
            Ok(0) => return Ok(Received::EndOfStream),
            Ok(length) => length,
            Err(error) if is_for_later(&error) => return Ok(Received::Nothing),
            Err(error) => return Err(error),
        };
        let came = &buffer[..length];
        let sent = pattern.bytes(self.number, self.received, length);
        self.received += length as u64;
        let mut wrong = self.received.saturating_sub(self.sent); // more than was sent
        if came != sent {
            wrong += came.iter().zip(sent).filter(|(came, sent)| came != sent).count() as u64;
        }
        let count = length as u64;
        Ok(Received::Bytes { count, wrong })
    }

    /// Ends our side of the stream.
    pub(crate) fn half_close(&mut self) -> io::Result<()> {
        self.half_closed = true;
        self.stream.shutdown(Shutdown::Write)
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, sent, received, .. } = self;
        let half_closed = if self.half_closed { ", half-closed" } else { "" };
        write!(f, "connection {number}, {sent} bytes sent{half_closed}, {received} back")
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Bytes without an order: a period of them, and a chunk more, so that a chunk can begin at any place.
pub(crate) struct Pattern(Vec<u8>);

impl Pattern {
    pub(crate) fn new() -> Self {
        let mut state: u32 = 1;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let period: Vec<u8> = (0..PERIOD).map(|_| next()).collect();
        let bytes = period.iter().copied().cycle();
        Self(bytes.take(PERIOD + CHUNK).collect())
    }

    /// Returns what a connection sends from this offset on; `length` must be a chunk at most.
    fn bytes(&self, number: u64, offset: u64, length: usize) -> &[u8] {
        let from = ((number * 7_919 + offset) % PERIOD as u64) as usize;
        &self.0[from..from + length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_connections_send_the_same() {
        let pattern = Pattern::new();
        let start = |number| pattern.bytes(number, 0, 24);
        for number in 1..2_000 {
            assert_ne!(start(number), start(0));
        }
    }
}
