//! The command line.

use std::error::Error;
use std::fmt;
use std::num::NonZero;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::log::Level;

/// An echo server (RFC 862): sends back every byte, until the client ends its stream.
///
/// The first line on stdout names the address. Events go to stderr, one a line. Each line begins with
/// the time, unless systemd's journal adds it. Lines that nobody reads are lost and counted. A listener
/// from a service manager (LISTEN_FDS) is used instead of ADDRESS.
///
/// Signals: TERM or INT stops accepting, and sessions may finish. A second one, or QUIT, ends every
/// session at once. HUP acts as the first TERM if the server was started from a terminal; otherwise it
/// is logged and ignored. If HUP was ignored at the start (nohup), it stays ignored. USR1 logs a line of
/// figures. USR2 hands the listener to a new process of the program's file, and then acts as the first
/// TERM. TTIN and TTOU add and remove a worker in the pool of prefork. Workers ignore all of these but
/// QUIT, so they may be sent to every process of the server. KILL ends one worker.
///
/// Exit codes: 0 every session finished; 1 some were cut off, at the deadline, by the second signal, or
/// by the end of their process meanwhile; 2 wrong usage; 69 the server cannot listen, has got a socket
/// that cannot be served, or cannot run workers as the user or in the sandbox that was asked for; 70 any
/// other failure.
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

    /// How many workers are in the pool of prefork; TTIN and TTOU change it
    #[arg(long, value_name = "N", default_value = "16", value_parser = number::<NonZero<usize>>)]
    pub(crate) workers: NonZero<usize>,

    /// How many clients to serve at once, 0 for no limit; others wait in the kernel's queue.
    /// Prefork serves as many as it has workers [default: 256 with fork, reexec and template,
    /// 0 with thread and multiplex]
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    max_children: Option<usize>,

    /// How many clients of the same address to serve at once, 0 for no limit; others are
    /// disconnected
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number::<usize>)]
    max_per_source: usize,

    /// How long a client may be silent, 0 for no limit
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    idle_timeout: Duration,

    /// How long sending to a client may be stuck, 0 for no limit. A client also counts as stuck if it
    /// takes so little that the kernel's buffer for it does not get emptier by a third
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    write_timeout: Duration,

    /// How long a whole session may last, whatever the client does, 0 for no limit
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    session_timeout: Duration,

    /// How long sessions may go on after TERM or INT, 0 for no limit
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    drain_timeout: Duration,

    /// How many clients may wait in the kernel's queue, 0 for as many as the kernel allows (at most 4096
    /// and net.core.somaxconn)
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number::<u16>)]
    pub(crate) backlog: u16,

    /// At TERM or INT, also serve the clients that wait in the kernel's queue, within the drain timeout;
    /// otherwise they are disconnected. Meanwhile the kernel ignores new clients, and they try again after
    /// 1 s. The listener is closed when the queue is empty, after 0.5 s at the earliest. A listener from a
    /// service manager keeps its queue in any case
    #[arg(long)]
    pub(crate) drain_backlog: bool,

    /// Whether workers drop every right that they do not need: to files, sockets, programs, signals and
    /// privileges. A worker serves nobody if it cannot apply what worked at the start
    #[arg(long, value_enum, default_value_t = Mode::Try)]
    pub(crate) sandbox: Mode,

    /// The user that workers become: NAME, UID, or UID:GID, which needs no passwd file. The server must
    /// be root, with CAP_SETUID, CAP_SETGID and CAP_KILL
    #[arg(long, value_name = "USER", value_parser = user)]
    pub(crate) user: Option<String>,

    /// Obey USR2 even if our parent would lose the new server: under runsv, s6-supervise,
    /// supervisord, tini and the like, and under systemd without NOTIFY_SOCKET
    #[arg(long)]
    pub(crate) upgrade_anyway: bool,

    /// Do not log events
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// Also log each session
    #[arg(short, long)]
    verbose: bool,
}

/// How clients are served at the same time.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Model {
    /// A process for each client, forked
    Fork,
    /// A process for each client, which executes the program again: no memory in common with others
    Reexec,
    /// A process for each client, copied from a template, which has entered the sandbox once
    Template,
    /// A pool of processes that take one client after another
    Prefork,
    /// A thread for each client, all in one process
    Thread,
    /// One loop for all clients
    Multiplex,
}

/// Whether workers must have the sandbox.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// All of it, or the server exits
    Require,
    /// As much of it as this machine has
    Try,
    /// No sandbox
    Off,
}

impl Model {
    /// Whether workers accept clients themselves, in a pool. Otherwise the supervisor does.
    pub(crate) fn has_pool(self) -> bool {
        !matches!(self, Model::Fork | Model::Reexec)
    }

    /// Whether the pool has one worker, for all clients.
    pub(crate) fn has_one_worker(self) -> bool {
        matches!(self, Model::Template | Model::Thread | Model::Multiplex)
    }

    /// Whether each client has a process of its own.
    fn has_process_per_client(self) -> bool {
        matches!(self, Model::Fork | Model::Reexec | Model::Template)
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

/// The limits as the server uses them: no limit is `None`, and not 0.
impl Options {
    pub(crate) fn max_children(&self) -> Option<usize> {
        let default = if self.model.has_process_per_client() { 256 } else { 0 };
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

/// Parses a number without a sign. Rust itself reads `+5` as 5.
fn number<T>(text: &str) -> Result<T, Box<dyn Error + Send + Sync>>
where
    T: FromStr<Err: Into<Box<dyn Error + Send + Sync>>>,
{
    if text.starts_with('+') {
        return Err("leave out the +".into());
    }
    text.parse().map_err(Into::into)
}

/// Parses a user, who is looked up later.
fn user(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("give NAME, UID or UID:GID, or leave out --user");
    }
    if text.split(':').any(|part| part.starts_with('+')) {
        return Err("leave out the +");
    }
    Ok(text.to_owned())
}

/// Parses a time on the command line. 0 is no limit.
///
/// # Errors
///
/// If the text is no number of seconds, or one that is too small or too large.
pub fn seconds(text: &str) -> Result<Duration, Box<dyn Error + Send + Sync>> {
    let seconds = number(text)?;
    let time = Duration::try_from_secs_f64(seconds)?;
    if time.is_zero() && seconds != 0.0 {
        return Err("it is too little to be told from 0, which is no limit".into());
    }
    Ok(time)
}
