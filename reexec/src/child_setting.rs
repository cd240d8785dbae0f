//! The settings that a child applies to itself before its entry runs.
//!
//! Other libraries apply them between fork and exec, and a hook there forces a real fork. Here they
//! are ordinary code after exec.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;

use nix::sys::prctl;
use nix::sys::resource::setrlimit;
use nix::unistd::{
    Gid, Uid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid, setsid,
};

use crate::codec::{Input, put_bytes, put_i32, put_u32, put_u64};
use crate::error::shortened;
use crate::sys::{self, Disposition};

/// A setting. The child applies settings in the order of these variants: first those that need
/// privileges, then the groups, then the user, who may not change groups any more, and then the
/// directory, which that user must have the right to enter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setting {
    /// The signal is blocked until the child ignores it, from its first instruction on.
    IgnoreSignal(i32),
    NewSession,
    Limit {
        resource: Resource,
        soft: u64,
        hard: u64,
    },
    Nice(i32),
    Umask(u32),
    Groups(Vec<u32>),
    Group(u32),
    User(u32),
    CurrentDir(Vec<u8>),
    NoNewPrivileges,
}

/// Returns the signals that a child with these settings ignores.
pub(crate) fn ignored_signals(settings: &[Setting]) -> Vec<i32> {
    settings.iter().filter_map(Setting::ignored_signal).collect()
}

impl Setting {
    pub(crate) fn ignored_signal(&self) -> Option<i32> {
        match self {
            Setting::IgnoreSignal(signal) => Some(*signal),
            _ => None,
        }
    }

    /// Returns why no child can have this setting; `None` if a child can.
    pub(crate) fn problem(&self) -> Option<String> {
        /// (uid_t) -1 and (gid_t) -1: "no change" in setresuid(2) and setresgid(2).
        const NO_CHANGE: u32 = u32::MAX;
        match self {
            Setting::IgnoreSignal(signal) if sys::check_ignorable(*signal).is_err() => {
                Some(format!("ignore_signal: signal {signal} cannot be ignored"))
            }
            Setting::User(NO_CHANGE) => Some(format!("there is no user {NO_CHANGE}")),
            Setting::Group(NO_CHANGE) => Some(format!("there is no group {NO_CHANGE}")),
            Setting::Groups(groups) if groups.contains(&NO_CHANGE) => {
                Some(format!("there is no group {NO_CHANGE}"))
            }
            Setting::Umask(mask) if *mask > 0o777 => {
                Some(format!("umask: {mask:#o} has bits that are not permissions"))
            }
            Setting::CurrentDir(path) if path.contains(&0) => {
                Some("the directory's name contains a NUL byte".to_owned())
            }
            _ => None,
        }
    }

    /// Returns the name of the step that applies this setting, for the error.
    pub(crate) fn step(&self) -> String {
        match self {
            Setting::IgnoreSignal(signal) => format!("ignoring signal {signal}"),
            Setting::NewSession => "setsid".to_owned(),
            Setting::Limit { resource, soft, hard } => {
                format!("setting the limit of {resource:?} to {soft}, at most {hard},")
            }
            Setting::Nice(increment) => format!("adding {increment} to the nice value"),
            Setting::Umask(mask) => format!("setting the umask to {mask:03o}"),
            Setting::Groups(groups) if groups.len() > 8 => {
                format!("setting {} supplementary groups", groups.len())
            }
            Setting::Groups(groups) => format!("setting the supplementary groups to {groups:?}"),
            Setting::Group(gid) => format!("becoming group {gid}"),
            Setting::User(uid) => format!("becoming user {uid}"),
            Setting::CurrentDir(path) => {
                let path = String::from_utf8_lossy(path);
                format!("changing to the directory {}", shortened(&path))
            }
            Setting::NoNewPrivileges => "setting no_new_privs".to_owned(),
        }
    }

    pub(crate) fn apply(&self) -> io::Result<()> {
        match self {
            Setting::IgnoreSignal(signal) => {
                // This also discards the signals that have come while it was blocked.
                sys::set_disposition(*signal, Disposition::Ignored)?;
                sys::unblock_signal(*signal)?;
            }
            Setting::NewSession => setsid().map(drop)?,
            Setting::Limit { resource, soft, hard } => setrlimit(resource.number(), *soft, *hard)?,
            Setting::Nice(increment) => sys::add_nice(*increment)?,
            Setting::Umask(mask) => sys::set_umask(*mask)?,
            Setting::Groups(groups) => {
                let groups: Vec<_> = groups.iter().copied().map(Gid::from_raw).collect();
                setgroups(&groups)?;
                verify(sorted(getgroups()?), sorted(groups))?;
            }
            // Also the saved ids, to which the process could return otherwise.
            Setting::Group(gid) => {
                let gid = Gid::from_raw(*gid);
                setresgid(gid, gid, gid)?;
                let found = getresgid()?;
                verify([found.real, found.effective, found.saved], [gid; 3])?;
            }
            Setting::User(uid) => {
                let uid = Uid::from_raw(*uid);
                setresuid(uid, uid, uid)?;
                let found = getresuid()?;
                verify([found.real, found.effective, found.saved], [uid; 3])?;
            }
            Setting::CurrentDir(path) => env::set_current_dir(OsString::from_vec(path.clone()))?,
            Setting::NoNewPrivileges => {
                prctl::set_no_new_privs()?;
                verify(prctl::get_no_new_privs()?, true)?;
            }
        }
        Ok(())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Setting::NewSession => out.push(0),
            Setting::Limit { resource, soft, hard } => {
                out.extend([1, *resource as u8]);
                put_u64(out, *soft);
                put_u64(out, *hard);
            }
            Setting::Nice(increment) => {
                out.push(2);
                put_i32(out, *increment);
            }
            Setting::Umask(mask) => {
                out.push(3);
                put_u32(out, *mask);
            }
            Setting::Groups(groups) => {
                out.push(4);
                put_u32(out, groups.len() as u32);
                groups.iter().for_each(|group| put_u32(out, *group));
            }
            Setting::Group(gid) => {
                out.push(5);
                put_u32(out, *gid);
            }
            Setting::User(uid) => {
                out.push(6);
                put_u32(out, *uid);
            }
            Setting::CurrentDir(path) => {
                out.push(7);
                put_bytes(out, path);
            }
            Setting::NoNewPrivileges => out.push(8),
            Setting::IgnoreSignal(signal) => {
                out.push(9);
                put_i32(out, *signal);
            }
        }
    }

    pub(crate) fn decode(input: &mut Input<'_>) -> Option<Setting> {
        Some(match input.u8()? {
            0 => Setting::NewSession,
            1 => {
                let resource = input.u8()?;
                let resource = Resource::ALL.into_iter().find(|known| *known as u8 == resource)?;
                Setting::Limit { resource, soft: input.u64()?, hard: input.u64()? }
            }
            2 => Setting::Nice(input.i32()?),
            3 => Setting::Umask(input.u32()?),
            4 => {
                let count = input.u32()?;
                Setting::Groups((0..count).map(|_| input.u32()).collect::<Option<_>>()?)
            }
            5 => Setting::Group(input.u32()?),
            6 => Setting::User(input.u32()?),
            7 => Setting::CurrentDir(input.bytes()?),
            8 => Setting::NoNewPrivileges,
            9 => Setting::IgnoreSignal(input.i32()?),
            _ => return None,
        })
    }
}

