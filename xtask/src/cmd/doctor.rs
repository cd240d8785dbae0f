//! `cargo xtask doctor`: checks for what the demo and the rest require, and says how to get it.

use std::fs;
use std::io::{self, IsTerminal};

use nix::sys::prctl;

use crate::model::failure::Failure;
use crate::probe::need::Lack::{Missing, NoRoom, Unknown};
use crate::probe::need::{self, FOUND, Finding, Need, in_path, start, version, with_proc};
use crate::probe::{procfs, ps};
use crate::scenarios;
use crate::view::output::{self, BAD, BOLD, GOOD, MARK, styled, wrapped};

/// What there is no demo without.
const DEMO: &[Need] = &[
    Need::new("Linux 5.4 or later", linux),
    Need::new("/proc", proc),
    Need::new("ps", ps_of_procps),
    Need::new("a process started and waited for", || start(None)),
    Need::new("child subreapers", subreaper),
];

/// What a demo needs to build its programs. With --programs it builds none.
const BUILD: &[Need] = &[
    Need::new("cargo", || version("cargo", "--version")),
    Need::new("rustc", || version("rustc", "--version")),
];

/// What something else needs, besides the needs of scenarios.
const OTHERS: &[Need] = &[
    Need::new("processes of others visible", others),
    Need::new("seccomp filters", seccomp),
    Need::new("Landlock", landlock),
    Need::new("Chromium", || in_path("chromium").or_else(|_| in_path("google-chrome"))),
    Need::new("busybox", || in_path("busybox")),
    Need::new("cc", || version("cc", "--version")),
    Need::new("go", || version("go", "version")),
    Need::new("socat", || in_path("socat")),
    Need::new("tcpserver", || in_path("tcpserver")),
    Need::new("ncat", || in_path("ncat")),
    Need::new("haproxy", || in_path("haproxy")),
    Need::new("a terminal", terminal),
];

/// What to check for, and what for; all but the demo can do without.
fn checks() -> impl Iterator<Item = (&'static Need, Option<String>)> {
    let demo = DEMO.iter().map(|need| (need, None));
    let of_scenarios = need::ALL.into_iter().map(|need| {
        let users = scenarios::all();
        let users = users.filter(|it| it.needs.iter().any(|other| other.name == need.name));
        let users: Vec<&str> = users.map(|scenario| scenario.name).collect();
        (need, Some(format!("the scenarios {}", users.join(", "))))
    });
    let for_user = |need: &'static Need| (need, Some(need.user().to_owned()));
    let build = BUILD.iter().map(for_user);
    demo.chain(build).chain(of_scenarios).chain(OTHERS.iter().map(for_user))
}

/// Returns whether the demo can run.
pub(crate) fn run() -> Result<bool, Failure> {
    let width = output::width();
    let mut out = String::new();
    let mut blockers = Vec::new();
    let mut can_build = true;
    for (need, only_for) in checks() {
        let finding = (need.check)();
        if matches!(finding, Err(Missing(_) | NoRoom(..))) {
            if only_for.is_none() {
                blockers.push(need.name);
            }
            can_build &= BUILD.iter().all(|it| it.name != need.name);
        }
        out += &line(need, only_for.as_deref(), &finding, width);
    }
    let (style, conclusion) = match (&blockers[..], can_build) {
        ([], true) => (GOOD, "The demo can run.".to_owned()),
        ([], false) => (MARK, "The demo can run with --programs.".to_owned()),
        _ => (BAD, format!("The demo cannot run: missing {}.", blockers.join(", "))),
    };
    out += &wrapped(&styled(style, conclusion), "\n", "", width);
    output::print(&out)?;
    Ok(blockers.is_empty())
}

fn line(need: &Need, only_for: Option<&str>, finding: &Finding, width: usize) -> String {
    let (style, word, detail) = match finding {
        Ok(detail) => (GOOD, "found   ", detail),
        Err(Missing(why) | NoRoom(why, _)) if only_for.is_none() => (BAD, "missing ", why),
        Err(Missing(why) | NoRoom(why, _)) => (MARK, "missing ", why),
        Err(Unknown(why)) => (MARK, "unknown ", why),
    };
    let mut text = styled(BOLD, need.name);
    if !detail.is_empty() {
        text += &format!(": {detail}");
    }
    if let Err(lack) = finding {
        let user = only_for.unwrap_or("the demo");
        let remedy = match *lack {
            NoRoom(_, remedy) => remedy.to_owned(),
            _ => need::remedy(need.name),
        };
        text += &format!(". For {user}; to get it: {remedy}");
    }
    let first = format!("{} ", styled(style, word));
    wrapped(&text, &first, "         ", width)
}

fn linux() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    let release = release.map_err(|_| Unknown("/proc cannot be read".to_owned()))?;
    let release = release.trim().to_owned();
    let mut numbers = release.split(['.', '-']).map_while(|it| it.parse().ok());
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 4) { Ok(release) } else { Err(Missing(release)) }
}

fn proc() -> Finding {
    procfs::check().map_err(Missing)?;
    FOUND
}

fn others() -> Finding {
    with_proc()?;
    procfs::stat(1).ok_or_else(|| Missing("/proc is mounted with hidepid".to_owned()))?;
    FOUND
}

fn ps_of_procps() -> Finding {
    with_proc()?;
    let version = ps::check().and_then(|()| ps::version());
    version.map_err(|why| match start(None) {
        Err(NoRoom(_, remedy)) => NoRoom(why, remedy), // as for any other process
        _ => Missing(why),
    })
}

fn subreaper() -> Finding {
    let before = prctl::get_child_subreaper();
    let restored = before.and_then(|before| {
        prctl::set_child_subreaper(true)?;
        prctl::set_child_subreaper(before)
    });
    restored.map_err(|error| Missing(error.to_string()))?;
    FOUND
}

fn seccomp() -> Finding {
    with_proc()?;
    match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_whitespace().any(|it| it == "errno") => FOUND,
        _ => Err(Missing("the kernel has no seccomp actions".to_owned())),
    }
}

fn landlock() -> Finding {
    let modules = fs::read_to_string("/sys/kernel/security/lsm");
    let modules = modules.map_err(|_| Unknown("/sys/kernel/security cannot be read".to_owned()))?;
    match modules.trim().split(',').any(|it| it == "landlock") {
        true => FOUND,
        false => Err(Missing(format!("the kernel has {}", modules.trim()))),
    }
}

fn terminal() -> Finding {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Missing("stdin or stdout is none".to_owned()));
    }
    let size = terminal_size::terminal_size_of(io::stdout());
    let size = size.map_or("of unknown size".to_owned(), |(width, height)| {
        format!("{} x {}", width.0, height.0)
    });
    let colours = match anstream::AutoStream::choice(&io::stdout()) {
        anstream::ColorChoice::Never => "no colours",
        _ => "colours",
    };
    Ok(format!("{size}, {colours}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_need_has_what_helps_and_who_needs_it() {
        for (need, user) in checks() {
            assert!(!need::remedy(need.name).is_empty(), "nothing helps to get {}", need.name);
            assert_ne!(user.as_deref(), Some(""), "{} is for nobody", need.name);
        }
        for need in need::ALL {
            assert!(!need.title().zh.is_empty(), "{} has no name in Chinese", need.name);
        }
    }
}
