//! The servers of `cargo xtask bench echo`: which there are, where they come from, and what is to
//! be seen of one from outside.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Linking, Missing, built, compile};
use crate::census::{self, Census};
use crate::worker::cleanup;

/// Limits that no rival has, so that like is compared with like; and any free port.
const NO_LIMITS: &str = "0 --max-children 0 --idle-timeout 0 --write-timeout 0";

/// In place of which a free port is put into the arguments of a server that cannot choose one.
const PORT: &str = "PORT";

/// One server, started in one way.
pub(super) struct Row {
    /// What it is called on the command line and in `--json`.
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    pub(super) source: Source,
    pub(super) args: &'static str,
    /// Arguments for none and for [`HELD`](super::echo::HELD) idle connections, where the number
    /// of processes does not follow from that of the connections.
    pub(super) workers: Option<[&'static str; 2]>,
}

/// Where a server's program comes from.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Source {
    Ours(Linking),
    /// Files in `rivals`.
    C(&'static str),
    Go(&'static str),
    /// A program, and how to get it.
    Installed(&'static str, &'static str),
}

/// Without it, there is nothing to measure.
pub(super) const OURS: Source = Source::Ours(Linking::Dynamic);

pub(super) const ROWS: &[Row] = &[
    Row {
        key: "fork",
        name: "fork",
        source: OURS,
        args: "--model fork --sandbox off",
        workers: None,
    },
    Row {
        key: "fork-sandboxed",
        name: "fork, sandboxed",
        source: OURS,
        args: "--model fork",
        workers: None,
    },
    Row {
        key: "reexec",
        name: "reexec",
        source: OURS,
        args: "--model reexec --sandbox off",
        workers: None,
    },
    Row {
        key: "reexec-static",
        name: "reexec, static",
        source: Source::Ours(Linking::Static),
        args: "--model reexec --sandbox off",
        workers: None,
    },
    Row {
        key: "prefork",
        name: "prefork",
        source: OURS,
        args: "--model prefork --sandbox off",
        workers: Some(["--workers 1", "--workers 1000"]),
    },
    Row {
        key: "thread",
        name: "thread",
        source: OURS,
        args: "--model thread --sandbox off",
        workers: None,
    },
    Row {
        key: "multiplex",
        name: "multiplex",
        source: OURS,
        args: "--model multiplex --sandbox off",
        workers: None,
    },
    Row {
        key: "c-fork",
        name: "C, fork",
        source: Source::C("echo_fork.c"),
        args: "",
        workers: None,
    },
    Row {
        key: "c-epoll",
        name: "C, epoll",
        source: Source::C("echo_epoll.c"),
        args: "",
        workers: None,
    },
    Row {
        key: "go",
        name: "Go, goroutines",
        source: Source::Go("echo.go"),
        args: "",
        workers: None,
    },
    Row {
        key: "socat",
        name: "socat, fork",
        source: Source::Installed("socat", "apt-get install socat"),
        args: "-b16384 TCP-LISTEN:PORT,bind=127.0.0.1,fork,reuseaddr,backlog=4096 PIPE",
        workers: None,
    },
    Row {
        key: "tcpserver",
        name: "tcpserver + cat",
        source: Source::Installed("tcpserver", "apt-get install ucspi-tcp"),
        args: "-H -R -l 0 -c 2000 -b 4096 127.0.0.1 PORT cat",
        workers: None,
    },
    Row {
        key: "ncat",
        name: "ncat + cat",
        source: Source::Installed("ncat", "apt-get install ncat"),
        args: "-l -k -m 2000 -e /bin/cat 127.0.0.1 PORT",
        workers: None,
    },
];

impl Row {
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.source, Source::Ours(_))
    }

    /// As one would type it.
    pub(super) fn command(&self) -> String {
        let program = match self.source {
            Source::Ours(_) => "echo-server",
            Source::C(file) | Source::Go(file) => {
                file.trim_end_matches(".c").trim_end_matches(".go")
            }
            Source::Installed(name, _) => name,
        };
        [&[program], self.args(None).as_slice()].concat().join(" ")
    }

    fn args(&self, more: Option<&'static str>) -> Vec<&'static str> {
        let ours = if self.is_ours() { NO_LIMITS } else { "" };
        [ours, self.args, more.unwrap_or_default()]
            .into_iter()
            .flat_map(str::split_ascii_whitespace)
            .collect()
    }

    /// Finds or builds the program. Our own has to be there; a rival may be missing.
    pub(super) fn program(&self, folder: &Path) -> Result<PathBuf, Missing> {
        let (found, how_to_get_it) = match self.source {
            Source::Ours(linking) => (
                built(
                    folder,
                    &["--release", "--package", "echo-server", "--bin"],
                    "echo-server",
                    linking,
                ),
                "rustup, and libc6-dev for a static libc",
            ),
            Source::C(file) => (
                compiled(folder, file, |source, to| {
                    compile("cc", &["-O2", "-o", to, source])
                }),
                "apt-get install gcc libc6-dev",
            ),
            Source::Go(file) => (
                compiled(folder, file, |source, to| {
                    compile("go", &["build", "-o", to, source])
                }),
                "apt-get install golang-go",
            ),
            Source::Installed(name, how_to_get_it) => (installed(name), how_to_get_it),
        };
        found.map_err(|why| Missing {
            what: self.name,
            why,
            how_to_get_it,
        })
    }
}

fn compiled(
    folder: &Path,
    file: &str,
    compile: impl Fn(&str, &str) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let source = format!("{}/src/bench/rivals/{file}", env!("CARGO_MANIFEST_DIR"));
    let program = folder.join(file.replace('.', "-"));
    compile(&source, &program.to_string_lossy())?;
    Ok(program)
}

fn installed(name: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| format!("there is no {name} in PATH"))
}

