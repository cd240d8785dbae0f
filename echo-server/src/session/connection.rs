//! What an accepted connection does when it is closed, and when its client has vanished.

use std::io;
use std::net::TcpStream;

use nix::sys::socket::{setsockopt, sockopt};

use crate::log::cannot;

/// Prepares a connection that has just been accepted.
///
/// SO_LINGER makes every close(2) reset the connection, also the close that the kernel does for a
/// killed process. Without it:
///
/// 1. A worker reads bytes, and cannot send them yet.
/// 2. The worker is killed, and the kernel closes the connection.
/// 3. The client sees a regular end of the stream, and misses these bytes without an error.
///
/// A session that ends regularly takes SO_LINGER back.
///
/// With SO_KEEPALIVE, the kernel notices a client that vanished without a word, for example because
/// its machine lost power.
pub(crate) fn prepare(connection: &TcpStream) -> io::Result<()> {
    set_reset_on_close(connection, true)
        .and_then(|()| Ok(setsockopt(connection, sockopt::KeepAlive, &true)?))
        .map_err(cannot("set SO_LINGER and SO_KEEPALIVE"))
}

/// Sets both fields of SO_LINGER: an accepted connection inherits them from the listener, and we may
/// have got that from somebody else.
pub(crate) fn set_reset_on_close(connection: &TcpStream, is_on: bool) -> io::Result<()> {
    let linger = libc::linger { l_onoff: is_on.into(), l_linger: 0 };
    Ok(setsockopt(connection, sockopt::Linger, &linger)?)
}
