//! Finds out whether our parent would lose us in an upgrade.

use std::env;
use std::fs;
use std::process;

use nix::unistd::getppid;

/// Programs that wait for the very process that they have started. When it ends, they start it again, or
/// end the container: they do not know the server that has taken over.
///
/// The names are those of /proc/PID/comm, which has at most 15 characters.
const WAIT_FOR_ONE_PROCESS: [&str; 13] = [
    "runsv",
    "s6-supervise",
    "supervise",       // daemontools
    "supervise-daemo", // OpenRC's supervise-daemon
    "supervisord",
    "circusd",
    "perpd",
    "tini",
    "tini-static",
    "dumb-init",
    "catatonit",
    "docker-init",
    "podman-init",
];

/// Tells why our parent would not accept another process in our place. `None` also if we cannot know:
/// without a /proc, or with a manager that has another name.
pub(crate) fn obstacle() -> Option<String> {
    let parent = getppid().as_raw();
    if parent == 0 {
        // The new server would be adopted by a process of this container.
        return Some("our parent is outside this container and would lose it".to_owned());
    }
    let name = name_of(parent);
    let is_told_of_processes = env::var_os("NOTIFY_SOCKET").is_some();
    let waits_for_us = match name.as_deref() {
        Some(name) if WAIT_FOR_ONE_PROCESS.contains(&name) => true,
        // systemd follows MAINPID, but we need its socket for that.
        Some("systemd") => !is_told_of_processes,
        _ => parent == 1 && !is_told_of_processes,
    };
    let name = name.map_or(String::new(), |name| format!(" ({name})"));
    waits_for_us.then(|| {
        format!("our parent, process {parent}{name}, would take the end of this process for the server's")
    })
}

/// The name of a process, if there is a /proc and it shows our processes and not another namespace's.
fn name_of(pid: i32) -> Option<String> {
    let own = fs::read_link("/proc/self").ok()?;
    if own.to_str()? != process::id().to_string() {
        return None;
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}
