//! Where the next version of the program is.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::log::cannot;

/// How to start this program again: the same file name, the same arguments.
#[derive(Clone)]
pub(crate) struct Program {
    pub(super) path: PathBuf,
    pub(super) args: Vec<OsString>,
}

impl Program {
    /// To be called at the start, while names mean what they meant to whoever started us.
    pub(crate) fn this() -> io::Result<Self> {
        let mut args = env::args_os();
        let name = args.next().unwrap_or_default();
        Ok(Self {
            path: find(&name)?,
            args: args.collect(),
        })
    }
}

/// The path of this program, which was called `name`.
fn find(name: &OsStr) -> io::Result<PathBuf> {
    let running = reexec::self_exe()?;
    let file = identity(&running).map_err(cannot("find the file of this program"))?;
    // A path as it was given, or as the shell has found it: it may lead through a symbolic link that
    // is set to the next version, whereas current_exe() is the old one's own name. But only if it
    // leads to us now: who starts a program may call it anything, also by the path of another one.
    let is_ours = |path: &PathBuf| identity(path).is_ok_and(|found| found == file);
    let given = if name.as_bytes().contains(&b'/') {
        std::path::absolute(name).ok().filter(is_ours)
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        let places = env::split_paths(&path).map(|place| place.join(name));
        let mut places = places.filter_map(|place| std::path::absolute(place).ok());
        places.find(is_ours)
    };
    // Without a /proc, `running` is the path that we were started by.
    Ok(given.or_else(|| env::current_exe().ok()).unwrap_or(running))
}

/// Which file this is, whatever its name.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}
