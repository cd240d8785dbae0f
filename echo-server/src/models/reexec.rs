//! A process for each client, in a fresh image of the program: it shares no memory with the
//! supervisor and the other workers, not even where things lie in it.

use std::env;
use std::error::Error;
use std::io;
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use nix::unistd::{Gid, Uid};
use reexec::{Child, command, inherited_fd};

use crate::log::{self, Level};
use crate::options::{Mode, Model, Options};
use crate::sandbox::{Identity, Sandbox};
use crate::session::{self, Timeouts};
use crate::signals;

/// The entry's name, which `ps` shows.
pub(crate) const ENTRY: &str = "echo-worker";

const CONNECTION: &str = "connection";

/// Starts workers.
pub(crate) struct Starter {
    /// All a worker has to know, made ready once: what it does at its start, it does for each
    /// client.
    args: Vec<String>,
}

impl Starter {
    pub(crate) fn new(options: &Options, sandbox: &Sandbox) -> Self {
        let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64().to_string();
        let timeouts = Timeouts::of(options);
        let mode = options.sandbox.to_possible_value();
        let mut args = vec![
            seconds(timeouts.idle),
            seconds(timeouts.write),
            seconds(timeouts.session),
            (options.level() as u8).to_string(),
            mode.map_or_else(String::new, |mode| mode.get_name().to_owned()),
            sandbox.may_miss().to_string(),
        ];
        if let Some(identity) = sandbox.identity() {
            args.extend([identity.uid.to_string(), identity.gid.to_string()]);
        }
        Self { args }
    }

    // Inlined, it would make the stack deeper where the model `fork` forks, and each page of that
    // is one to be copied for each client.
    #[inline(never)]
    pub(crate) fn start(&self, connection: &TcpStream) -> Result<Child, Box<dyn Error>> {
        let mut command = command(ENTRY);
        for signal in signals::ignored_by_workers() {
            command.ignore_signal(signal);
        }
        let worker = command
            .args(&self.args)
            .fd(CONNECTION, connection.try_clone()?)
            .parent_death_signal(libc::SIGKILL)
            .process_group(0)
            .spawn_unconfirmed()?;
        Ok(worker)
    }
}

/// In the worker: its whole life.
pub(crate) fn worker() -> ExitCode {
    log::open();
    match serve() {
        Ok(()) => ExitCode::from(log::exit_code()),
        Err(error) => {
            log::failure(format_args!("{error}"));
            ExitCode::from(crate::EXIT_INTERNAL)
        }
    }
}

fn serve() -> io::Result<()> {
    let connection = TcpStream::from(inherited_fd(CONNECTION)?);
    let mut args = env::args().skip(1);
    let Some(terms) = Terms::from(&mut args) else {
        return Err(io::Error::other("the supervisor has not said how to serve"));
    };
    log::set_level(terms.level);
    let sandbox = Sandbox::new(terms.mode, Model::Reexec, terms.identity)?;
    sandbox.of_child(terms.may_miss).enter()?;
    session::serve_in_process(connection, terms.timeouts, None)
}

/// What the supervisor has said, in the order of [`Starter::new`].
struct Terms {
    timeouts: Timeouts,
    level: Level,
    mode: Mode,
    /// See [`Sandbox::of_child`].
    may_miss: u8,
    identity: Option<Identity>,
}

impl Terms {
    fn from(args: &mut impl Iterator<Item = String>) -> Option<Self> {
        let mut seconds = || {
            let time = Duration::try_from_secs_f64(args.next()?.parse().ok()?).ok()?;
            Some(Some(time).filter(|time| !time.is_zero()))
        };
        Some(Self {
            timeouts: Timeouts {
                idle: seconds()?,
                write: seconds()?,
                session: seconds()?,
            },
            level: Level::from_u8(args.next()?.parse().ok()?)?,
            mode: Mode::from_str(&args.next()?, false).ok()?,
            may_miss: args.next()?.parse().ok()?,
            identity: match args.next() {
                None => None,
                Some(uid) => Some(Identity {
                    uid: Uid::from_raw(uid.parse().ok()?),
                    gid: Gid::from_raw(args.next()?.parse().ok()?),
                }),
            },
        })
    }
}
