//! Reads /proc. A process may be gone at any moment, so many functions return an `Option`: `None` means
//! that the process is gone. An error means that it is there and we cannot read it.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::model::process::{Process, Stat};

/// Checks that there is a /proc with the files that we use, and that it shows our PID namespace. In the
/// /proc of another namespace, our numbers are those of other processes: we would watch and kill them.
pub(crate) fn check() -> Result<(), String> {
    for path in ["/proc/self/status", "/proc/sys/kernel/pid_max"] {
        fs::File::open(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    }
    // Our number in the namespace of /proc, and in each below it down to our own.
    let numbers = read("/proc/self/status", &["NSpid:"]).unwrap_or_default();
    if numbers.split_ascii_whitespace().count() > 2 {
        return Err("/proc is that of another PID namespace".to_owned());
    }
    Ok(())
}

pub(crate) fn own_pid() -> i32 {
    std::process::id() as i32
}

/// Reads /proc/PID/stat; `None` if there is no such process.
///
/// With hidepid, /proc hides the processes of other users. One of ours may become another user's; and
/// during an `execve` each is nobody's for an instant, so we try several times.
pub(crate) fn look(pid: i32) -> io::Result<Option<Stat>> {
    const LOOKS: usize = 10;
    let path = format!("/proc/{pid}/stat");
    // For kill(2), 0 and below stand for groups of processes.
    let exists = || pid > 0 && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH);
    for _ in 0..LOOKS {
        match read_stat(&path) {
            Ok(None) if exists() => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            answer => return answer,
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(cannot_read(&path, &Errno::EPERM.into()))
}

fn read_stat(path: &str) -> io::Result<Option<Stat>> {
    match fs::read(path) {
        Ok(line) => {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let stat = Stat::try_from(line).map(Some);
            stat.map_err(|why| io::Error::other(format!("{path}: {why}")))
        }
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(cannot_read(path, &error)),
    }
}

fn is_gone(error: &io::Error) -> bool {
    let error = error.raw_os_error().map(Errno::from_raw);
    matches!(error, Some(Errno::ENOENT | Errno::ESRCH))
}

fn cannot_read(path: &str, error: &io::Error) -> io::Error {
    let remedy = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => "; what helps: a /proc mounted without hidepid",
        Some(Errno::EMFILE | Errno::ENFILE) => {
            "; what helps: fewer scenarios at once, or a higher limit (ulimit -n)"
        }
        _ => "",
    };
    let why = format!("cannot read {path}: {error}{remedy}");
    io::Error::new(error.kind(), why)
}

/// The same for a caller that looks again and again: a process that cannot be read now counts as gone.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    look(pid).ok().flatten()
}

/// Whether the process is there, and its number is not another's by now. One that cannot be read is
/// there.
pub(crate) fn exists(process: Process) -> bool {
    look(process.pid).map_or(true, |stat| stat.is_some_and(|stat| stat.process == process))
}

/// Reads /proc/PID/stat of a process, if it is a child of the other one, or a child of a child, and so on.
pub(crate) fn look_at_descendant(pid: i32, ancestor: i32) -> io::Result<Option<Stat>> {
    const LOOKS: usize = 10;
    for _ in 0..LOOKS {
        let stat = look(pid)?;
        // A list misses a process that is adopted while we make it.
        if stat.is_none() || descendants(ancestor)?.contains(&pid) {
            return Ok(stat);
        }
    }
    Ok(None)
}

/// Reads this path: the target of a link, the names in a folder, or the lines of a file that begin like
/// one of these, or have it as a word.
pub(crate) fn read(path: &str, beginnings: &[&str]) -> io::Result<String> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if kind.is_symlink() {
        return Ok(fs::read_link(path)?.to_string_lossy().into_owned());
    }
    if kind.is_dir() {
        let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort_by_key(|name| (name.len(), name.clone())); // numbers by their values
        let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
        return Ok(names.join(" "));
    }
    // Arguments and variables are separated by NUL.
    let text = String::from_utf8_lossy(&fs::read(path)?).replace('\0', "\n");
    let is_wanted = |line: &str, beginning: &str| {
        line.starts_with(beginning) || line.split_ascii_whitespace().any(|word| word == beginning)
    };
    let lines = text.lines().filter(|line| beginnings.iter().any(|it| is_wanted(line, it)));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// Lists the children of a process, zombies included. Each of its threads has a list of its own, as a
/// child belongs to the thread that started it.
pub(crate) fn children(pid: i32) -> io::Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let tasks = match fs::read_dir(&path) {
        Ok(tasks) => tasks,
        // A look at the process itself reports that it is hidden from us.
        Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::PermissionDenied => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(cannot_read(&path, &error)),
    };
    let mut children = Vec::new();
    for task in tasks {
        let list = task.and_then(|task| fs::read_to_string(task.path().join("children")));
        let Ok(list) = list else {
            return children_by_search(pid); // the kernel lacks these files, or the thread has just ended
        };
        children.extend(list.split_ascii_whitespace().filter_map(|it| it.parse::<i32>().ok()));
    }
    Ok(children)
}

/// Asks every process for its parent.
fn children_by_search(parent: i32) -> io::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc").map_err(|error| cannot_read("/proc", &error))?;
    let mut children = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| cannot_read("/proc", &error))?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        match read_stat(&format!("/proc/{pid}/stat")) {
            Ok(stat) => children.extend(stat.filter(|stat| stat.ppid == parent).map(|_| pid)),
            // It is hidden, so it is somebody else's.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(children)
}

/// More descendants than any run needs.
pub(crate) const MANY: usize = 100;

/// Lists the children of a process, their children, and so on; not all, if there are more than [`MANY`]:
/// where processes fork for ever, the list would have no end.
pub(crate) fn descendants(pid: i32) -> io::Result<Vec<i32>> {
    let mut found = children(pid)?;
    let mut next = 0;
    while let Some(&pid) = found.get(next)
        && found.len() <= MANY
    {
        found.extend(children(pid)?);
        next += 1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_among_our_parents_children() {
        let me = stat(own_pid()).unwrap();
        assert!(children(me.ppid).unwrap().contains(&me.process.pid));
        assert!(children_by_search(me.ppid).unwrap().contains(&me.process.pid));
    }
}
