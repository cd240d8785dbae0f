//! The command line.

use std::error::Error;
use std::fmt;
use std::num::NonZero;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::log::Level;

/// An echo server (RFC 862): everything a client sends comes back, until it ends its stream.
///
/// The first line on stdout says where it listens; events go to stderr, one a line, after the time
/// unless systemd's journal stamps them. Lines that nobody reads are lost, and counted. A listener
/// that a service manager hands over (LISTEN_FDS) is used instead of ADDRESS.
///
/// Signals: TERM or INT: no new clients, sessions may finish; a second one, or QUIT: at once. HUP: if
/// the server was started from a terminal, as the first TERM; otherwise it is logged and ignored; if
/// it was ignored at the start (nohup), it stays so. USR1: a line of figures. USR2: hands the listener
/// to a new process of the program's file, and then as TERM. TTIN, TTOU: one worker more, or less, in
/// the pool of prefork. Workers ignore all of these but QUIT, so they may be sent to every process of
/// the server; KILL ends one worker.
///
/// Exit codes: 0 every session finished, 1 some were cut off: at the deadline, by the second signal,
/// or by the end of their process meanwhile; 2 usage, 69 cannot listen, or got a socket that cannot
/// be served, or cannot have workers of the user, or in the sandbox, that is asked for, 70 any other
/// failure.
#[derive(Parser)]
#[command(version)]
pub struct Options {
    /// Where to listen: PORT (on 127.0.0.1), HOST:PORT (IPv6 in brackets), or :PORT (everywhere);
    /// port 0 picks a free one
    #[arg(default_value = "9190")]
    pub(crate) address: String,

    /// How clients are served at the same time
    #[arg(long, value_enum, default_value_t = Model::Fork)]
    pub(crate) model: Model,

    /// How many processes are in the pool of prefork; TTIN and TTOU change it
    #[arg(long, value_name = "N", default_value = "16")]
    pub(crate) workers: NonZero<usize>,

    /// How many clients to serve at once, 0 for any number; others wait in the kernel's queue.
    /// Prefork serves as many as it has workers [default: 256 with fork and reexec, 0 with thread
    /// and multiplex]
    #[arg(long, value_name = "N")]
    max_children: Option<usize>,

    /// How many clients of the same address to serve at once, 0 for any number; others are
    /// disconnected
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_per_source: usize,

    /// How long a client may be silent, 0 for as long as it likes
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    idle_timeout: Duration,

    /// How long sending to a client may be stuck, 0 for as long as it likes. A client that takes so
    /// little that the kernel's buffer for it does not get emptier by a third counts as stuck
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    write_timeout: Duration,

    /// How long a whole session may last, whatever the client does, 0 for any time
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    session_timeout: Duration,

    /// How long sessions may go on after TERM or INT, 0 for as long as they like
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    drain_timeout: Duration,

    /// How many clients may wait in the kernel's queue, 0 for as many as it allows (4096 at most,
    /// and net.core.somaxconn)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) backlog: u16,

    /// Whether workers give up what serving does not need: files, sockets, programs, signals,
    /// rights. What could be had at the start, no worker serves without
    #[arg(long, value_enum, default_value_t = Mode::Try)]
    pub(crate) sandbox: Mode,

    /// Whom workers become, if the server is run by root, with CAP_SETUID, CAP_SETGID and CAP_KILL:
    /// NAME, UID, or UID:GID, which needs no passwd file
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,

    /// Obey USR2 also where our parent would lose the new server: under runsv, s6-supervise,
    /// supervisord, tini and the like, and under systemd without NOTIFY_SOCKET
    #[arg(long)]
    pub(crate) upgrade_anyway: bool,

    /// No lines about events
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// A line about each session, too
    #[arg(short, long)]
    verbose: bool,
}

/// What workers run in, and how they share the clients.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Model {
    /// A process for each client, forked
    Fork,
    /// The same in a fresh image of the program: no memory in common with the others
    Reexec,
    /// A pool of processes that take one client after another
    Prefork,
    /// A thread for each client, all in one process
    Thread,
    /// One loop for all clients
    Multiplex,
}

/// How serious the sandbox is meant.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Without it, nobody is served
    Require,
    /// As much of it as this machine has
    Try,
    /// None
    Off,
}

impl Model {
    /// Whether workers accept clients themselves, in a pool. Otherwise the supervisor does.
    pub(crate) fn has_pool(self) -> bool {
        matches!(self, Model::Prefork | Model::Thread | Model::Multiplex)
    }

    /// Whether all clients are served by the same worker.
    pub(crate) fn has_one_worker(self) -> bool {
        matches!(self, Model::Thread | Model::Multiplex)
    }

    pub(crate) fn has_threads(self) -> bool {
        matches!(self, Model::Thread)
    }
}

/// As on the command line.
impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

/// Inside, no limit is `None` and not 0.
impl Options {
    pub(crate) fn max_children(&self) -> Option<usize> {
        let default = if self.model.has_pool() { 0 } else { 256 };
        Some(self.max_children.unwrap_or(default)).filter(|max| *max > 0)
    }

    pub(crate) fn max_per_source(&self) -> Option<usize> {
        Some(self.max_per_source).filter(|max| *max > 0)
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        Some(self.idle_timeout).filter(|time| !time.is_zero())
    }

    pub(crate) fn write_timeout(&self) -> Option<Duration> {
        Some(self.write_timeout).filter(|time| !time.is_zero())
    }

    pub(crate) fn session_timeout(&self) -> Option<Duration> {
        Some(self.session_timeout).filter(|time| !time.is_zero())
    }

    pub(crate) fn drain_timeout(&self) -> Option<Duration> {
        Some(self.drain_timeout).filter(|time| !time.is_zero())
    }
}

impl Options {
    pub(crate) fn level(&self) -> Level {
        match (self.quiet, self.verbose) {
            (true, _) => Level::Quiet,
            (_, true) => Level::Sessions,
            _ => Level::Events,
        }
    }
}

/// Parses a time on the command line. 0 is no limit.
///
/// # Errors
///
/// If the text is no number of seconds, or one that is too small or too large.
pub fn seconds(text: &str) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    let seconds = text.parse()?;
    let time = Duration::try_from_secs_f64(seconds)?;
    if time.is_zero() && seconds != 0.0 {
        return Err("it is too little to be told from 0, which is no limit".into());
    }
    Ok(time)
}
