//! The control channel: a pair of sequenced-packet sockets between a parent and a child that is
//! starting.
//!
//! It tells the child that it *is* a child, and what to run, and tells the parent how far the child
//! got.
//!
//! ```text
//! parent  Hello   → child     sent before the spawn, so that the child finds it at once
//! parent  Launch  → child     sent once the parent has the pidfd; the child waits for it, so it
//!                             cannot end and be reaped before that
//! child   Report  → parent    ready to run the entry, or the step that failed
//! ```
//!
//! The child of a template gets its launch with the request to the template. It has a channel only if it
//! must report.
//!
//! No argument and no environment variable is used: the arguments belong to the entry, and the
//! environment would reach grandchildren.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socketpair,
};

use crate::message::{Launch, Report};
use crate::sys::{self, retry_on_interrupt};

/// The number at which the child finds its end. It is fixed, so that nothing has to tell it.
pub(crate) const CONTROL_FD: RawFd = 3;

/// The first message. Nobody sends it by accident on a socket that is descriptor 3 of an ordinary
/// start, and another version of this crate in the same program sends another one.
const HELLO: &[u8] = concat!("reexec ", env!("CARGO_PKG_VERSION"), " control channel").as_bytes();

/// The longest launch. Sockets accept longer messages, but how long depends on the system's settings.
pub(crate) const LAUNCH_MAX: usize = 64 * 1024;

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct Control(OwnedFd);

impl Control {
    /// Makes both ends, the parent's first. Both are close-on-exec.
    pub(crate) fn pair() -> io::Result<(Control, Control)> {
        let (parent, child) = packet_sockets()?;
        Ok((Control(parent), Control(child)))
    }

    /// Sends the hello.
    pub(crate) fn send_hello(&self) -> io::Result<()> {
        self.send(HELLO)
    }

    /// Takes over the child's end of the channel; returns `None` in an ordinary start.
    ///
    /// In an ordinary start descriptor 3 is mostly closed, but may be anything, such as a listener from
    /// systemd. Nothing is read from it then.
    ///
    /// # Errors
    ///
    /// If a filter refuses every system call that could tell the two starts apart, or if the channel
    /// cannot be taken over. The process must not continue as an ordinary start, because it may be a
    /// child.
    pub(crate) fn take_inherited() -> io::Result<Option<Control>> {
        if !is_hello_at(CONTROL_FD)? {
            return Ok(None);
        }
        let control = Self::take_placed()?;
        let mut hello = [0; HELLO.len()];
        retry_on_interrupt(|| Ok(recv(control.0.as_raw_fd(), &mut hello, MsgFlags::empty())?))?;
        Ok(Some(control))
    }

    /// Takes over the child's end in a child of a template, which has placed it.
    pub(crate) fn take_placed() -> io::Result<Control> {
        Ok(Control(sys::take_inherited(CONTROL_FD)?))
    }

    /// In the child: waits for the launch. Returns `None` if the parent has ended.
    pub(crate) fn receive_launch(&self) -> io::Result<Option<Launch>> {
        match self.receive(MsgFlags::empty())? {
            message if message.is_empty() => Ok(None),
            message => Launch::decode(&message).map(Some).ok_or_else(malformed),
        }
    }

    pub(crate) fn send_report(&self, report: &Report) -> io::Result<()> {
        self.send(&report.encode())
    }

    /// In the parent: receives the report. Returns `None` if there is none now: if the channel is
    /// readable, the child's end was closed without a report.
    pub(crate) fn try_receive_report(&self) -> io::Result<Option<Report>> {
        match self.receive(MsgFlags::MSG_DONTWAIT) {
            Ok(message) if message.is_empty() => Ok(None),
            Ok(message) => Report::decode(&message).map(Some).ok_or_else(malformed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // The child's end was closed before the child had read our launch.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends one whole message. If the peer has ended, this fails, without a `SIGPIPE`.
    pub(crate) fn send(&self, message: &[u8]) -> io::Result<()> {
        let sent =
            retry_on_interrupt(|| Ok(send(self.0.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL)?));
        sent.map(drop)
    }

    /// Receives the next message; an empty one if the peer has closed its end.
    fn receive(&self, flags: MsgFlags) -> io::Result<Vec<u8>> {
        // We ask for the length first: to clear a buffer for the longest message would take longer
        // than everything else.
        let peek = flags | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
        let length = retry_on_interrupt(|| Ok(recv(self.0.as_raw_fd(), &mut [], peek)?))?;
        let mut message = vec![0; length];
        if length > 0 {
            // The peek has left the message in the queue. If an end is closed with an unread message,
            // the kernel resets the other end, which then loses its own unread messages.
            retry_on_interrupt(|| Ok(recv(self.0.as_raw_fd(), &mut message, flags)?))?;
        }
        Ok(message)
    }
}

impl From<Control> for OwnedFd {
    fn from(control: Control) -> OwnedFd {
        control.0
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes a pair of connected sequenced-packet sockets. Both are close-on-exec.
pub(crate) fn packet_sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    let (flags, protocol) = (SockFlag::SOCK_CLOEXEC, None::<SockProtocol>);
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, protocol, flags)?)
}

/// Whether this descriptor has received the hello.
///
/// Each system call here can tell that the descriptor is something else. If a filter refuses one, the
/// next one decides.
fn is_hello_at(fd: RawFd) -> io::Result<bool> {
    match sys::socket_type(fd) {
        // Before we peek: that would clear a pending error of somebody else's socket.
        Ok(kind) if kind != libc::SOCK_SEQPACKET => return Ok(false),
        Err(error) if shows_other_descriptor(&error) => return Ok(false),
        _ => {}
    }
    let mut hello = [0; HELLO.len() + 1];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match retry_on_interrupt(|| Ok(recv(fd, &mut hello, flags)?)) {
        Ok(length) => Ok(hello[..length] == *HELLO),
        Err(error) if shows_other_descriptor(&error) => Ok(false),
        // A filter can return any error. But the hello was sent before the child was started, so if
        // there is nothing to read, there is no channel.
        Err(_) if !sys::is_readable(fd)? => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the kernel returns this error for a descriptor that is no end of a channel.
fn shows_other_descriptor(error: &io::Error) -> bool {
    let numbers = [libc::EBADF, libc::ENOTSOCK, libc::ENOTCONN, libc::ECONNRESET, libc::EOPNOTSUPP];
    sys::is_one_of(error, &numbers)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the message on the control channel cannot be read")
}