/// Sorts the groups, because the kernel returns them in an order of its own.
fn sorted(mut groups: Vec<Gid>) -> Vec<Gid> {
    groups.sort_by_key(|group| group.as_raw());
    groups
}

/// Fails unless the rights are what they were set to.
///
/// The kernel interprets some ids as "no change", and a filter can skip a call and report success. The
/// child would then run with its parent's rights.
fn verify<T: PartialEq>(found: T, wanted: T) -> io::Result<()> {
    match found == wanted {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

/// A resource that [`Command::rlimit`](crate::Command::rlimit) limits; see setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// `RLIMIT_AS`: the address space, in bytes.
    ///
    /// At the limit, an allocation fails. A Rust program then aborts: it prints a message, and ends by
    /// `SIGABRT`. A limit below what the child has in use when it is set only forbids more.
    #[doc(alias = "RLIMIT_AS")]
    AddressSpace,
    /// `RLIMIT_CORE`: the size of a core dump, in bytes.
    #[doc(alias = "RLIMIT_CORE")]
    CoreSize,
    /// `RLIMIT_CPU`: processor time, in seconds.
    ///
    /// The kernel sends `SIGXCPU` at the soft limit, which ends the child by default, and `SIGKILL` at the
    /// hard limit. If they are equal, the child ends by `SIGKILL`. With a hard limit above the soft one,
    /// the status tells that this was the cause.
    #[doc(alias = "RLIMIT_CPU")]
    CpuTime,
    /// `RLIMIT_DATA`: the data segment, in bytes. At the limit, as with [`Resource::AddressSpace`].
    #[doc(alias = "RLIMIT_DATA")]
    DataSize,
    /// `RLIMIT_FSIZE`: the size of a file that is written, in bytes.
    ///
    /// At the limit, the kernel sends `SIGXFSZ`, which ends the child by default. If the signal is
    /// ignored, write(2) fails with `EFBIG`.
    #[doc(alias = "RLIMIT_FSIZE")]
    FileSize,
    /// `RLIMIT_MEMLOCK`: locked memory, in bytes. At the limit, mlock(2) fails with `ENOMEM`.
    #[doc(alias = "RLIMIT_MEMLOCK")]
    LockedMemory,
    /// `RLIMIT_NOFILE`: one more than the highest descriptor number. At the limit, calls that open a
    /// descriptor fail with `EMFILE`.
    #[doc(alias = "RLIMIT_NOFILE")]
    OpenFiles,
    /// `RLIMIT_NPROC`: processes and threads of the child's user, all of them together. At the limit,
    /// fork(2) fails with `EAGAIN`. Privileged processes are not limited.
    #[doc(alias = "RLIMIT_NPROC")]
    Processes,
    /// `RLIMIT_STACK`: the stack of the main thread, in bytes, as of the next exec.
    #[doc(alias = "RLIMIT_STACK")]
    StackSize,
}

impl Resource {
    const ALL: [Resource; 9] = [
        Resource::AddressSpace,
        Resource::CoreSize,
        Resource::CpuTime,
        Resource::DataSize,
        Resource::FileSize,
        Resource::LockedMemory,
        Resource::OpenFiles,
        Resource::Processes,
        Resource::StackSize,
    ];

    fn number(self) -> nix::sys::resource::Resource {
        use nix::sys::resource::Resource as Number;
        match self {
            Resource::AddressSpace => Number::RLIMIT_AS,
            Resource::CoreSize => Number::RLIMIT_CORE,
            Resource::CpuTime => Number::RLIMIT_CPU,
            Resource::DataSize => Number::RLIMIT_DATA,
            Resource::FileSize => Number::RLIMIT_FSIZE,
            Resource::LockedMemory => Number::RLIMIT_MEMLOCK,
            Resource::OpenFiles => Number::RLIMIT_NOFILE,
            Resource::Processes => Number::RLIMIT_NPROC,
            Resource::StackSize => Number::RLIMIT_STACK,
        }
    }
}
