//! From the address on the command line to a listening socket.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

/// Where clients come from if no host is given: this machine only.
const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Listens on `PORT`, `:PORT` or `HOST:PORT`. The listener does not block: a client that has given
/// up between `poll` and `accept` must not hold up the others.
pub(crate) fn open(address: &str) -> io::Result<TcpListener> {
    open_any(address).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "another program listens there, choose another port",
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need the right to use them, choose a higher one"
            }
            io::ErrorKind::AddrNotAvailable => "no interface of this machine has the address",
            _ => "ADDRESS is PORT, HOST:PORT (IPv6 in brackets) or :PORT",
        };
        io::Error::new(
            error.kind(),
            format!("cannot listen on {address}: {error}; {advice}"),
        )
    })
}

fn open_any(address: &str) -> io::Result<TcpListener> {
    if let Some(port) = address.strip_prefix(':') {
        let port = parse_port(port)?;
        return match open_one((Ipv6Addr::UNSPECIFIED, port).into()) {
            // Not every machine has IPv6.
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {
                Ok(open_one((Ipv4Addr::UNSPECIFIED, port).into())?)
            }
            result => Ok(result?),
        };
    }
    if !address.contains(':') {
        return Ok(open_one((LOCAL, parse_port(address)?).into())?);
    }
    // A name may have several addresses; the first on which it works is taken.
    let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in address.to_socket_addrs()? {
        match open_one(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error.into(),
        }
    }
    Err(failure)
}

fn parse_port(text: &str) -> io::Result<u16> {
    text.parse().map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{text:?} is not a port number"),
        )
    })
}

fn open_one(address: SocketAddr) -> Result<TcpListener, Errno> {
    let family = if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    // Otherwise a server could not be restarted as long as connections of its predecessor are in
    // TIME_WAIT.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // The default is the system's; every interface means IPv4 clients, too.
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::MAXALLOWABLE)?;
    Ok(TcpListener::from(socket))
}
