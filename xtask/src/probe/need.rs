//! What scenarios require that not every machine has: whether it is here, and how to get it.
//!
//! Whatever can be tried is tried: that a program, a file or a capability is there does not mean that
//! this user may use it here.
//!
//! A need is declared here once. It is in `list`, `doctor` checks for it, and where it is missing the
//! scenario is skipped with the reason.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::geteuid;

use crate::model::bilingual::{Text, same, text};
use crate::model::markdown::Texts;
use crate::probe::procfs;

/// The name of the entry that does nothing: starting it is the test.
pub(crate) const ENTRY: &str = "xtask-check";

/// More than enough for a process that ends at once, also on a busy machine.
const TRY_LIMIT: Duration = Duration::from_secs(10);

/// Its texts are in the section of its name in `needs.txt`.
pub(crate) struct Need {
    pub(crate) name: &'static str,
    pub(crate) check: fn() -> Finding,
}

static TEXTS: LazyLock<Texts> = LazyLock::new(|| Texts::of([include_str!("needs.txt"), ""]));
const IN_CHINESE: &str = "In Chinese";
const FOR: &str = "For";
const PACKAGES: &str = "Packages";
const WHAT_HELPS: &str = "What helps";

/// The programs that install packages, and how.
const INSTALL: [[&str; 2]; 4] =
    [["apt-get", "install"], ["dnf", "install"], ["apk", "add"], ["pacman", "-S"]];

/// Where a package manager is, whatever PATH says.
const SYSTEM_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";

impl Need {
    pub(crate) const fn new(name: &'static str, check: fn() -> Finding) -> Self {
        Self { name, check }
    }

    /// Its name for readers of scenarios.
    pub(crate) fn title(&self) -> Text {
        text(self.name, said(self.name, IN_CHINESE))
    }

    /// What needs it, if that is neither the demo nor a scenario.
    pub(crate) fn user(&self) -> &'static str {
        said(self.name, FOR)
    }

    /// Fails if it is missing, with a sentence on what helps. Where that cannot be found out, the
    /// program is left to find out itself.
    pub(crate) fn require(&self) -> Result<(), String> {
        match (self.check)() {
            Err(Missing(why)) => {
                let (name, remedy) = (self.name, remedy(self.name));
                Err(format!("missing {name}: {why}; what helps: {remedy}"))
            }
            _ => Ok(()),
        }
    }
}

fn said(name: &'static str, label: &'static str) -> &'static str {
    TEXTS.get(name, same(label)).en
}

/// What helps where this need is missing.
pub(crate) fn remedy(name: &'static str) -> String {
    let (packages, what_helps) = (said(name, PACKAGES), said(name, WHAT_HELPS));
    match (packages, what_helps) {
        ("", _) => what_helps.to_owned(),
        (_, "") => installing(packages),
        _ => format!("{}, and {what_helps}", installing(packages)),
    }
}

/// How these packages are installed here.
fn installing(packages: &str) -> String {
    let names: Vec<&str> = packages.split(", ").collect();
    let in_folders = |path| INSTALL.iter().position(|[program, _]| is_in(path, program));
    let path = env::var_os("PATH").unwrap_or_default();
    match in_folders(&path).or_else(|| in_folders(SYSTEM_PATH.as_ref())) {
        Some(it) => format!("{} {}", INSTALL[it].join(" "), names.get(it).unwrap_or(&names[0])),
        None => format!("what Debian calls {}", names[0]),
    }
}

pub(crate) const ALL: [&Need; 4] = [NAMESPACES, OTHER_USERS, LOOPBACK, STRACE];

pub(crate) const NAMESPACES: &Need = &Need::new("user and PID namespaces", namespaces);
pub(crate) const OTHER_USERS: &Need = &Need::new("processes of another user", other_users);
pub(crate) const LOOPBACK: &Need = &Need::new("the loopback network", loopback);
pub(crate) const STRACE: &Need = &Need::new("strace", strace);

/// It is here, and of this kind, if that is worth saying; or not.
pub(crate) type Finding = Result<String, Lack>;

