//! Signals: Ctrl-C and its like, taken as messages; and the one for children.

use std::io;
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::threads::start_thread;

/// How long it may take to end once that was told. Clearing up takes a fraction of it.
const GRACE: Duration = Duration::from_secs(10);

/// From now on INT, TERM and, unless it is ignored, HUP do not end the process at once: `on_signal`
/// is called for the first of them, on a thread of its own, and has [`GRACE`] to bring the end about;
/// then the signal does. To be called before any other thread is started, for a thread that does
/// not block them would be ended by them, and the process with it.
pub(crate) fn take_signals(on_signal: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    // Blocked, it would come to us though nohup has seen to it that it is ignored.
    if !reexec::signal::is_ignored(Signal::SIGHUP as i32)? {
        signals.add(Signal::SIGHUP);
    }
    signals.thread_block()?;
    let arrivals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    start_thread(move || {
        if let Ok(Some(arrived)) = arrivals.read_signal() {
            on_signal();
            thread::sleep(GRACE);
            // Still here: who has been told does not hear it, as they are writing to somebody who
            // does not read. The runs end by themselves when we have ended. A script that starts us
            // in the background has seen to it that we ignore INT.
            let signal = arrived.ssi_signo as i32;
            let _ = reexec::signal::default(signal);
            let _ = signals.thread_unblock();
            let _ = Signal::try_from(signal).and_then(raise);
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
