//! The control channel: a pair of sequenced-packet sockets between a parent and the child it is
//! starting. It says to the child that it *is* one, what to run, and back to the parent how far
//! the child got.
//!
//! ```text
//! parent  Hello   → child     before the spawn: it lies in the socket when the child looks
//! parent  Launch  → child     once the parent holds the pidfd, so that the child, which waits
//!                             for it, cannot come to its end and be lost before that
//! child   Report  → parent    ready to run the entry, or the step that failed
//! ```
//!
//! Neither an argument nor an environment variable takes part: the arguments belong to the
//! entry, and the environment would reach grandchildren.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socketpair,
};

use crate::message::{Launch, Report};
use crate::sys::{self, retry};

/// Where the child finds its end. Fixed, so that nothing has to tell it.
pub(crate) const CONTROL_FD: RawFd = 3;

/// What nobody sends by accident on a socket that happens to be number 3 of an ordinary start; nor
/// another version of this crate in the same program.
const HELLO: &[u8] = concat!("reexec ", env!("CARGO_PKG_VERSION"), " control channel").as_bytes();

/// The longest launch. A socket takes more, but how much more depends on the system's settings.
pub(crate) const LAUNCH_MAX: usize = 64 * 1024;

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct Control(OwnedFd);

impl Control {
    /// Both ends, the parent's first; close-on-exec, with the hello already on its way.
    pub(crate) fn pair() -> io::Result<(Control, Control)> {
        let (parent, child) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None::<SockProtocol>,
            SockFlag::SOCK_CLOEXEC,
        )?;
        let parent = Control(parent);
        parent.send(HELLO)?;
        Ok((parent, Control(child)))
    }

    /// The child's end of a channel, in a process that was started with one; `None` in an ordinary
    /// start, where number 3 is mostly closed, and may be anything, such as a listener from systemd.
    /// Then nothing is taken out of it.
    ///
    /// # Errors
    ///
    /// If that cannot be told, because every question that could tell is refused, or if the channel
    /// cannot be taken over. A child must not take itself for an ordinary start, so this process may
    /// not go on as one.
    pub(crate) fn inherited() -> io::Result<Option<Control>> {
        match is_hello_at(CONTROL_FD)? {
            true => Ok(Some(Control(sys::take_inherited(CONTROL_FD)?))),
            false => Ok(None),
        }
    }

    /// Sends a [`Launch`], encoded.
    pub(crate) fn send_launch(&self, launch: &[u8]) -> io::Result<()> {
        self.send(launch)
    }

    /// In the child: the hello, then the launch, for which it waits. `None` if the parent has gone.
    pub(crate) fn receive_launch(&self) -> io::Result<Option<Launch>> {
        let mut hello = [0; HELLO.len()];
        retry(|| Ok(recv(self.0.as_raw_fd(), &mut hello, MsgFlags::empty())?))?;
        match self.receive(MsgFlags::empty())? {
            message if message.is_empty() => Ok(None),
            message => Launch::decode(&message).map(Some).ok_or_else(malformed),
        }
    }

    pub(crate) fn send_report(&self, report: &Report) -> io::Result<()> {
        self.send(&report.encode())
    }

    /// In the parent: the report, if there is one by now. `None` if the child's end was closed
    /// without one, and also if it has not been sent: ask when the channel is readable.
    pub(crate) fn try_receive_report(&self) -> io::Result<Option<Report>> {
        match self.receive(MsgFlags::MSG_DONTWAIT) {
            Ok(message) if message.is_empty() => Ok(None),
            Ok(message) => Report::decode(&message).map(Some).ok_or_else(malformed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // The child's end was closed with our launch unread in it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends one message whole. A peer that has gone is an error here, not a `SIGPIPE`.
    fn send(&self, message: &[u8]) -> io::Result<()> {
        let sent = retry(|| Ok(send(self.0.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL)?));
        sent.map(drop)
    }

    /// The next message, or an empty one if the peer has closed its end.
    fn receive(&self, flags: MsgFlags) -> io::Result<Vec<u8>> {
        // First how long it is: clearing a buffer for the longest would take longer than the rest.
        let peek = flags | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
        let length = retry(|| Ok(recv(self.0.as_raw_fd(), &mut [], peek)?))?;
        let mut message = vec![0; length];
        if length > 0 {
            // Taken out of the queue: an end that is closed with something unread in it resets the
            // other one, which then does not get what it has not read.
            retry(|| Ok(recv(self.0.as_raw_fd(), &mut message, flags)?))?;
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

/// Whether this descriptor has received the hello. Each of these questions can tell that it is
/// something else, so what one does not answer is left to the next.
fn is_hello_at(fd: RawFd) -> io::Result<bool> {
    match sys::socket_type(fd) {
        // Before a look into it: that would take away an error that waits in a foreign socket.
        Ok(kind) if kind != libc::SOCK_SEQPACKET => return Ok(false),
        Err(error) if is_no_channel(&error) => return Ok(false),
        _ => {}
    }
    let mut hello = [0; HELLO.len() + 1];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match retry(|| Ok(recv(fd, &mut hello, flags)?)) {
        Ok(length) => Ok(hello[..length] == *HELLO),
        Err(error) if is_no_channel(&error) => Ok(false),
        // A filter can give any answer. But the hello is there before the child is, so where there
        // is nothing to read, there is no channel.
        Err(_) if !sys::is_readable(fd)? => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the kernel answers about descriptors that are not the end of a channel.
fn is_no_channel(error: &io::Error) -> bool {
    let answers = [
        libc::EBADF,
        libc::ENOTSOCK,
        libc::ENOTCONN,
        libc::ECONNRESET,
        libc::EOPNOTSUPP,
    ];
    sys::is_one_of(error, &answers)
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the message on the control channel cannot be read",
    )
}