/// Each with the reason.
#[derive(Debug)]
pub(crate) enum Lack {
    Missing(String),
    /// It may be here, but there is no room now to try it; and the remedy for that.
    NoRoom(String, &'static str),
    /// This cannot be found out.
    Unknown(String),
}

use Lack::{Missing, NoRoom, Unknown};

pub(crate) const FOUND: Finding = Ok(String::new());

fn namespaces() -> Finding {
    with_proc()?;
    let as_user: &[&str] = match geteuid().is_root() {
        true => &[],
        false => &["--user", "--map-root-user"],
    };
    in_path("unshare").map_err(|_| Unknown("unshare is not in PATH".to_owned()))?;
    run_quietly("unshare", &[as_user, &["--pid", "--fork", "true"]].concat())?;
    FOUND
}

/// Root becomes another user, for which capabilities and ids are required; anybody else makes a user
/// namespace.
fn other_users() -> Finding {
    match geteuid().is_root() {
        true => OTHER_IDS.into_iter().try_fold(String::new(), |_, id| start(Some(id))),
        false => namespaces(),
    }
}

/// Between these are the ids that the program of the scenario takes.
const OTHER_IDS: [u32; 2] = [20_000, 59_999];

/// Starts a process, as this user and group if there is one, with `reexec`, which requires what the
/// scenarios require.
pub(crate) fn start(other: Option<u32>) -> Finding {
    let mut command = reexec::command(ENTRY);
    if let Some(id) = other {
        command.uid(id).gid(id);
    }
    let child = command.spawn();
    let child = child.map_err(|error| lack(error.raw_os_error(), error.to_string()))?;
    match child.wait_timeout(TRY_LIMIT) {
        Ok(Some(status)) if status.success() => FOUND,
        Ok(Some(status)) => Err(Missing(format!("it ended with {status}"))),
        Ok(None) => Err(Missing("it does not end".to_owned())),
        Err(error) => Err(Missing(error.to_string())),
    }
}

fn loopback() -> Finding {
    let listener = TcpListener::bind(("127.0.0.1", 0));
    let connected = listener.and_then(|it| TcpStream::connect(it.local_addr()?).map(drop));
    connected.map_err(|error| lack(error.raw_os_error(), error.to_string()))?;
    FOUND
}

fn strace() -> Finding {
    run_quietly("strace", &["-f", "-o", "/dev/null", "true"])?;
    version("strace", "-V")
}

/// Without a /proc that is ours, a check that uses it cannot find out anything.
pub(crate) fn with_proc() -> Finding {
    procfs::check().map_err(|_| Unknown("this requires /proc".to_owned()))?;
    FOUND
}

/// For a process that could not be started or spoken with. That there is no room for it is another
/// matter than that it is not here, or not allowed.
pub(crate) fn lack(error: Option<i32>, why: String) -> Lack {
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
    let printed = run_quietly(program, &[arg])?;
    Ok(printed.lines().next().unwrap_or_default().to_owned())
}

/// What it prints, if it succeeds; or a few words on why not.
fn run_quietly(program: &str, args: &[&str]) -> Finding {
    let output =
        Command::new(program).args(args).env("LC_ALL", "C").stdin(Stdio::null()).output().map_err(
            |error| match error.kind() {
                io::ErrorKind::NotFound => Missing(format!("{program} is not in PATH")),
                _ => lack(error.raw_os_error(), error.to_string()),
            },
        )?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = stderr.lines().next().unwrap_or_default();
    Err(Missing(format!("{}: {said}", output.status)))
}

pub(crate) fn in_path(program: &str) -> Finding {
    match is_in(&env::var_os("PATH").unwrap_or_default(), program) {
        true => FOUND,
        false => Err(Missing(format!("{program} is not in PATH"))),
    }
}

/// Whether the program is in one of these folders, which are written as in PATH.
fn is_in(path: &OsStr, program: &str) -> bool {
    env::split_paths(path).any(|folder| folder.join(program).is_file())
}
