//! The new server's side of an upgrade: takes the place of the old server.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process;

use nix::sys::prctl;
use nix::unistd::dup2_stdin;

use super::protocol::{GO, OWN, PREDECESSOR, SocketIdentity, proof};
use crate::log::cannot;

/// The server that we are to replace.
pub(crate) struct Predecessor {
    /// Whether it had made the listener, which is ours now.
    pub(crate) made_the_listener: bool,
}

/// Finds the server that we were started to replace, if any. Other processes inherit the variable, too,
/// but for them it names another process, or another stdin.
pub(crate) fn predecessor() -> Option<Predecessor> {
    let value = env::var(PREDECESSOR).ok()?;
    let (owner, given) = value.split_once(':')?;
    let proof = proof(process::id(), io::stdin().as_fd()).ok()?;
    (given == proof).then(|| Predecessor { made_the_listener: owner == OWN })
}

impl Predecessor {
    /// Reports that we are able to serve this listener, and waits until we may. Returns a socket that is
    /// at its end when the server before us has ended.
    pub(crate) fn take_over(self, listener: &SocketIdentity) -> io::Result<UnixStream> {
        // First whatever may fail: after "go" there is no server but us.
        let null = File::open("/dev/null").map_err(cannot("open /dev/null"))?;
        let stream = io::stdin().as_fd().try_clone_to_owned();
        let mut stream = UnixStream::from(stream.map_err(cannot("copy stdin"))?);
        dup2_stdin(null).map_err(cannot("leave stdin"))?;
        // The guardian, our parent, is killed when we are ready; until now we would end with it.
        prctl::set_pdeathsig(None).map_err(cannot("outlive our parent"))?;
        stream
            .write_all(listener.0.as_bytes())
            .and_then(|()| stream.read_exact(&mut [0; GO.len()]))
            .map_err(|_| {
                io::Error::other("it has ended, or has given us up; it may still serve")
            })?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }
}
