//! Finds the file of the next version of the program.

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
    /// Finds this program. Must be called at the start, while paths still mean what they meant to the
    /// process that started us.
    pub(crate) fn this() -> io::Result<Self> {
        let mut args = env::args_os();
        let name = args.next().unwrap_or_default();
        Ok(Self { path: find(&name)?, args: args.collect() })
    }
}

/// Finds the path of this program, which was started as `name`.
fn find(name: &OsStr) -> io::Result<PathBuf> {
    let running = reexec::self_exe()?;
    let file = identity(&running).map_err(cannot("find the file of this program"))?;
    // We prefer the path as it was given, or as the shell has found it. It may lead through a symbolic
    // link that will lead to the next version, whereas current_exe() is the name of the old one. It must
    // lead to us now: a program may be started under any name, even the path of another program.
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

/// Identifies a file, whatever its name.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}
