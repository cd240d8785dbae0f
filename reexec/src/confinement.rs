//! What a thread may do, and where it is, as far as one can ask: so that no template from before a
//! confinement makes children after it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, readlinkat};
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, getresgid, getresuid};

use crate::sys::{self, Capabilities};

/// The rights and the surroundings of a thread.
#[derive(Debug)]
pub(crate) struct Confinement {
    users: [Uid; 3],
    group_ids: [Gid; 3],
    groups: Vec<u32>,
    capabilities: Capabilities,
    no_new_privs: bool,
    seccomp_mode: i32,
    /// Device and inode.
    root: (u64, u64),
    /// The namespaces, as /proc names them; none without a /proc.
    namespaces: Vec<OsString>,
}

impl Confinement {
    /// Looks at the calling thread.
    pub(crate) fn now() -> io::Result<Self> {
        let (users, group_ids) = (getresuid()?, getresgid()?);
        let root = fs::metadata("/")?;
        Ok(Self {
            users: [users.real, users.effective, users.saved],
            group_ids: [group_ids.real, group_ids.effective, group_ids.saved],
            groups: sys::groups()?,
            capabilities: sys::capabilities()?,
            no_new_privs: prctl::get_no_new_privs()?,
            seccomp_mode: sys::seccomp_mode(),
            root: (root.dev(), root.ino()),
            namespaces: namespaces()?,
        })
    }

    /// Returns what is different now; `None` if nothing is.
    pub(crate) fn difference(&self, now: &Self) -> Option<&'static str> {
        let differences = [
            (self.users != now.users, "user ids"),
            (self.group_ids != now.group_ids, "group ids"),
            (self.groups != now.groups, "supplementary groups"),
            (self.capabilities != now.capabilities, "capabilities"),
            (self.no_new_privs != now.no_new_privs, "no_new_privs flag"),
            (self.seccomp_mode != now.seccomp_mode, "seccomp mode"),
            (self.root != now.root, "root directory"),
            (self.namespaces != now.namespaces, "namespaces"),
        ];
        differences.into_iter().find_map(|(is_different, what)| is_different.then_some(what))
    }
}

/// Reads the names of the links, which costs half of what it costs to look at the files behind them.
fn namespaces() -> io::Result<Vec<OsString>> {
    const NAMES: [&str; 8] =
        ["cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "user", "uts"];
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder = match open("/proc/thread-self/ns", flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        folder => folder?,
    };
    let name = |name| match readlinkat(&folder, name) {
        Err(Errno::ENOENT) => Ok(OsString::new()), // a kernel without namespaces of this kind
        link => Ok(link?),
    };
    NAMES.into_iter().map(name).collect()
}
