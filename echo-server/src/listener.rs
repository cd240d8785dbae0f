//! From the address on the command line to a listening socket.

use std::io;
use std::net::TcpListener;

/// Where clients come from if no host is given: this machine only.
const LOCAL: &str = "127.0.0.1";

/// Listens on `PORT`, `:PORT` or `HOST:PORT`. The listener does not block: a client that has given
/// up between `poll` and `accept` must not hold up the others.
pub(crate) fn listen(address: &str) -> io::Result<TcpListener> {
    let listener = bind(address).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "; another program listens there, choose another port",
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need the right to use them, choose a higher one"
            }
            io::ErrorKind::AddrNotAvailable => "; no interface of this machine has the address",
            _ => "; ADDRESS is PORT, :PORT or HOST:PORT",
        };
        io::Error::new(
            error.kind(),
            format!("cannot listen on {address}: {error}{advice}"),
        )
    })?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// std sets `SO_REUSEADDR`, without which a server could not be restarted as long as connections
/// of its predecessor are in TIME_WAIT, and the longest queue that the kernel allows.
fn bind(address: &str) -> io::Result<TcpListener> {
    if let Some(port) = address.strip_prefix(':') {
        // The IPv6 socket takes IPv4 clients, too. Not every machine has IPv6.
        let (ipv6, ipv4) = (format!("[::]:{port}"), format!("0.0.0.0:{port}"));
        return TcpListener::bind(ipv6).or_else(|_| TcpListener::bind(ipv4));
    }
    if address.contains(':') {
        return TcpListener::bind(address);
    }
    TcpListener::bind(format!("{LOCAL}:{address}"))
}
