//! Which signals the supervisor takes, which of them its workers ignore, and what SIGHUP means.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use nix::sys::signal::{SigSet, Signal};
use reexec::ForkOptions;

/// What the supervisor takes, besides SIGHUP.
const TAKEN: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// What workers ignore, from birth on. A service manager sends a signal to every process of the
/// server, but acting on it is up to the supervisor. QUIT is not among them, as it ends every session
/// anyway; nor is KILL, which cannot be ignored: to end one worker, use that.
pub(crate) const IGNORED_BY_WORKERS: [c_int; 7] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// How to fork a worker, and what tries out in its place what a worker will find.
pub(crate) fn of_a_worker() -> ForkOptions {
    let mut options = ForkOptions::new();
    options.new_process_group();
    for signal in IGNORED_BY_WORKERS {
        options.ignore_signal(signal);
    }
    options
}

/// What SIGHUP does. Decided at the start: after a hang-up there is no terminal left to look for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hangup {
    /// Nothing, as our launcher wants it: nohup(1).
    Ignored,
    /// The terminal that we were started from is gone: no new clients.
    Stops,
    /// Without a terminal, somebody takes us for a server that reloads something.
    Logged,
}

impl Hangup {
    /// To be called when every signal is unblocked.
    pub(crate) fn at_start() -> io::Result<Self> {
        if reexec::signal::is_ignored(libc::SIGHUP)? {
            return Ok(Self::Ignored);
        }
        if has_terminal() {
            return Ok(Self::Stops);
        }
        // It must not end us before there is a supervisor to log it.
        SigSet::from(Signal::SIGHUP).thread_block()?;
        Ok(Self::Logged)
    }

    /// In a copy of the supervisor that is about to execute the next server: lets that find SIGHUP as
    /// we found it.
    pub(crate) fn pass_on(self) -> io::Result<()> {
        match self {
            Self::Ignored => reexec::signal::ignore(libc::SIGHUP),
            Self::Stops | Self::Logged => Ok(()),
        }
    }

    /// What the supervisor blocks, and reads from its signalfd. Not a SIGHUP that is ignored: while
    /// blocked, that would be kept for us all the same.
    pub(crate) fn taken(self) -> SigSet {
        let mut taken = SigSet::from_iter(TAKEN);
        if self != Self::Ignored {
            taken.add(Signal::SIGHUP);
        }
        taken
    }
}

/// Whether this process has a controlling terminal, which sends SIGHUP when it goes.
fn has_terminal() -> bool {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NOCTTY);
    options.open("/dev/tty").is_ok()
}
