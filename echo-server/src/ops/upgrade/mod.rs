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

mod protocol;

mod program;

mod parent;

mod predecessor;

mod guardian;

mod successor;

pub(crate) use guardian::Handover;
pub(crate) use parent::obstacle;
pub(crate) use predecessor::{Predecessor, predecessor};
pub(crate) use program::Program;
pub(crate) use protocol::SocketIdentity;
pub(crate) use successor::{News, Successor};
