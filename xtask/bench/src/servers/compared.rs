//! The servers that `bench echo` compares: where their programs come from, how each is started, and
//! what one looks like from outside.

use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use xtask_bench_options::Server as Name;

use crate::process::{
    Census, descendants, kill_and_reap_all, linking, memory_kib, processor_time, tree,
};
use crate::programs::{
    GET_C, GET_GO, GET_RUST, Linking, Missing, cargo_build, compile_c, compile_go, installed,
};
use crate::servers::start::{address, start};

/// Idle connections whose memory is measured.
pub(crate) const IDLE: usize = 1_000;

/// Limits that no rival has, so that like is compared with like; and any free port.
const NO_LIMITS: &str = "0 --max-children 0 --idle-timeout 0 --write-timeout 0";

/// Replaced by a free port in the arguments of a server that cannot choose one.
const PORT: &str = "PORT";

/// How to start one of the servers.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// In the table and the charts; of ours, the model.
    pub(crate) name: &'static str,
    pub(crate) source: Source,
    /// Whether ours uses its sandbox, as it does by default. Rivals have none.
    pub(crate) sandbox: bool,
    args: &'static str,
    /// More arguments for none and for [`IDLE`] connections, if the number of processes does not follow
    /// from that of the connections.
    pub(crate) workers: Option<[&'static str; 2]>,
}

/// Where a server's program comes from.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Source {
    Ours(Linking),
    /// Files in `rivals`.
    C(&'static str),
    Go(&'static str),
    /// A program, and how to get it.
    Installed(&'static str, &'static str),
}

/// Without it, there is nothing to measure.
pub(crate) const OURS: Source = Source::Ours(Linking::Dynamic);

/// The same program without the loader's work.
const STATIC: Source = Source::Ours(Linking::Static);

impl Row {
    pub(crate) fn of(server: Name) -> Self {
        match server {
            Name::Fork => Self::ours("fork", OURS),
            Name::ForkSandboxOff => Self::ours("fork", OURS).without_sandbox(),
            Name::ForkStatic => Self::ours("fork", STATIC),
            Name::ForkStaticSandboxOff => Self::ours("fork", STATIC).without_sandbox(),
            Name::Template => Self::ours("template", OURS),
            Name::TemplateSandboxOff => Self::ours("template", OURS).without_sandbox(),
            Name::TemplateStatic => Self::ours("template", STATIC),
            Name::TemplateStaticSandboxOff => Self::ours("template", STATIC).without_sandbox(),
            Name::Reexec => Self::ours("reexec", OURS),
            Name::ReexecStatic => Self::ours("reexec", STATIC),
            Name::Prefork => Self {
                workers: Some(["--workers 1", "--workers 1000"]),
                ..Self::ours("prefork", OURS)
            },
            Name::Thread => Self::ours("thread", OURS),
            Name::Multiplex => Self::ours("multiplex", OURS),
            Name::CFork => Self::rival("C, fork", Source::C("echo_fork.c"), ""),
            Name::CEpoll => Self::rival("C, epoll", Source::C("echo_epoll.c"), ""),
            Name::Go => Self::rival("Go, goroutines", Source::Go("echo.go"), ""),
            Name::Socat => Self::rival(
                "socat, fork",
                Source::Installed("socat", "apt-get install socat"),
                "-b16384 TCP-LISTEN:PORT,bind=127.0.0.1,fork,reuseaddr,backlog=4096 PIPE",
            ),
            Name::Tcpserver => Self::rival(
                "tcpserver + cat",
                Source::Installed("tcpserver", "apt-get install ucspi-tcp"),
                "-H -R -l 0 -c 2000 -b 4096 127.0.0.1 PORT cat",
            ),
            Name::Ncat => Self::rival(
                "ncat + cat",
                Source::Installed("ncat", "apt-get install ncat"),
                "-l -k -m 2000 -e /bin/cat 127.0.0.1 PORT",
            ),
        }
    }

    fn ours(name: &'static str, source: Source) -> Self {
        Self { name, source, sandbox: true, args: "", workers: None }
    }

    fn without_sandbox(self) -> Self {
        Self { sandbox: false, ..self }
    }

    fn rival(name: &'static str, source: Source, args: &'static str) -> Self {
        Self { name, source, sandbox: false, args, workers: None }
    }

    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.source, Source::Ours(_))
    }

    /// Whether it is a rival, or ours as it ships. The charts show no others.
    pub(crate) fn is_default(&self) -> bool {
        !self.is_ours() || self.source == OURS && self.sandbox
    }

    /// Returns `on` or `off`, or `-` for a rival.
    pub(crate) fn sandbox(&self) -> &'static str {
        match (self.is_ours(), self.sandbox) {
            (false, _) => "-",
            (true, true) => "on",
            (true, false) => "off",
        }
    }

    /// Returns the name with the build and the sandbox, where there are several.
    pub(crate) fn full_name(&self) -> String {
        match self.source {
            Source::Ours(linking) => {
                format!("{}, {linking}, sandbox {}", self.name, self.sandbox())
            }
            _ => self.name.to_owned(),
        }
    }

    /// Returns the command as one would type it.
    pub(crate) fn command(&self) -> String {
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
        let ours: &[&str] = match (self.is_ours(), self.sandbox) {
            (false, _) => &[],
            (true, true) => &[NO_LIMITS, "--model", self.name],
            (true, false) => &[NO_LIMITS, "--model", self.name, "--sandbox off"],
        };
        let all = ours.iter().copied().chain([self.args, more.unwrap_or_default()]);
        all.flat_map(str::split_ascii_whitespace).collect()
    }

    /// Finds or builds the program.
    pub(crate) fn program(&self, folder: &Path) -> Result<PathBuf, Missing> {
        let compiled = |file: &str| folder.join(file.replace('.', "-"));
        let (found, how_to_get_it) = match self.source {
            Source::Ours(linking) => {
                (cargo_build("echo-server", &["--bin"], "echo-server", linking, folder), GET_RUST)
            }
            Source::C(file) => {
                let program = compiled(file);
                (compile_c(file, &program, &[]).map(|()| program), GET_C)
            }
            Source::Go(file) => {
                let program = compiled(file);
                (compile_go(file, &program).map(|()| program), GET_GO)
            }
            Source::Installed(name, how_to_get_it) => (installed(name), how_to_get_it),
        };
        found.map_err(|why| Missing { what: self.full_name(), why, how_to_get_it })
    }
}

