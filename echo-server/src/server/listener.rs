//! The listening socket: makes it or takes it over, and accepts clients.

use std::env;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::process;

use listenfd::ListenFd;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrLike, SockaddrStorage, bind,
    getpeername, getsockname, getsockopt, listen, setsockopt, shutdown, socket, sockopt,
};
use socket2::{SockFilter, SockRef};

use crate::log::cannot;
use crate::session::connection;

/// Where clients come from if no host is given: this machine only.
const LOCAL: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// The listening socket. It does not block: a client that has given up between `poll` and `accept`
/// must not hold up the others.
pub(crate) struct Listener {
    socket: TcpListener,
    /// Whether we have made it. One that was handed to us is shut down by its owner only.
    is_ours: bool,
    /// Whether connections inherit from it what [`connection::prepare`] sets. One that was handed to us
    /// keeps its settings: its owner may use it for other programs, too.
    is_prepared: bool,
}

/// The result of [`Listener::accept`].
pub(crate) enum Accepted {
    Client(TcpStream, IpAddr),
    /// No client is left, or the next one has gone already.
    Nobody,
    /// The socket has been shut down: there will be no more clients.
    Closed,
    /// There is no room for another connection. That will pass.
    Shortage(io::Error),
}

impl Listener {
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Accepts the next client. Its address is the same under IPv4 and IPv6. The connection is
    /// [prepared](connection::prepare), so it is safe to drop it wherever something fails.
    pub(crate) fn accept(&self) -> Accepted {
        match self.socket.accept() {
            Ok((client, source)) => match self.prepare(&client) {
                Ok(()) => Accepted::Client(client, source.ip().to_canonical()),
                Err(error) => Accepted::Shortage(error),
            },
            Err(error) if is_about_client(&error) => Accepted::Nobody,
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => Accepted::Closed,
            Err(error) => Accepted::Shortage(error),
        }
    }

    fn prepare(&self, client: &TcpStream) -> io::Result<()> {
        match self.is_prepared {
            true => Ok(()),
            false => connection::prepare(client).map_err(cannot("set SO_LINGER and SO_KEEPALIVE")),
        }
    }

    /// Lets no more clients into the kernel's queue, and keeps those that are in it. A filter on the socket
    /// drops every SYN that asks for a connection, as if it had been lost on the way. The packet that
    /// completes a handshake passes, and so do those of accepted connections, which inherit the filter.
    ///
    /// `listen` with a backlog of 0 would not do: the kernel still lets one client in at a time.
    pub(crate) fn stop_queueing(&self) -> io::Result<()> {
        const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
        const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
        const SKIP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        const KEEP_BYTES: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
        // In the TCP header.
        const FLAGS: u32 = 13;
        const SYN: u32 = 0x02;
        const ACK: u32 = 0x10;
        SockRef::from(&self.socket).attach_filter(&[
            SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
            SockFilter::new(AND, 0, 0, SYN | ACK),
            SockFilter::new(SKIP_IF_EQUAL, 1, 0, SYN),
            SockFilter::new(KEEP_BYTES, 0, 0, u32::MAX),
            SockFilter::new(KEEP_BYTES, 0, 0, 0),
        ])
    }

    /// Whether clients wait in the kernel's queue. There are none if the listener has been shut down: it is
    /// always readable then.
    pub(crate) fn has_queue(&self) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok() && fds[0].revents() == Some(PollFlags::POLLIN)
    }

    /// Shuts the socket down. Closing it would not be enough: others, such as the workers of a pool, have
    /// copies.
    pub(crate) fn shut_down(self) {
        if self.is_ours {
            // It fails if a server that we have replaced has done so already.
            let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Takes the listener that a service manager, or the server that we are to replace, has handed to us:
/// descriptor 3, with LISTEN_FDS and LISTEN_PID in the environment, see sd_listen_fds(3); or the
/// one in LISTEN_FDS_FIRST_FD, which a server that we replace sets. Must be called before
/// `start_clean`, which closes every descriptor that nobody has taken.
///
/// `is_ours` tells whether a server that we are to replace has made it.
pub(crate) fn take_inherited(is_ours: bool) -> io::Result<Option<Listener>> {
    let inherited = take_announced(is_ours).map_err(|error| {
        let message = format!("cannot use what LISTEN_FDS announces: {error}");
        io::Error::new(io::ErrorKind::Unsupported, message)
    })?;
    if inherited.is_none() {
        refuse_inetd()?;
    }
    Ok(inherited)
}

/// Fails if inetd has started us. It starts one server for each client, and all but the first would fail
/// to listen. A Unix socket is no sign of that: sshd and others start programs with one as their stdin.
fn refuse_inetd() -> io::Result<()> {
    let stdin = getsockname::<SockaddrStorage>(io::stdin().as_raw_fd());
    match stdin.ok().and_then(|address| address.family()) {
        Some(AddressFamily::Inet | AddressFamily::Inet6) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "cannot serve a client or a listener on stdin, which is a network socket, as from inetd, \
             or from systemd with Accept=yes: run this server on its own, or with Accept=no; if it \
             runs on its own, start it with </dev/null",
        )),
        _ => Ok(()),
    }
}

