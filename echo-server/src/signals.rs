//! The signals that the supervisor takes, the signals that its workers ignore, and the meaning of
//! SIGHUP.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, raise};
use nix::unistd::getppid;
use reexec::ForkOptions;

/// The signals that the supervisor takes, besides SIGHUP.
const TAKEN: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// The signals that workers ignore, from birth on. A service manager may send a signal to every process
/// of the server, but only the supervisor acts on it. QUIT is missing, because it ends every session
/// anyway. KILL still ends a single worker.
pub(crate) fn ignored_by_workers() -> impl Iterator<Item = c_int> {
    let taken = TAKEN.into_iter().chain([Signal::SIGHUP]);
    let ignored = taken.filter(|signal| *signal != Signal::SIGQUIT);
    ignored.map(|signal| signal as c_int)
}

/// The options for forking a worker, or the process that tries out the sandbox. Each gets a process
/// group of its own: QUIT from a terminal (Ctrl-\) is for the supervisor.
///
/// The supervisor ignores nothing but PIPE and perhaps HUP, see [`reexec::start_clean`]. A worker ignores
/// both, so it need not reset what the supervisor ignores.
pub(crate) fn worker_fork_options() -> ForkOptions {
    let mut options = ForkOptions::new();
    options.new_process_group().keep_ignored_signals();
    for signal in ignored_by_workers() {
        options.ignore_signal(signal);
    }
    options
}

/// Makes the end of the supervisor, which is the parent of this process, end this process.
pub(crate) fn end_with(supervisor: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // If the supervisor ended before that, the signal will never come. A parent in another PID namespace
    // has the number 0, whether it lives or not.
    if ![0, supervisor].contains(&getppid().as_raw().unsigned_abs()) {
        raise(Signal::SIGKILL)?;
    }
    Ok(())
}

/// The meaning of SIGHUP. It is decided at the start, because after a hang-up the process has no
/// terminal any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hangup {
    /// Our launcher ignores it, as nohup(1) does, and so do we.
    Ignored,
    /// Our terminal is gone. We stop as by TERM.
    Stops,
    /// We have no terminal. The sender expects us to reload something, so the log says that we do not.
    Logged,
}

impl Hangup {
    /// Decides. Must be called after [`reexec::start_clean`], which unblocks every signal.
    pub(crate) fn at_start() -> io::Result<Self> {
        if reexec::signal::is_ignored(libc::SIGHUP)? {
            return Ok(Self::Ignored);
        }
        if has_terminal() {
            return Ok(Self::Stops);
        }
        // Until the supervisor can log it, it must not end us.
        SigSet::from(Signal::SIGHUP).thread_block()?;
        Ok(Self::Logged)
    }

    /// Ignores SIGHUP again in a copy of the supervisor that is about to execute the next server, if
    /// we found it ignored. The fork has reset it.
    pub(crate) fn pass_on(self) -> io::Result<()> {
        match self {
            Self::Ignored => reexec::signal::ignore(libc::SIGHUP),
            Self::Stops | Self::Logged => Ok(()),
        }
    }

    /// The signals that the supervisor blocks, and reads from its signalfd. An ignored SIGHUP must not
    /// be blocked: the kernel would keep it for us.
    pub(crate) fn taken_signals(self) -> SigSet {
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
    options.read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
    options.open("/dev/tty").is_ok()
}