/// A server at work, the only one of this process: dropped, it is ended, and with it everything
/// that was started since. This process must be a child subreaper.
pub(super) struct Server {
    process: Child,
    pub(super) address: SocketAddrV4,
    /// Kept open for a server that may want to say more.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts it, and waits until it serves. What it says on stderr goes to `log`.
    pub(super) fn start(
        row: &Row,
        program: &Path,
        more: Option<&'static str>,
        log: &Path,
    ) -> Result<Self, String> {
        const TRIES: usize = 3;
        let args = row.args(more);
        if !row.args.contains(PORT) {
            return Self::start_once(program, &args, None, log);
        }
        let mut result = Err(String::new());
        for _ in 0..TRIES {
            // Free a moment ago; somebody else may take it before the server does.
            let port = free_port().map_err(|error| format!("there is no free port: {error}"))?;
            let text = port.to_string();
            let args: Vec<String> = args.iter().map(|arg| arg.replace(PORT, &text)).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            result = Self::start_once(program, &args, Some(port), log);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// On this port, or on one that it says on stdout.
    fn start_once(
        program: &Path,
        args: &[&str],
        port: Option<u16>,
        log: &Path,
    ) -> Result<Self, String> {
        let stderr = File::create(log)
            .map_err(|error| format!("cannot write to {}: {error}", log.display()))?;
        let stdout = if port.is_some() {
            Stdio::null()
        } else {
            Stdio::piped()
        };
        let mut process = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let stdout = process.stdout.take().map(BufReader::new);
        let mut server = Self {
            process,
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port.unwrap_or(0)),
            _stdout: None,
        };
        let ready = match stdout {
            Some(stdout) => server.hear_of_address(stdout),
            None => server.connect(),
        };
        ready.map_err(|why| server.told(program, args, why, log))?;
        Ok(server)
    }

    fn hear_of_address(&mut self, mut stdout: BufReader<ChildStdout>) -> Result<(), &'static str> {
        let mut line = String::new();
        let mut fds = [PollFd::new(stdout.get_ref().as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::from(START_LIMIT.as_millis() as u16);
        if !matches!(poll(&mut fds, limit), Ok(1..)) || stdout.read_line(&mut line).is_err() {
            return Err("does not say where it listens");
        }
        self._stdout = Some(stdout);
        let address = line
            .strip_prefix("listening on ")
            .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
        self.address = address.ok_or("does not say where it listens")?;
        Ok(())
    }

    fn connect(&mut self) -> Result<(), &'static str> {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(self.address).is_err() {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return Err("has ended");
            }
            if Instant::now() > deadline {
                return Err("does not listen");
            }
            thread::sleep(TICK);
        }
        Ok(())
    }

    /// Why it does not serve, with what it has said and how it has ended.
    fn told(&mut self, program: &Path, args: &[&str], why: &str, log: &Path) -> String {
        let deadline = Instant::now() + TICK * 10;
        let mut ended = None;
        while ended.is_none() && Instant::now() < deadline {
            ended = self.process.try_wait().ok().flatten();
            thread::sleep(TICK);
        }
        let how = ended.map_or(String::new(), |status| format!(", {status}"));
        let said = fs::read_to_string(log).unwrap_or_default();
        let said = said.lines().next().unwrap_or("it said nothing");
        let name = program.file_name().unwrap_or_default().display();
        format!("{name} {} {why}{how}: {said}", args.join(" "))
    }

    fn pid(&self) -> i32 {
        self.process.id() as i32
    }

    /// What there is of it when nothing changes any more.
    pub(super) fn at_rest(&self) -> Result<Census, String> {
        let mut last = census::of(self.pid())?;
        for _ in 0..REST_LIMIT {
            thread::sleep(TICK * 5);
            let now = census::of(self.pid())?;
            if now == last {
                break;
            }
            last = now;
        }
        Ok(last)
    }

    /// What there is of it when it is as it was `before`, or does not become so.
    pub(super) fn back_to(&self, before: Census) -> Result<Census, String> {
        let mut now = census::of(self.pid())?;
        for _ in 0..REST_LIMIT {
            if now == before {
                break;
            }
            thread::sleep(TICK * 5);
            now = census::of(self.pid())?;
        }
        Ok(now)
    }

    /// The memory of all its processes, in KiB.
    pub(super) fn memory_kib(&self) -> Result<u64, String> {
        census::memory_kib(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = cleanup::kill_and_reap_all(); // what is left is told of at the end
    }
}

const START_LIMIT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(10);
/// Times 5 ticks.
const REST_LIMIT: usize = 40;

fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rows_have_the_same_key() {
        let mut keys: Vec<_> = ROWS.iter().map(|row| row.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), ROWS.len());
    }

    #[test]
    fn a_command_can_be_typed() {
        let command = |key| ROWS.iter().find(|row| row.key == key).map(Row::command);
        assert_eq!(command("c-fork").unwrap(), "echo_fork");
        assert!(
            command("fork")
                .unwrap()
                .starts_with("echo-server 0 --max-children 0 ")
        );
    }
}