fn take_announced(is_ours: bool) -> io::Result<Option<Listener>> {
    // Without LISTEN_PID, listenfd would take what was announced to a process before us.
    if env::var("LISTEN_PID") != Ok(process::id().to_string()) {
        return Ok(None);
    }
    // We look before listenfd does: it makes a list of as many as are announced.
    let announced = env::var("LISTEN_FDS").ok();
    if let Some(count) = announced.and_then(|count| count.parse::<i32>().ok())
        && count > 1
    {
        let message = format!("there are {count} sockets, and one can be served");
        return Err(io::Error::other(message));
    }
    let mut announced = ListenFd::from_env();
    let socket = match announced.take_tcp_listener(0) {
        Ok(Some(socket)) => socket,
        Ok(None) => return Ok(None),
        Err(error) => {
            return Err(what_it_is(&mut announced).map_or(error, |it| {
                io::Error::other(format!(
                    "it is a {it}, and only TCP is served; have the service manager listen on a \
                     port, such as ListenStream=9190"
                ))
            }));
        }
    };
    if !getsockopt(&socket, sockopt::AcceptConn)? {
        let is_connected = getpeername::<SockaddrStorage>(socket.as_raw_fd()).is_ok();
        return Err(io::Error::other(if is_connected {
            "it is a connection to one client, and not a listener; have the service manager hand \
             over the listener, with Accept=no"
        } else {
            "it does not listen; the program that hands it over must call listen(2) first"
        }));
    }
    socket.set_nonblocking(true)?;
    // A server before us may be an older version, which has not prepared it. Clients that are waiting in
    // its queue would not inherit what we set now.
    let is_prepared = is_ours && connection::is_prepared(&socket)?;
    Ok(Some(Listener { socket, is_ours, is_prepared }))
}

/// The kind of the socket, if it is one that service managers have.
fn what_it_is(announced: &mut ListenFd) -> Option<&'static str> {
    if announced.take_unix_listener(0).is_ok() {
        Some("Unix stream socket")
    } else if announced.take_unix_datagram(0).is_ok() {
        Some("Unix datagram socket")
    } else if announced.take_udp_socket(0).is_ok() {
        Some("UDP socket")
    } else {
        None
    }
}

/// Listens on `PORT`, `:PORT` or `HOST:PORT`. `backlog` 0 is the longest queue that there can be.
pub(crate) fn open(address: &str, backlog: u16) -> io::Result<Listener> {
    let listener = |socket| Listener { socket, is_ours: true, is_prepared: true };
    open_any(address, backlog).map(listener).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "; another program listens there, choose another port",
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need the right to use them, choose a higher one"
            }
            io::ErrorKind::AddrNotAvailable => "; no interface of this machine has the address",
            io::ErrorKind::InvalidInput => {
                "; ADDRESS is PORT, HOST:PORT (IPv6 in brackets) or :PORT"
            }
            // Nothing about the address.
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{advice}"))
    })
}

fn open_any(address: &str, backlog: u16) -> io::Result<TcpListener> {
    if let Some(port) = address.strip_prefix(':') {
        let port = parse_port(port)?;
        return match open_one((Ipv6Addr::UNSPECIFIED, port).into(), backlog) {
            // Not every machine has IPv6.
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {
                Ok(open_one((Ipv4Addr::UNSPECIFIED, port).into(), backlog)?)
            }
            result => Ok(result?),
        };
    }
    let Some((_, port)) = address.rsplit_once(':') else {
        return Ok(open_one((LOCAL, parse_port(address)?).into(), backlog)?);
    };
    parse_port(port)?;
    // A name may have several addresses, the likeliest first. We take the first one on which it works,
    // or else report what is wrong with the likeliest.
    let mut failure = None;
    for address in address.to_socket_addrs()? {
        match open_one(address, backlog) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let no_address = || io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    Err(failure.map_or_else(no_address, io::Error::from))
}

fn parse_port(text: &str) -> io::Result<u16> {
    // Rust itself reads "+80" as 80.
    let port = text.parse().ok().filter(|_| !text.starts_with('+'));
    port.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?} is not a port number"))
    })
}

fn open_one(address: SocketAddr, backlog: u16) -> Result<TcpListener, Errno> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    // Otherwise a server could not be restarted as long as connections of its predecessor are in
    // TIME_WAIT.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // The default differs between systems. Every interface means IPv4 clients, too.
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    let longest = Backlog::MAXALLOWABLE;
    let backlog = match backlog {
        0 => longest,
        backlog => Backlog::new(backlog).unwrap_or(longest),
    };
    connection::prepare(&socket)?;
    listen(&socket, backlog)?;
    Ok(TcpListener::from(socket))
}

/// Whether the error is not about us: no client is left, or the next one has gone already. accept(2)
/// then returns whatever error that connection had.
fn is_about_client(error: &io::Error) -> bool {
    use Errno::{
        EAGAIN, ECONNABORTED, ECONNRESET, EHOSTDOWN, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH,
        ENONET, ENOPROTOOPT, EOPNOTSUPP, EPROTO, ETIMEDOUT,
    };
    const OF_THE_CONNECTION: [Errno; 13] = [
        EAGAIN,
        ECONNABORTED,
        ECONNRESET,
        EHOSTDOWN,
        EHOSTUNREACH,
        EINTR,
        ENETDOWN,
        ENETUNREACH,
        ENONET,
        ENOPROTOOPT,
        EOPNOTSUPP,
        EPROTO,
        ETIMEDOUT,
    ];
    error.raw_os_error().is_some_and(|number| OF_THE_CONNECTION.contains(&Errno::from_raw(number)))
}
