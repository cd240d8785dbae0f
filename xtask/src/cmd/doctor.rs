//! `cargo xtask doctor`: what the demo and the rest take, whether it is here, and how to get it.
//!
//! What can be tried is tried: that a program or a file is there says little about whether this
//! user may use it here.

use std::env;
use std::fs;
use std::io::{self, IsTerminal};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl;

use crate::model::failure::Failure;
use crate::probe::{procfs, ps};
use crate::view::output::{self, BAD, BOLD, GOOD, MARK, styled, wrapped};

/// The name of the entry that does nothing: starting it is the test.
pub(crate) const ENTRY: &str = "xtask-doctor";

const RUSTUP: &str = "https://rustup.rs, or demo --programs with what was built elsewhere";

/// More than enough for a process that ends at once, also on a busy machine.
const TRY_LIMIT: Duration = Duration::from_secs(10);

/// One thing, and who needs it.
struct Check {
    name: &'static str,
    needed_for: For,
    look: fn() -> Finding,
    /// The command that gets it, or what else to do.
    how_to_get_it: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum For {
    /// Without it, there is no demo.
    Demo,
    /// Without it, only this is missing.
    Only(&'static str),
}

enum Finding {
    /// It is here; of this kind, if that is worth saying.
    Found(String),
    Missing(String),
    /// It may be here, but there is no room now to try it; and what helps.
    NoRoom(String, &'static str),
    /// It cannot be told.
    Unknown(String),
}

use Finding::{Found, Missing, NoRoom, Unknown};

/// Where a process could not be started or spoken with. That there is no room for it is another
/// matter than that it is not here, or not allowed.
fn missing(error: Option<i32>, why: String) -> Finding {
    match error.map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE) => {
            NoRoom(why, "a higher limit of open files (ulimit -n)")
        }
        Some(Errno::EAGAIN) => NoRoom(why, "a higher limit of processes (ulimit -u)"),
        Some(Errno::ENOMEM) => NoRoom(why, "more memory, or a higher limit of it (ulimit -v)"),
        _ => Missing(why),
    }
}

const CHECKS: &[Check] = &[
    Check {
        name: "Linux 5.4 or later",
        needed_for: For::Demo,
        look: linux,
        how_to_get_it: "a newer kernel",
    },
    Check {
        name: "/proc",
        needed_for: For::Demo,
        look: proc,
        how_to_get_it: procfs::REMEDY,
    },
    Check {
        name: "ps",
        needed_for: For::Demo,
        look: || with_proc(ps_of_procps),
        how_to_get_it: ps::PACKAGE,
    },
    Check {
        name: "cargo",
        needed_for: For::Demo,
        look: || version("cargo", "--version"),
        how_to_get_it: RUSTUP,
    },
    Check {
        name: "rustc",
        needed_for: For::Demo,
        look: || version("rustc", "--version"),
        how_to_get_it: RUSTUP,
    },
    Check {
        name: "a process started and waited for",
        needed_for: For::Demo,
        look: start,
        how_to_get_it: "a sandbox or container that allows to start processes, and waitid",
    },
    Check {
        name: "child subreapers",
        needed_for: For::Demo,
        look: subreaper,
        how_to_get_it: "a sandbox or container that allows prctl",
    },
    Check {
        name: "processes of others visible",
        needed_for: For::Only("looking around with ps by hand"),
        look: || with_proc(others),
        how_to_get_it: "mount -o remount,hidepid=0 /proc, which is for the whole machine",
    },
    Check {
        name: "user and PID namespaces",
        needed_for: For::Only("the scenarios pid-namespace, pid-reuse and resources"),
        look: || with_proc(namespaces),
        how_to_get_it: "root, or sysctl user.max_user_namespaces=1000",
    },
    Check {
        name: "seccomp filters",
        needed_for: For::Only("the echo server's sandbox"),
        look: || with_proc(seccomp),
        how_to_get_it: "a kernel with CONFIG_SECCOMP_FILTER",
    },
    Check {
        name: "Landlock",
        needed_for: For::Only("the echo server's sandbox"),
        look: landlock,
        how_to_get_it: "Linux 5.13 or later with landlock in its parameter lsm=",
    },
    Check {
        name: "strace",
        needed_for: For::Only("the scenarios fork-with-threads and system-calls, and tests"),
        look: strace,
        how_to_get_it: "apt-get install strace",
    },
    Check {
        name: "Chromium",
        needed_for: For::Only("the test of the report's page"),
        look: || match in_path("chromium") {
            Missing(_) => in_path("google-chrome"),
            found => found,
        },
        how_to_get_it: "apt-get install chromium",
    },
    Check {
        name: "busybox",
        needed_for: For::Only("the test of a ps that is another"),
        look: || in_path("busybox"),
        how_to_get_it: "apt-get install busybox",
    },
    Check {
        name: "cc",
        needed_for: For::Only("bench: rivals in C"),
        look: || version("cc", "--version"),
        how_to_get_it: "apt-get install gcc libc6-dev",
    },
    Check {
        name: "go",
        needed_for: For::Only("bench: rivals in Go"),
        look: || version("go", "version"),
        how_to_get_it: "apt-get install golang-go",
    },
    Check {
        name: "socat",
        needed_for: For::Only("bench echo: a rival"),
        look: || in_path("socat"),
        how_to_get_it: "apt-get install socat",
    },
    Check {
        name: "tcpserver",
        needed_for: For::Only("bench echo: a rival"),
        look: || in_path("tcpserver"),
        how_to_get_it: "apt-get install ucspi-tcp",
    },
    Check {
        name: "ncat",
        needed_for: For::Only("bench echo: a rival"),
        look: || in_path("ncat"),
        how_to_get_it: "apt-get install ncat",
    },
    Check {
        name: "a terminal",
        needed_for: For::Only("demo --pause and --predict, the tree of watch, and colours"),
        look: terminal,
        how_to_get_it: "run it at a terminal, and not into a pipe",
    },
];

/// Returns whether the demo can run.
pub(crate) fn run() -> Result<bool, Failure> {
    let width = output::width();
    let mut out = String::new();
    let mut blockers = Vec::new();
    for check in CHECKS {
        let finding = (check.look)();
        if matches!(finding, Missing(_) | NoRoom(..)) && check.needed_for == For::Demo {
            blockers.push(check.name);
        }
        out += &line(check, &finding, width);
    }
    if blockers.is_empty() {
        out += &format!("\n{}\n", styled(GOOD, "The demo can run."));
        output::print(&out)?;
        return Ok(true);
    }
    output::print(&out)?;
    let missing = format!("The demo cannot run: missing {}.", blockers.join(", "));
    output::print(&wrapped(&styled(BAD, missing), "\n", "", width))?;
    Ok(false)
}

fn line(check: &Check, finding: &Finding, width: usize) -> String {
    let (style, word, detail) = match finding {
        Found(detail) => (GOOD, "found   ", detail),
        Missing(detail) | NoRoom(detail, _) if check.needed_for == For::Demo => {
            (BAD, "missing ", detail)
        }
        Missing(detail) | NoRoom(detail, _) => (MARK, "missing ", detail),
        Unknown(detail) => (MARK, "unknown ", detail),
    };
    let mut text = styled(BOLD, check.name);
    if !detail.is_empty() {
        text += &format!(": {detail}");
    }
    if !matches!(finding, Found(_)) {
        let user = match check.needed_for {
            For::Demo => "the demo",
            For::Only(what) => what,
        };
        let how_to_get_it = match finding {
            NoRoom(_, remedy) => remedy,
            _ => check.how_to_get_it,
        };
        text += &format!(". For {user}; to get it: {how_to_get_it}");
    }
    wrapped(
        &text,
        &format!("{} ", styled(style, word)),
        "         ",
        width,
    )
}

fn linux() -> Finding {
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else {
        return Unknown("/proc cannot be read".to_owned());
    };
    let release = release.trim().to_owned();
    let mut numbers = release.split(['.', '-']).map_while(|it| it.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 4) {
        Found(release)
    } else {
        Missing(release)
    }
}

fn proc() -> Finding {
    match procfs::check() {
        Ok(()) => Found(String::new()),
        Err(why) => Missing(why),
    }
}

/// What cannot be told without a /proc that is ours is not what is missing.
fn with_proc(look: impl FnOnce() -> Finding) -> Finding {
    match procfs::check() {
        Ok(()) => look(),
        Err(_) => Unknown("it takes /proc to tell".to_owned()),
    }
}

fn others() -> Finding {
    match procfs::stat(1) {
        Some(_) => Found(String::new()),
        None => Missing("/proc is mounted with hidepid".to_owned()),
    }
}

fn ps_of_procps() -> Finding {
    match ps::check().and_then(|()| ps::version()) {
        Ok(version) => Found(version),
        Err(why) => match start() {
            NoRoom(_, remedy) => NoRoom(why, remedy), // as for any other process
            _ => Missing(why),
        },
    }
}

/// Ours is `reexec`, which takes what the scenarios take.
fn start() -> Finding {
    let child = match reexec::command(ENTRY).spawn() {
        Ok(child) => child,
        Err(error) => return missing(error.raw_os_error(), error.to_string()),
    };
    match child.wait_timeout(TRY_LIMIT) {
        Ok(Some(status)) if status.success() => Found(String::new()),
        Ok(Some(status)) => Missing(format!("it ended with {status}")),
        Ok(None) => Missing("it does not end".to_owned()),
        Err(error) => Missing(error.to_string()),
    }
}

fn subreaper() -> Finding {
    let before = prctl::get_child_subreaper();
    match before.and_then(|before| {
        prctl::set_child_subreaper(true)?;
        prctl::set_child_subreaper(before)
    }) {
        Ok(()) => Found(String::new()),
        Err(error) => Missing(error.to_string()),
    }
}

fn namespaces() -> Finding {
    let args = ["--user", "--map-root-user", "--pid", "--fork", "true"];
    succeeds("unshare", &args)
}

fn strace() -> Finding {
    match succeeds("strace", &["-f", "-o", "/dev/null", "true"]) {
        Found(_) => version("strace", "-V"),
        other => other,
    }
}

fn seccomp() -> Finding {
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_whitespace().any(|it| it == "errno") => Found(String::new()),
        _ => Missing("the kernel has no seccomp actions".to_owned()),
    }
}

fn landlock() -> Finding {
    match fs::read_to_string("/sys/kernel/security/lsm") {
        Ok(modules) if modules.trim().split(',').any(|it| it == "landlock") => Found(String::new()),
        Ok(modules) => Missing(format!("the kernel has {}", modules.trim())),
        Err(_) => Unknown("/sys/kernel/security cannot be read".to_owned()),
    }
}

fn terminal() -> Finding {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Missing("stdin or stdout is none".to_owned());
    }
    let size = terminal_size::terminal_size_of(io::stdout());
    let size = size.map_or("of unknown size".to_owned(), |(width, height)| {
        format!("{} x {}", width.0, height.0)
    });
    let colours = match anstream::AutoStream::choice(&io::stdout()) {
        anstream::ColorChoice::Never => "no colours",
        _ => "colours",
    };
    Found(format!("{size}, {colours}"))
}

/// The first line that a program says of itself.
fn version(program: &str, arg: &str) -> Finding {
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
fn run_quietly(program: &str, args: &[&str]) -> Result<std::process::Output, Finding> {
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

fn in_path(program: &str) -> Finding {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if found {
        Found(String::new())
    } else {
        Missing(format!("{program} is not in PATH"))
    }
}