/// A server that serves, the only one of this process. Dropping it kills every process that we have
/// started. This process must be a child subreaper.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: SocketAddrV4,
    /// Kept open for a server that prints more.
    _stdout: Option<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts a server, and waits until it serves. Its stderr goes to `log`.
    pub(crate) fn start(
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
            // Free a moment ago; another program may take it before the server does.
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

    /// Starts it on this port, or on one that it prints.
    fn start_once(
        program: &Path,
        args: &[&str],
        port: Option<u16>,
        log: &Path,
    ) -> Result<Self, String> {
        let stdout = if port.is_some() { Stdio::null() } else { Stdio::piped() };
        let mut process = start(program, args, stdout, log)?;
        let stdout = process.stdout.take().map(BufReader::new);
        let mut server = Self {
            process,
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port.unwrap_or(0)),
            _stdout: None,
        };
        let ready = match stdout {
            Some(stdout) => server.read_address(stdout),
            None => server.connect(),
        };
        ready.map_err(|why| server.failure(program, args, why, log))?;
        Ok(server)
    }

    fn read_address(&mut self, mut stdout: BufReader<ChildStdout>) -> Result<(), &'static str> {
        let mut line = String::new();
        let mut fds = [PollFd::new(stdout.get_ref().as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::from(START_LIMIT.as_millis() as u16);
        if !matches!(poll(&mut fds, limit), Ok(1..)) || stdout.read_line(&mut line).is_err() {
            return Err("does not print where it listens");
        }
        self._stdout = Some(stdout);
        self.address = address(&line).ok_or("does not print where it listens")?;
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

    /// Returns a sentence on why it does not serve, with how it has ended and the first line of its log.
    fn failure(&mut self, program: &Path, args: &[&str], why: &str, log: &Path) -> String {
        let deadline = Instant::now() + TICK * 10;
        let mut ended = None;
        while ended.is_none() && Instant::now() < deadline {
            ended = self.process.try_wait().ok().flatten();
            thread::sleep(TICK);
        }
        let how = ended.map_or(String::new(), |status| format!(", {status}"));
        let log = fs::read_to_string(log).unwrap_or_default();
        let printed = log.lines().next().unwrap_or("it printed nothing");
        let name = program.file_name().unwrap_or_default().display();
        format!("{name} {} {why}{how}: {printed}", args.join(" "))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    /// Counts its processes when nothing changes any more.
    pub(crate) fn at_rest(&self) -> Census {
        self.count_until(|last, now| last == now)
    }

    /// Counts its processes when they are as they were `before`, or do not become so.
    pub(crate) fn back_to(&self, before: Census) -> Census {
        self.count_until(|_, now| now == before)
    }

    fn count_until(&self, is_good: impl Fn(Census, Census) -> bool) -> Census {
        let mut last = Census::default(); // which no server is like: it has a process
        for _ in 0..REST_LIMIT {
            let now = Census::of(&tree(self.pid()));
            if is_good(last, now) {
                return now;
            }
            last = now;
            thread::sleep(TICK * 5);
        }
        last
    }

    pub(crate) fn linking(&self) -> Option<Linking> {
        linking(self.pid())
    }

    /// Returns the processor time of all its processes since their start, also of those that have
    /// ended, and of those that were orphaned and are ours now.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(&descendants())
    }

    /// Returns the memory of all its processes, in KiB.
    pub(crate) fn memory_kib(&self) -> Result<u64, String> {
        memory_kib(&tree(self.pid()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill_and_reap_all();
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
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn a_command_can_be_typed() {
        let command = |server| Row::of(server).command();
        assert_eq!(command(Name::CFork), "echo_fork");
        let fork = command(Name::ForkSandboxOff);
        assert!(fork.starts_with("echo-server 0 --max-children 0 "), "{fork}");
        assert!(fork.ends_with(" --model fork --sandbox off"), "{fork}");
        assert!(command(Name::Fork).ends_with(" --model fork"));
    }

    #[test]
    fn a_name_tells_the_build_and_the_sandbox() {
        let name = |server| Row::of(server).full_name();
        assert_eq!(name(Name::ForkStaticSandboxOff), "fork, static, sandbox off");
        assert_eq!(name(Name::Prefork), "prefork, dynamic, sandbox on");
        assert_eq!(name(Name::CFork), "C, fork");
    }

    #[test]
    fn the_charts_show_each_model_once() {
        let shown = Name::value_variants().iter().map(|server| Row::of(*server));
        let shown: Vec<&str> = shown.filter(Row::is_default).map(|row| row.name).collect();
        let mut once = shown.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(shown.len(), once.len(), "{shown:?}");
    }
}
