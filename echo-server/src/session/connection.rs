//! What an accepted connection does when it is closed, and when its client has vanished.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

/// Prepares a connection that has just been accepted, or a listener: the connections that come through
/// it afterwards inherit these settings, and need no call of their own.
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
pub(crate) fn prepare(socket: &impl AsFd) -> Result<(), Errno> {
    set_reset_on_close(socket, true)?;
    setsockopt(socket, sockopt::KeepAlive, &true)
}

/// Whether this socket has been prepared.
pub(crate) fn is_prepared(socket: &impl AsFd) -> Result<bool, Errno> {
    let linger = getsockopt(socket, sockopt::Linger)?;
    let resets_on_close = (linger.l_onoff, linger.l_linger) == (1, 0);
    Ok(resets_on_close && getsockopt(socket, sockopt::KeepAlive)?)
}

/// Sets both fields of SO_LINGER: an accepted connection inherits them from the listener, and we may
/// have got that from somebody else.
pub(crate) fn set_reset_on_close(socket: &impl AsFd, is_on: bool) -> Result<(), Errno> {
    let linger = libc::linger { l_onoff: is_on.into(), l_linger: 0 };
    setsockopt(socket, sockopt::Linger, &linger)
}
