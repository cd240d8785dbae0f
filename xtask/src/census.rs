//! What there is of a server, as seen from outside: processes, zombies, descriptors, memory.

use std::fs;
use std::io;

use crate::probe::procfs;

/// What there is of a server.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Census {
    pub(crate) processes: usize,
    pub(crate) zombies: usize,
    /// Of its main process.
    pub(crate) descriptors: usize,
}

/// What there is of the server whose main process this is.
pub(crate) fn of(pid: i32) -> Result<Census, String> {
    let looks = tree(pid)?.into_iter().map(procfs::look);
    let stats = looks.filter_map(Result::transpose);
    let stats: Vec<_> = stats
        .collect::<io::Result<_>>()
        .map_err(|error| error.to_string())?;
    let zombies = stats.iter().filter(|stat| stat.state == 'Z').count();
    Ok(Census {
        processes: stats.len() - zombies,
        zombies,
        descriptors: descriptors(pid)?,
    })
}

/// How many descriptors a process has.
pub(crate) fn descriptors(pid: i32) -> Result<usize, String> {
    let folder = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&folder).map_err(|error| format!("cannot read {folder}: {error}"));
    Ok(entries?.count())
}

/// The memory of a server's processes, in KiB: their proportional set sizes, where a page that
/// several share is counted as one. Without what the kernel needs for them.
pub(crate) fn memory_kib(pid: i32) -> Result<u64, String> {
    let mut sum = 0;
    for pid in tree(pid)? {
        let file = format!("/proc/{pid}/smaps_rollup");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            // It has ended meanwhile, or is a zombie.
            Err(_) if has_ended(pid)? => continue,
            Err(error) => return Err(format!("cannot read {file}: {error}")),
        };
        sum += pss_kib(&text).ok_or_else(|| format!("there is no Pss in {file}"))?;
    }
    Ok(sum)
}

/// This process and its descendants.
pub(crate) fn tree(pid: i32) -> Result<Vec<i32>, String> {
    let mut tree = procfs::descendants(pid).map_err(|error| error.to_string())?;
    tree.push(pid);
    Ok(tree)
}

fn has_ended(pid: i32) -> Result<bool, String> {
    let stat = procfs::look(pid).map_err(|error| error.to_string())?;
    Ok(stat.is_none_or(|stat| stat.state == 'Z'))
}

fn pss_kib(rollup: &str) -> Option<u64> {
    let value = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_process_is_found() {
        let rollup =
            "55f0-7ffd ---p 0 00:00 0 [rollup]\nRss:  952 kB\nPss:  123 kB\nPss_Dirty: 4 kB\n";
        assert_eq!(pss_kib(rollup), Some(123));
        assert_eq!(pss_kib(""), None);
    }
}
