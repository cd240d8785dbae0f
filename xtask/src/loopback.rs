//! Connections to a server on this machine, and the bytes that go through them: each connection
//! sends its own, so that every byte that comes back can be compared with the one that was sent.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect as start_to_connect, setsockopt,
    socket, sockopt,
};

/// How much is written or read in one go, at most.
pub(crate) const CHUNK: usize = 64 * 1024;

/// A prime, so that the bytes of no two buffers of a server are the same.
const PERIOD: usize = 65_521;

/// A connection that is over is in TIME_WAIT for a minute, and its port is taken for as long. So
/// they come from many addresses, 127.0.0.2 and on, each of which has all ports.
const SOURCES: u64 = 250;

/// Connects without waiting: the socket can be written to when the connection is there.
pub(crate) fn connect(server: &SockaddrIn, number: u64) -> nix::Result<TcpStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    let source = Ipv4Addr::LOCALHOST.to_bits() + 1 + (number % SOURCES) as u32;
    let source = SocketAddrV4::new(source.into(), 0);
    // The port is chosen when it is known what we connect to, so that it may be in use towards
    // another server.
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn::from(source))?;
    match start_to_connect(socket.as_raw_fd(), server) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error),
    }
}

pub(crate) fn is_for_later(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Bytes without an order, long enough for a chunk from any place in the period.
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

    /// What a connection sends from this offset on; `length` is a chunk at most.
    pub(crate) fn bytes(&self, number: u64, offset: u64, length: usize) -> &[u8] {
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
