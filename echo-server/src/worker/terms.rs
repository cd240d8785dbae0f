//! What the supervisor tells a process that has executed the program again: how to serve.

use std::time::Duration;

use clap::ValueEnum;
use nix::unistd::{Gid, Uid};

use crate::log::Level;
use crate::ops::sandbox::{Identity, Sandbox};
use crate::options::{Mode, Options};
use crate::session::Timeouts;

/// The name under which the program registers [`run`](super::run); `ps` shows it.
pub const ENTRY: &str = "echo-worker";

/// The name of the worker's descriptor.
pub(super) const CONNECTION: &str = "connection";

/// How to serve, in the order of [`Terms::for_workers`].
pub(super) struct Terms {
    pub(super) timeouts: Timeouts,
    pub(super) level: Level,
    pub(super) mode: Mode,
    /// See [`Sandbox::of_child`].
    pub(super) may_miss: u8,
    pub(super) identity: Option<Identity>,
}

impl Terms {
    /// Writes down all that a worker must know, in the order of [`Terms::from`].
    pub(super) fn for_workers(options: &Options, sandbox: &Sandbox) -> Vec<String> {
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

    /// Reads what [`Terms::for_workers`] has written.
    pub(super) fn from(args: &mut impl Iterator<Item = String>) -> Option<Self> {
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
