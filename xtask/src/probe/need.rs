//! What scenarios require that not every machine has: whether it is here, and how to get it.
//!
//! A need is declared here once. It is in `list`, `doctor` checks for it, and where it is missing the
//! scenario is skipped with the reason.

use std::env;
use std::io;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::unistd::geteuid;

use crate::probe::procfs;

pub(crate) struct Need {
    pub(crate) name: &'static str,
    pub(crate) check: fn() -> Finding,
    /// The command that gets it, or what else to do.
    pub(crate) remedy: &'static str,
}

pub(crate) const ALL: [&Need; 4] = [NAMESPACES, OTHER_USERS, LOOPBACK, STRACE];

pub(crate) const NAMESPACES: &Need = &Need {
    name: "user and PID namespaces",
    check: namespaces,
    remedy: "root, or sysctl user.max_user_namespaces=1000",
};

pub(crate) const OTHER_USERS: &Need = &Need {
    name: "processes of another user",
    check: other_users,
    remedy: "root with CAP_SETUID and all user ids, or sysctl user.max_user_namespaces=1000",
};

pub(crate) const LOOPBACK: &Need = &Need {
    name: "the loopback network",
    check: loopback,
    remedy: "ip link set lo up",
};

pub(crate) const STRACE: &Need = &Need {
    name: "strace",
    check: strace,
    remedy: "apt-get install strace, and a sandbox or container that allows ptrace",
};

/// What came of a check.
pub(crate) enum Finding {
    /// It is here; of this kind, if that is worth saying.
    Found(String),
    Missing(String),
    /// It may be here, but there is no room now to try it; and the remedy for that.
    NoRoom(String, &'static str),
    Unknown(String),
}

use Finding::{Found, Missing, NoRoom, Unknown};

impl Need {
    /// Fails if it is missing, with a sentence on what helps. Where that cannot be found out, the
    /// program is left to find out itself.
    pub(crate) fn require(&self) -> Result<(), String> {
        match (self.check)() {
            Missing(why) => {
                let (name, remedy) = (self.name, self.remedy);
                Err(format!("missing {name}: {why}; what helps: {remedy}"))
            }
            Found(_) | NoRoom(..) | Unknown(_) => Ok(()),
        }
    }
}

fn namespaces() -> Finding {
    with_proc(|| {
        let as_root = ["--pid", "--fork", "true"];
        let as_user = ["--user", "--map-root-user", "--pid", "--fork", "true"];
        match succeeds(
            "unshare",
            if geteuid().is_root() {
                &as_root
            } else {
                &as_user
            },
        ) {
            Missing(why) if in_path("unshare").is_missing() => Unknown(why),
            finding => finding,
        }
    })
}

fn other_users() -> Finding {
    if !geteuid().is_root() {
        return namespaces();
    }
    with_proc(|| {
        const SETUID: u32 = 7; // linux/capability.h
        let capabilities = procfs::read("/proc/self/status", &["CapEff:"]).unwrap_or_default();
        let mask = capabilities.split_whitespace().last().unwrap_or_default();
        if u64::from_str_radix(mask, 16).is_ok_and(|mask| mask >> SETUID & 1 == 0) {
            return Missing("we are root, but without CAP_SETUID".to_owned());
        }
        let ids = procfs::read("/proc/self/uid_map", &[""]).unwrap_or_default();
        let counts = ids
            .lines()
            .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok());
        match counts.sum::<u64>() {
            0..65_535 => Missing("this user namespace has too few user ids".to_owned()),
            _ => Found(String::new()),
        }
    })
}

fn loopback() -> Finding {
    match TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()) {
        Ok(address) => match std::net::TcpStream::connect(address) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => {
                missing(error.raw_os_error(), error.to_string())
            }
            _ => Found(String::new()),
        },
        Err(error) => missing(error.raw_os_error(), error.to_string()),
    }
}

fn strace() -> Finding {
    match succeeds("strace", &["-f", "-o", "/dev/null", "true"]) {
        Found(_) => version("strace", "-V"),
        other => other,
    }
}

impl Finding {
    fn is_missing(&self) -> bool {
        matches!(self, Missing(_))
    }
}

/// Checks that depend on /proc: without one that is ours, nothing can be said.
pub(crate) fn with_proc(look: impl FnOnce() -> Finding) -> Finding {
    match procfs::check() {
        Ok(()) => look(),
        Err(_) => Unknown("it takes /proc to tell".to_owned()),
    }
}

/// For a process that could not be started or spoken with. That there is no room for it is another
/// matter than that it is not here, or not allowed.
pub(crate) fn missing(error: Option<i32>, why: String) -> Finding {
    match error.map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE) => {
            NoRoom(why, "a higher limit of open files (ulimit -n)")
        }
        Some(Errno::EAGAIN) => NoRoom(why, "a higher limit of processes (ulimit -u)"),
        Some(Errno::ENOMEM) => NoRoom(why, "more memory, or a higher limit of it (ulimit -v)"),
        _ => Missing(why),
    }
}

/// The first line that a program prints of its version.
pub(crate) fn version(program: &str, arg: &str) -> Finding {
    match run_quietly(program, &[arg]) {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            Found(text.lines().next().unwrap_or_default().to_owned())
        }
        Err(finding) => finding,
    }
}

fn succeeds(program: &str, args: &[&str]) -> Finding {
    match run_quietly(program, args) {
        Ok(_) => Found(String::new()),
        Err(finding) => finding,
    }
}

/// Its output, if it succeeds; or a few words on why not.
fn run_quietly(program: &str, args: &[&str]) -> Result<Output, Finding> {
    let output = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Missing(format!("{program} is not in PATH")),
            _ => missing(error.raw_os_error(), error.to_string()),
        })?;
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = stderr.lines().next().unwrap_or_default();
    Err(Missing(format!("{}: {said}", output.status)))
}

pub(crate) fn in_path(program: &str) -> Finding {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if found {
        Found(String::new())
    } else {
        Missing(format!("{program} is not in PATH"))
    }
}
