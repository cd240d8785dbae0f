//! What the two servers agree on: a variable of the environment, and what each writes to the other.

use std::io;
use std::os::fd::BorrowedFd;

use nix::sys::stat::fstat;

/// The variable that tells a process that it is the new server: `OWNER:PID:DEVICE:INODE`.
pub(super) const PREDECESSOR: &str = "ECHO_SERVER_PREDECESSOR";

/// The owner of the listener in [`PREDECESSOR`]: the servers themselves, or a service manager.
pub(super) const OWN: &str = "own";
pub(super) const LENT: &str = "lent";

/// What the old server answers when the new one has written the [identity](SocketIdentity) of its
/// listener.
pub(super) const GO: &[u8] = b"g";

/// Makes the end of [`PREDECESSOR`]. It names the new server, and the socket that is its stdin. So it
/// means nothing to other processes that inherit the variable: neither to one that the new server starts,
/// nor to a later one with the same number and another stdin.
pub(super) fn proof(pid: u32, stdin: BorrowedFd<'_>) -> io::Result<String> {
    Ok(format!("{pid}:{}", SocketIdentity::of(stdin)?.0))
}

/// `DEVICE:INODE`: the same for all copies of a socket, and for no other socket.
pub(crate) struct SocketIdentity(pub(super) String);

impl SocketIdentity {
    pub(crate) fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let socket = fstat(socket)?;
        Ok(Self(format!("{}:{}", socket.st_dev, socket.st_ino)))
    }
}
