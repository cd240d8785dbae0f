//! `cargo xtask doctor`: checks for what the demo and the rest require, and says how to get it.
//!
//! Whatever can be tried is tried: that a program or a file is there does not mean that this user may
//! use it here.

use std::fs;
use std::io::{self, IsTerminal};
use std::time::Duration;

use nix::sys::prctl;

use crate::model::failure::Failure;
use crate::probe::need::Finding::{self, Found, Missing, NoRoom, Unknown};
use crate::probe::need::{self, Need, in_path, missing, version, with_proc};
use crate::probe::{procfs, ps};
use crate::scenarios;
use crate::view::output::{self, BAD, BOLD, GOOD, MARK, styled, wrapped};

/// The name of the entry that does nothing: starting it is the test.
pub(crate) const ENTRY: &str = "xtask-doctor";

const RUSTUP: &str = "https://rustup.rs, or demo --programs with what was built elsewhere";

/// More than enough for a process that ends at once, also on a busy machine.
const TRY_LIMIT: Duration = Duration::from_secs(10);

/// What there is no demo without.
const DEMO: &[Need] = &[
    Need {
        name: "Linux 5.4 or later",
        check: linux,
        remedy: "a newer kernel",
    },
    Need {
        name: "/proc",
        check: proc,
        remedy: procfs::REMEDY,
    },
    Need {
        name: "ps",
        check: || with_proc(ps_of_procps),
        remedy: ps::PACKAGE,
    },
    Need {
        name: "cargo",
        check: || version("cargo", "--version"),
        remedy: RUSTUP,
    },
    Need {
        name: "rustc",
        check: || version("rustc", "--version"),
        remedy: RUSTUP,
    },
    Need {
        name: "a process started and waited for",
        check: start,
        remedy: "a sandbox or container that allows to start processes, and waitid",
    },
    Need {
        name: "child subreapers",
        check: subreaper,
        remedy: "a sandbox or container that allows prctl",
    },
];

/// What only something else needs, besides the needs of scenarios.
const OTHERS: &[(&str, Need)] = &[
    (
        "looking around with ps by hand",
        Need {
            name: "processes of others visible",
            check: || with_proc(others),
            remedy: "mount -o remount,hidepid=0 /proc, which is for the whole machine",
        },
    ),
    (
        "the echo server's sandbox",
        Need {
            name: "seccomp filters",
            check: || with_proc(seccomp),
            remedy: "a kernel with CONFIG_SECCOMP_FILTER",
        },
    ),
    (
        "the echo server's sandbox",
        Need {
            name: "Landlock",
            check: landlock,
            remedy: "Linux 5.13 or later with landlock in its parameter lsm=",
        },
    ),
    (
        "the test of the report's page",
        Need {
            name: "Chromium",
            check: || match in_path("chromium") {
                Missing(_) => in_path("google-chrome"),
                found => found,
            },
            remedy: "apt-get install chromium",
        },
    ),
    (
        "the test of a ps that is another",
        Need {
            name: "busybox",
            check: || in_path("busybox"),
            remedy: "apt-get install busybox",
        },
    ),
    (
        "bench: rivals in C",
        Need {
            name: "cc",
            check: || version("cc", "--version"),
            remedy: "apt-get install gcc libc6-dev",
        },
    ),
    (
        "bench: rivals in Go",
        Need {
            name: "go",
            check: || version("go", "version"),
            remedy: "apt-get install golang-go",
        },
    ),
    (
        "bench echo: a rival",
        Need {
            name: "socat",
            check: || in_path("socat"),
            remedy: "apt-get install socat",
        },
    ),
    (
        "bench echo: a rival",
        Need {
            name: "tcpserver",
            check: || in_path("tcpserver"),
            remedy: "apt-get install ucspi-tcp",
        },
    ),
    (
        "bench echo: a rival",
        Need {
            name: "ncat",
            check: || in_path("ncat"),
            remedy: "apt-get install ncat",
        },
    ),
    (
        "demo --pause and --predict, the tree of watch, and colours",
        Need {
            name: "a terminal",
            check: terminal,
            remedy: "run it at a terminal, and not into a pipe",
        },
    ),
];

fn checks() -> impl Iterator<Item = (&'static Need, Option<String>)> {
    let demo = DEMO.iter().map(|need| (need, None));
    let of_scenarios = need::ALL.into_iter().map(|need| {
        let needs_it = |scenario: &&scenarios::Scenario| {
            scenario.needs.iter().any(|other| other.name == need.name)
        };
        let names: Vec<&str> = scenarios::all()
            .filter(needs_it)
            .map(|it| it.name)
            .collect();
        (need, Some(format!("the scenarios {}", names.join(", "))))
    });
    let others = OTHERS
        .iter()
        .map(|(user, need)| (need, Some((*user).to_owned())));
    demo.chain(of_scenarios).chain(others)
}

/// Returns whether the demo can run.
pub(crate) fn run() -> Result<bool, Failure> {
    let width = output::width();
    let mut out = String::new();
    let mut blockers = Vec::new();
    for (need, only_for) in checks() {
        let finding = (need.check)();
        if matches!(finding, Missing(_) | NoRoom(..)) && only_for.is_none() {
            blockers.push(need.name);
        }
        out += &line(need, only_for.as_deref(), &finding, width);
    }
    if blockers.is_empty() {
        out += &format!("\n{}\n", styled(GOOD, "The demo can run."));
    } else {
        let missing = format!("The demo cannot run: missing {}.", blockers.join(", "));
        out += &wrapped(&styled(BAD, missing), "\n", "", width);
    }
    output::print(&out)?;
    Ok(blockers.is_empty())
}

fn line(need: &Need, only_for: Option<&str>, finding: &Finding, width: usize) -> String {
    let (style, word, detail) = match finding {
        Found(detail) => (GOOD, "found   ", detail),
        Missing(detail) | NoRoom(detail, _) if only_for.is_none() => (BAD, "missing ", detail),
        Missing(detail) | NoRoom(detail, _) => (MARK, "missing ", detail),
        Unknown(detail) => (MARK, "unknown ", detail),
    };
    let mut text = styled(BOLD, need.name);
    if !detail.is_empty() {
        text += &format!(": {detail}");
    }
    if !matches!(finding, Found(_)) {
        let user = only_for.unwrap_or("the demo");
        let remedy = match finding {
            NoRoom(_, remedy) => remedy,
            _ => need.remedy,
        };
        text += &format!(". For {user}; to get it: {remedy}");
    }
    let first = format!("{} ", styled(style, word));
    wrapped(&text, &first, "         ", width)
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
