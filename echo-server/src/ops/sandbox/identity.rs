//! The user that workers become, for `--user`.

use std::io;

use nix::errno::Errno;
use nix::unistd::{
    Gid, ResGid, ResUid, Uid, User, getgroups, getresgid, getresuid, setgid, setgroups, setuid,
};

use crate::log::cannot;
use crate::signals;

/// What root needs to become another user, and to end a process of another user: without the last,
/// workers would go on after the end of the server.
const RIGHTS: [(&str, u32); 3] = [("CAP_SETUID", 7), ("CAP_SETGID", 6), ("CAP_KILL", 5)];

/// A user and its group.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

impl Identity {
    /// Finds the user with this name, this number, or these numbers UID:GID.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if there is no such user, or if we are not root. Others if
    /// the user cannot be looked up, or if we are root without one of [`RIGHTS`].
    pub(crate) fn of_user(name: &str) -> io::Result<Self> {
        if !Uid::effective().is_root() {
            return Err(refuse(format!("cannot become user {name}: only root can")));
        }
        let identity = match name.split_once(':') {
            Some((uid, gid)) => Self::of_numbers(name, uid, gid)?,
            None => Self::look_up(name)?,
        };
        // setuid(2) and its like take it for "no change", and report no error.
        if [identity.uid.as_raw(), identity.gid.as_raw()].contains(&u32::MAX) {
            return Err(refuse(format!(
                "cannot become user {name}: {} is not a valid number of a user or group",
                u32::MAX
            )));
        }
        for (right, number) in RIGHTS {
            let has = reexec::workspace::has_capability(number)
                .map_err(|error| io::Error::other(format!("cannot check for {right}: {error}")))?;
            if !has {
                return Err(io::Error::other(format!(
                    "cannot run workers as user {name}: this process lacks {right}; give it that \
                     capability, or leave out --user"
                )));
            }
        }
        Ok(identity)
    }

    /// Needs no passwd file, which a small container does not have.
    fn of_numbers(name: &str, uid: &str, gid: &str) -> io::Result<Self> {
        let number = |text: &str| {
            text.parse().map_err(|_| {
                refuse(format!(
                    "cannot become user {name}: {text:?} is not a number; give NAME, UID or UID:GID"
                ))
            })
        };
        Ok(Self { uid: Uid::from_raw(number(uid)?), gid: Gid::from_raw(number(gid)?) })
    }

    /// By its name or, if nobody has that name, by its number.
    fn look_up(name: &str) -> io::Result<Self> {
        let number = name.parse().ok().map(Uid::from_raw);
        let mut found = not_found_is_none(User::from_name(name));
        if let (Ok(None), Some(uid)) = (&found, number) {
            found = not_found_is_none(User::from_uid(uid));
        }
        match (found, number) {
            (Ok(Some(User { uid, gid, .. })), _) => Ok(Self { uid, gid }),
            (Ok(None), None) => Err(refuse(format!("there is no user {name}"))),
            (Ok(None), Some(_)) => Err(refuse(format!(
                "cannot look up the group of user {name}; give it, too: {name}:GID"
            ))),
            // Not with its kind, which may be that of bad input.
            (Err(error), _) => {
                let message = format!("cannot look up user {name}: {error}");
                Err(io::Error::other(message))
            }
        }
    }

    /// Makes this process one of the user's, for good. `supervisor` is the process whose end must end
    /// this one.
    pub(super) fn adopt(self, supervisor: u32) -> io::Result<()> {
        // The change clears the signal that comes at the end of the supervisor.
        let changed = self.change().and_then(|()| signals::end_with(supervisor));
        changed.map_err(|error| cannot(&format!("become user {}", self.uid))(error))
    }

    fn change(self) -> io::Result<()> {
        let Self { uid, gid } = self;
        setgroups(&[])?;
        setgid(gid)?;
        setuid(uid)?;
        // A call may succeed without the change, for example if a filter answers instead of the kernel.
        let user = ResUid { real: uid, effective: uid, saved: uid };
        let group = ResGid { real: gid, effective: gid, saved: gid };
        if getresuid()? != user || getresgid()? != group || !getgroups()?.is_empty() {
            return Err(io::Error::other(
                "the calls succeeded, but the user or group is not the right one",
            ));
        }
        Ok(())
    }
}

/// The numbers that getpwnam(3) lists for "not found"; the first is that of a missing passwd file.
fn not_found_is_none(found: nix::Result<Option<User>>) -> nix::Result<Option<User>> {
    match found {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        found => found,
    }
}

/// An error of usage: what was asked for cannot be done.
fn refuse(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
