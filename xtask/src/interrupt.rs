//! Signals: Ctrl-C and its like, taken as messages; and the one for children.

use std::io;

use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::stage::start_thread;

/// From now on INT, TERM and HUP do not end the process: `on_signal` is called for each, on a
/// thread of its own. To be called before any other thread is started, for a thread that does not
/// block them would be ended by them, and the process with it.
pub(crate) fn take_signals(on_signal: impl Fn() + Send + 'static) -> io::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    let arrivals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    start_thread(move || {
        while let Ok(Some(_)) = arrivals.read_signal() {
            on_signal();
        }
    })
    .map(drop)
}

/// Whoever has started us may ignore SIGCHLD, and so would we: the kernel would then throw away the
/// statuses of `ps`, of cargo and of the runs, and each wait for them would fail.
pub(crate) fn hear_of_children() {
    // It fails for no signal that can be ignored.
    let _ = reexec::signal::default(libc::SIGCHLD);
}
