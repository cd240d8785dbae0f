//! A process for each client, which executes the program again. So it shares no memory with the
//! supervisor and the other workers, and its memory is laid out differently, too.

use std::env;
use std::error::Error;
use std::io;
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use nix::unistd::{Gid, Uid};
use reexec::{Fork, command, inherited_fd};

use crate::exit;
use crate::log::{self, Level};
use crate::ops::sandbox::{Identity, Sandbox};
use crate::options::{Mode, Model, Options};
use crate::server::accept_loop::Starter;
use crate::session::{self, Timeouts};
use crate::signals;

/// The name under which the program registers [`worker`]; `ps` shows it.
pub const ENTRY: &str = "echo-worker";

const CONNECTION: &str = "connection";

/// Makes the function that starts a worker.
pub(crate) fn starter(options: &Options, sandbox: &Sandbox) -> Starter {
    // Made once: a worker's first steps are repeated for each client.
    let args = terms_for_workers(options, sandbox);
    Box::new(move |connection| start(connection, &args))
}

fn start(connection: &TcpStream, args: &[String]) -> Result<Fork, Box<dyn Error>> {
    let mut command = command(ENTRY);
    for signal in signals::ignored_by_workers() {
        command.ignore_signal(signal);
    }
    let worker = command
        .args(args)
        .fd(CONNECTION, connection.try_clone()?)
        .parent_death_signal(libc::SIGKILL)
        .process_group(0)
        .spawn_unconfirmed()?;
    Ok(Fork::Parent(worker))
}

/// Writes down all that a worker must know, in the order of [`Terms::from`].
fn terms_for_workers(options: &Options, sandbox: &Sandbox) -> Vec<String> {
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
    args
}

/// The whole life of a worker of the model `reexec`.
pub fn worker() -> ExitCode {
    log::open();
    match serve() {
        Ok(()) => ExitCode::from(log::exit_code()),
        Err(error) => {
            log::log_always(format_args!("{error}"));
            ExitCode::from(exit::INTERNAL)
        }
    }
}

fn serve() -> io::Result<()> {
    let connection = TcpStream::from(inherited_fd(CONNECTION)?);
    let mut args = env::args().skip(1);
    let Some(terms) = Terms::from(&mut args) else {
        return Err(io::Error::other(
            "cannot read the supervisor's arguments; this program is started by the server only",
        ));
    };
    log::set_level(terms.level);
    let sandbox = Sandbox::new(terms.mode, Model::Reexec)?.with_identity(terms.identity);
    sandbox.of_child(terms.may_miss).enter()?;
    session::serve_in_process(connection, terms.timeouts)
}

/// How to serve, in the order of [`terms_for_workers`].
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
            timeouts: Timeouts { idle: seconds()?, write: seconds()?, session: seconds()? },
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
