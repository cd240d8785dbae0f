//! What the two servers agree on: a variable of the environment, and a byte each way.

use std::io;
use std::os::fd::BorrowedFd;

use nix::sys::stat::fstat;

/// The variable that tells a process that it is the new server: `OWNER:PID:DEVICE:INODE`.
pub(super) const PREDECESSOR: &str = "ECHO_SERVER_PREDECESSOR";

/// The owner of the listener in [`PREDECESSOR`]: the servers themselves, or a service manager.
pub(super) const OWN: &str = "own";
pub(super) const LENT: &str = "lent";

/// What the new server writes when it is able to serve.
pub(super) const READY: &[u8] = b"r";

/// What the old server answers.
pub(super) const GO: &[u8] = b"g";

/// Makes the end of [`PREDECESSOR`]. It names the new server, and the socket that is its stdin. So it
/// means nothing to other processes that inherit the variable: neither to one that the new server starts,
/// nor to a later one with the same number and another stdin.
pub(super) fn proof(pid: u32, stdin: BorrowedFd<'_>) -> io::Result<String> {
    let socket = fstat(stdin)?;
    Ok(format!("{pid}:{}:{}", socket.st_dev, socket.st_ino))
}
