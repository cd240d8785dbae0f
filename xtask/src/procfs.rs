//! Reading /proc. A process may be gone at any moment, so everything is an `Option`: that there
//! is nothing to read is what we came to know.

use std::fs;
use std::io;

use nix::sys::signal::Signal;

use crate::event::Process;

/// From /proc/PID/stat.
#[derive(Clone, Debug)]
pub(crate) struct Stat {
    pub(crate) process: Process,
    pub(crate) name: String,
    pub(crate) state: char,
    pub(crate) ppid: i32,
    pub(crate) threads: usize,
    /// Where its stack begins: another place after each `execve`. 0 in the midst of one, at the
    /// end, and if we may not know.
    pub(crate) stack: u64,
    /// Then nobody has to wait for its children: the kernel forgets them at once.
    pub(crate) ignores_sigchld: bool,
    /// The line itself.
    pub(crate) raw: String,
}

/// What to do if [`check`] fails.
pub(crate) const REMEDY: &str =
    "mount -t proc proc /proc; in a PID namespace, start with unshare --fork --pid --mount-proc";

/// Whether there is a /proc, with all that is used of it, and in it our numbers. In that of another
/// PID namespace they are other processes', whom we would watch, count and kill in place of ours.
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

/// Whether this process ignores a signal, as whoever has started it may have seen to.
pub(crate) fn is_ignored_by_us(signal: Signal) -> bool {
    let line = read("/proc/self/status", &["SigIgn:"]).unwrap_or_default();
    let mask = line.split_ascii_whitespace().last();
    let mask = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal as u32 - 1)) != 0)
}

pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The state of a process, `None` once it is gone, also if its number is another's by now.
pub(crate) fn state(process: Process) -> Option<char> {
    stat(process.pid)
        .filter(|stat| stat.process == process)
        .map(|stat| stat.state)
}

/// `PID (NAME) STATE PPID …`. The name may hold anything, also `) Z 1`, but the last `)` ends it.
pub(crate) fn parse_stat(stat: &[u8]) -> Option<Stat> {
    let stat = String::from_utf8_lossy(stat);
    let raw = stat.trim_end().to_owned();
    let (head, rest) = stat.rsplit_once(") ")?;
    let (pid, name) = head.split_once(" (")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied(); // as proc_pid_stat(5) counts
    let ignored: u64 = field(33)?.parse().ok()?;
    let has_code = field(26)? != "0";
    Some(Stat {
        process: Process {
            pid: pid.parse().ok()?,
            start_time: field(22)?.parse().ok()?,
        },
        name: name.to_owned(),
        state: field(3)?.chars().next()?,
        ppid: field(4)?.parse().ok()?,
        threads: field(20)?.parse().ok()?,
        stack: if has_code {
            field(28)?.parse().ok()?
        } else {
            0
        },
        ignores_sigchld: ignored & (1 << (Signal::SIGCHLD as u32 - 1)) != 0,
        raw,
    })
}

/// What is at this path: where a link leads, the names in a folder, or the lines of a file that
/// begin like one of these.
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
    let wanted = text.lines().filter(|line| {
        beginnings
            .iter()
            .any(|beginning| line.starts_with(beginning))
    });
    Ok(wanted.collect::<Vec<_>>().join("\n"))
}

/// The children of a process, zombies included. Asked of each of its threads: a child belongs to
/// the thread that started it.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut children = Vec::new();
    for task in tasks.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(list) => children.extend(
                list.split_ascii_whitespace()
                    .filter_map(|n| n.parse::<i32>().ok()),
            ),
            // The kernel lacks these files, or the thread has just ended.
            Err(_) => return children_by_search(pid),
        }
    }
    children
}

/// Everybody is asked for their parent.
fn children_by_search(parent: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(stat)
        .filter(|stat| stat.ppid == parent)
        .map(|stat| stat.process.pid)
        .collect()
}

/// The children of a process, their children, and so on.
pub(crate) fn descendants(pid: i32) -> Vec<i32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid));
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_rest_of_the_line() {
        let line = b"42 (a) Z 1 (b) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 12345 \
                     0 0 0 1 0 77 0 0 0 0 65536 0\n";
        let stat = parse_stat(line).unwrap();
        assert_eq!(
            stat.process,
            Process {
                pid: 42,
                start_time: 12345
            }
        );
        assert_eq!(
            (stat.name.as_str(), stat.state, stat.ppid, stat.threads),
            ("a) Z 1 (b", 'S', 7, 3)
        );
        assert_eq!((stat.stack, stat.ignores_sigchld), (77, true));
    }

    #[test]
    fn a_line_that_is_cut_off_is_nothing() {
        assert!(parse_stat(b"42 (a) S 7").is_none());
        assert!(parse_stat(b"").is_none());
    }

    #[test]
    fn we_are_among_our_parents_children() {
        let me = stat(own_pid()).unwrap();
        assert!(children(me.ppid).contains(&me.process.pid));
        assert!(children_by_search(me.ppid).contains(&me.process.pid));
    }
}
