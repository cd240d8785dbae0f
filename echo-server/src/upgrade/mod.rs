//! Replaces the server by a newer one without refusing a client.
//!
//! Three processes take part: the server that runs, a guardian, and the new server.
//!
//! 1. USR2. The server forks the guardian, `echo-upgrade` in `ps`. The guardian forks the new
//!    server, which executes the program's *file*, perhaps a newer one.
//! 2. The new server gets the listener as from a service manager (LISTEN_FDS), and as its stdin a
//!    socket that leads to the old server. When it is able to serve, it writes there which listener it
//!    has, and waits. Another program would not know what to write.
//! 3. The old server ends the guardian. So the new server loses its parent, and the kernel gives it
//!    to the process that adopts our orphans: under systemd that is systemd itself, which accepts as
//!    a new main process only a child of its own.
//! 4. The old server says "go", tells the service manager, and closes its copy of the listener.
//! 5. The new server accepts clients. Those that have connected meanwhile are in the queue of the
//!    one socket that both had.
//!
//! If the new server ends before step 4, the guardian reports how. If the old server ends, or gives
//! the new one up, the guardian kills it. In both cases it also kills what the new server has
//! started. If the guardian is killed, the kernel kills the new server.

mod guardian;
mod parent;
mod predecessor;
mod program;
mod successor;

use std::io;
use std::os::fd::BorrowedFd;

use nix::sys::stat::fstat;

pub(crate) use guardian::Handover;
pub(crate) use parent::obstacle;
pub(crate) use predecessor::{Predecessor, predecessor};
pub(crate) use program::Program;
pub(crate) use successor::{News, Successor};

/// In the environment of the new server: that it is one, as `OWNER:PID:DEVICE:INODE`.
const PREDECESSOR: &str = "ECHO_SERVER_PREDECESSOR";

/// The owner of the listener in [`PREDECESSOR`]: the servers themselves, or a service manager.
const OWN: &str = "own";
const LENT: &str = "lent";

/// What the old server answers when the new one has written the [identity](SocketIdentity) of its
/// listener.
const GO: &[u8] = b"g";

/// The end of [`PREDECESSOR`]. It names the new server, and the socket that is its stdin, so that it
/// means nothing to any other process that gets the variable: not to one that the new server
/// starts, and not to one with another stdin that was given the same number later.
fn proof(pid: u32, stdin: BorrowedFd<'_>) -> io::Result<String> {
    Ok(format!("{pid}:{}", SocketIdentity::of(stdin)?.0))
}

/// `DEVICE:INODE`: the same for all copies of a socket, and for no other socket.
pub(crate) struct SocketIdentity(String);

impl SocketIdentity {
    pub(crate) fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let socket = fstat(socket)?;
        Ok(Self(format!("{}:{}", socket.st_dev, socket.st_ino)))
    }
}
