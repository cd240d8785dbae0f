//! Ctrl-C and its like, taken as messages.

use std::io;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// From now on INT, TERM and HUP do not end the process: `on_signal` is called for each, on a
/// thread of its own. To be called before any other thread is started, for a thread that does not
/// block them would be ended by them, and the process with it.
pub(crate) fn take_signals(on_signal: impl Fn() + Send + 'static) -> io::Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    let arrivals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    thread::spawn(move || {
        while let Ok(Some(_)) = arrivals.read_signal() {
            on_signal();
        }
    });
    Ok(())
}
