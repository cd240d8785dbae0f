//! The cgroup of a job, whose processes the kernel kills all at once; see `cgroup.kill` in the kernel's
//! cgroup-v2.rst.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use crate::poll::pause;

/// How often we try to remove the cgroup, a millisecond apart.
const REMOVALS: u32 = 100;

/// A cgroup below that of this process. It stays until [`JobCgroup::remove`].
#[derive(Debug)]
pub(crate) struct JobCgroup(PathBuf);

impl JobCgroup {
    /// Makes the cgroup; returns `None` if that is not possible: without cgroup v2, without the right
    /// to make one, or before Linux 5.14.
    pub(crate) fn new() -> Option<JobCgroup> {
        let path = own_cgroup()?.join(format!("reexec-{}", process::id()));
        fs::create_dir(&path).ok()?;
        let cgroup = JobCgroup(path);
        let usable = cgroup.open("cgroup.kill").and_then(|_| cgroup.open("cgroup.procs"));
        if usable.is_err() {
            cgroup.remove();
        }
        usable.is_ok().then_some(cgroup)
    }

    /// Moves this process into the cgroup. That takes some milliseconds: the kernel waits until no
    /// process is being forked or ended.
    pub(crate) fn join(&self) -> io::Result<()> {
        self.open("cgroup.procs")?.write_all(b"0")
    }

    /// Kills every process in the cgroup, and in those that they have made below it.
    pub(crate) fn kill(&self) {
        // Without it, the processes are killed one by one.
        let _ = self.open("cgroup.kill").and_then(|mut file| file.write_all(b"1"));
    }

    /// Removes the cgroup. Its processes must have ended.
    pub(crate) fn remove(&self) {
        for _ in 0..REMOVALS {
            if remove(&self.0).is_ok() {
                return;
            }
            pause(Duration::from_millis(1));
        }
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::options().write(true).open(self.0.join(name))
    }
}

/// Removes a cgroup, and those below it.
fn remove(cgroup: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

/// Returns the directory of the cgroup that this process is in.
fn own_cgroup() -> Option<PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|mount| {
        let (mount, kind) = mount.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let path = Path::new(path).strip_prefix(root).ok()?;
        kind.starts_with("cgroup2 ").then(|| Path::new(point).join(path))
    })
}
