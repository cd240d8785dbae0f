//! Takes Ctrl-C and its like as messages, and makes sure that SIGCHLD is not ignored.

use std::io;
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::worker::thread::start_thread;

/// How long we may take to end after a signal. Clearing up takes a fraction of it.
const GRACE: Duration = Duration::from_secs(10);

/// Calls `on_signal` for the first INT, TERM or, unless it is ignored, HUP, on a thread of its own. The
/// process then has [`GRACE`] to end; after that the signal ends it. Must be called before any other
/// thread is started: the signals would end a thread that does not block them, and the process with it.
pub(crate) fn take_signals(on_signal: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    // If nohup has made us ignore it, it must stay so: blocked, it would reach us all the same.
    if !reexec::signal::is_ignored(Signal::SIGHUP as i32)? {
        signals.add(Signal::SIGHUP);
    }
    signals.thread_block()?;
    let arrivals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    start_thread(move || {
        if let Ok(Some(arrived)) = arrivals.read_signal() {
            on_signal();
            thread::sleep(GRACE);
            // Still here: the main thread is writing to somebody who does not read. The runs end by
            // themselves when we have ended. A script that starts us in the background makes us ignore
            // INT, so we take that back first.
            let signal = arrived.ssi_signo as i32;
            let _ = reexec::signal::reset(signal);
            let _ = signals.thread_unblock();
            let _ = Signal::try_from(signal).and_then(raise);
        }
    })
    .map(drop)
}

/// Sets SIGCHLD to its default. The process that has started us may ignore it, and so would we: the
/// kernel would then throw away the statuses of `ps`, of cargo and of the workers, and each wait for them
/// would fail.
pub(crate) fn stop_ignoring_sigchld() {
    // This cannot fail for SIGCHLD.
    let _ = reexec::signal::reset(libc::SIGCHLD);
}
