//! Starts the real programs for tests, and looks at them as a user does: at what they print, how
//! they end, and what /proc shows meanwhile. Whatever a test has started ends with the test.

#![cfg(target_os = "linux")] // elsewhere it is empty, so that the only error is that of reexec
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at the first surprise")]

use std::env;
use std::fmt::Debug;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, mkdtemp};

/// How long a test waits for something before it fails.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(3);
const LONGEST_PAUSE: Duration = Duration::from_millis(30);

/// Texts that an option in seconds must refuse.
pub const NOT_SECONDS: [&str; 6] = ["-1", "abc", "", "1e99", "nan", "inf"];

/// How the line begins with which a program suggests to look at its processes. Their numbers follow.
const SUGGESTION: &str = "look: ps -o pid,ppid,stat,wchan:20,args -p ";

/// Variables that may be set where the tests run, and would make a program colour what it prints,
/// or talk to a service manager.
const UNWANTED_VARIABLES: [&str; 5] =
    ["CLICOLOR_FORCE", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];

/// Looks again and again until what it sees is good, and returns that. Fails after [`LIMIT`].
#[track_caller]
pub fn wait_until<T: Debug>(what: &str, look: impl FnMut() -> T, good: impl Fn(&T) -> bool) -> T {
    wait_until_within(LIMIT, what, look, good)
}

/// The same with another limit.
#[track_caller]
pub fn wait_until_within<T: Debug>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> T,
    good: impl Fn(&T) -> bool,
) -> T {
    let start = Instant::now();
    loop {
        let began = Instant::now();
        let seen = look();
        if good(&seen) {
            return seen;
        }
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}; last seen: {seen:?}");
        // A look at much would otherwise take the processor from what is waited for. On a busy machine, any
        // look takes long.
        thread::sleep((began.elapsed() * 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
    }
}

/// Returns a command for an example of the crate whose test this is. `cargo test` builds the
/// examples unless it is told to build or run only some tests.
#[track_caller]
pub fn example(name: &str, args: &[&str]) -> Command {
    let test = env::current_exe().unwrap();
    // Cargo has no variable for the place of an example.
    let example = test.with_file_name(format!("../examples/{name}"));
    assert!(example.exists(), "{name} is not built; first: cargo build --workspace --examples");
    let mut command = Command::new(example);
    command.args(args);
    command
}

/// A program that a test has started, in a process group of its own.
///
/// Dropped, it kills what is left of the group, and reaps it. For that, this process is a
/// subreaper: the program's orphans come to us, and to no init that may or may not reap them.
#[derive(Debug)]
pub struct Program {
    /// Reaped in the drop, not before. Until then nobody else gets its number, which is the
    /// group's.
    child: Child,
    /// Its lines, if its stdout is a pipe to us.
    pub stdout: Lines,
    /// The same for its stderr.
    pub stderr: Lines,
}

impl Program {
    /// Starts `command` with both output streams captured.
    pub fn start(command: &mut Command) -> Self {
        Self::start_to(Stdio::piped(), command)
    }

    /// Starts `command` with its stdout going to `stdout`.
    pub fn start_to(stdout: impl Into<Stdio>, command: &mut Command) -> Self {
        Self::try_start(command.stdout(stdout).stderr(Stdio::piped()))
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
    }

    /// Starts `command`, whose output streams have been set.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn try_start(command: &mut Command) -> io::Result<Self> {
        Self::try_start_from(Stdio::null(), command)
    }

    /// Starts `command`, whose output streams have been set, with its stdin coming from `stdin`.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn try_start_from(stdin: impl Into<Stdio>, command: &mut Command) -> io::Result<Self> {
        for name in UNWANTED_VARIABLES {
            let is_set_by_test = command.get_envs().any(|(set, _)| set == name);
            if !is_set_by_test {
                command.env_remove(name);
            }
        }
        prctl::set_child_subreaper(true)?;
        let mut child = command.stdin(stdin).process_group(0).spawn()?;
        Ok(Self {
            stdout: Lines::of(child.stdout.take()),
            stderr: Lines::of(child.stderr.take()),
            child,
        })
    }

    /// The number of its first process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends a signal to its first process.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// The children of its first process, alive or zombies.
    pub fn children(&self) -> Vec<Pid> {
        processes(|stat| stat.parent == self.pid())
    }

    /// Waits until its first process has one child, and returns that.
    #[track_caller]
    pub fn child(&self) -> Pid {
        wait_until("one child", || self.children(), |all| all.len() == 1)[0]
    }

    /// The other processes of its group, alive or zombies.
    pub fn rest_of_group(&self) -> Vec<Pid> {
        let mut rest = processes(|stat| stat.group == self.pid());
        rest.retain(|pid| *pid != self.pid());
        rest
    }

    /// Waits for the end of its first process, which stays a zombie until the drop.
    #[track_caller]
    pub fn end(&self) -> WaitStatus {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        wait_until(
            "the end of the program",
            || waitid(Id::Pid(self.pid()), flags).unwrap(),
            |status| *status != WaitStatus::StillAlive,
        )
    }

    /// Waits for the end of its first process, which must be an exit.
    #[track_caller]
    pub fn exit_code(&self) -> i32 {
        match self.end() {
            WaitStatus::Exited(_, code) => code,
            status => panic!("no exit code: {status:?}"),
        }
    }

    /// Waits for the end of the program and of all that holds its output open.
    #[track_caller]
    pub fn output(mut self) -> Output {
        let stdout = self.stdout.rest();
        let stderr = self.stderr.rest();
        let code = self.exit_code();
        Output { code, stdout, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let children = self.children();
        // An error means that all of it has ended, which is fine.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let group = Pid::from_raw(-self.pid().as_raw());
        while matches!(waitpid(group, None), Ok(_) | Err(Errno::EINTR)) {}
        // Children in other groups have been adopted by us, so nobody else has got their numbers. What
        // they have made is in theirs, and is adopted by us when they end.
        for child in children {
            let _ = killpg(child, Signal::SIGKILL);
            let _ = kill(child, Signal::SIGKILL);
            let group = Pid::from_raw(-child.as_raw());
            for ended in [child, group] {
                while matches!(waitpid(ended, None), Ok(_) | Err(Errno::EINTR)) {}
            }
        }
    }
}

/// How a program has ended, and what it has printed.
#[derive(Debug)]
pub struct Output {
    /// The exit code.
    pub code: i32,
    /// The lines on stdout.
    pub stdout: Vec<String>,
    /// The lines on stderr.
    pub stderr: Vec<String>,
}

impl Output {
    /// Asserts that it has ended with this exit code, and that every line on stderr contains
    /// `reason`, apart from a suggestion to look with ps.
    #[track_caller]
    pub fn assert_failed(&self, code: i32, reason: &str) {
        assert_eq!(self.code, code, "{self:?}");
        let failures = self.stderr.iter().filter(|line| !line.starts_with(SUGGESTION));
        let failures: Vec<_> = failures.collect();
        assert!(!failures.is_empty(), "{self:?}");
        for line in failures {
            assert!(line.contains(reason), "{self:?}");
        }
    }

    /// Asserts exit code 2, nothing on stdout, and `subject` on stderr.
    #[track_caller]
    pub fn assert_usage(&self, subject: &str) {
        assert_eq!(self.code, 2, "{self:?}");
        assert!(self.stderr.concat().contains(subject), "{self:?}");
        assert!(self.stdout.is_empty(), "{self:?}");
    }
}

/// The lines of an output stream, one by one as they come.
#[derive(Debug)]
pub struct Lines(Receiver<String>);

impl Lines {
    fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let (sender, lines) = channel();
        if let Some(stream) = stream {
            thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n') {
                    let line = String::from_utf8_lossy(&line.unwrap()).into_owned();
                    if sender.send(without_stamp(&line).to_owned()).is_err() {
                        break; // the test has ended
                    }
                }
            });
        }
        Self(lines)
    }

    /// Waits for the next line. There must be one.
    #[expect(clippy::should_implement_trait, reason = "not to be iterated: each line is asserted")]
    #[track_caller]
    pub fn next(&mut self) -> String {
        self.try_next().expect("another line before the end")
    }

    /// Waits for the next line that contains `text`, and passes over the lines before it.
    #[track_caller]
    pub fn next_with(&mut self, text: &str) -> String {
        let mut passed = Vec::new();
        while let Some(line) = self.try_next() {
            if line.contains(text) {
                return line;
            }
            passed.push(line);
        }
        panic!("no line with {text:?} among {passed:?}");
    }

    /// Waits for the end of the stream, and returns the lines that are left.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.try_next() {
            lines.push(line);
        }
        lines
    }

    #[track_caller]
    fn try_next(&mut self) -> Option<String> {
        match self.0.recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("neither a line nor the end in {LIMIT:?}"),
        }
    }
}

/// Returns the line without the time before it, such as `2026-11-28T04:05:06.789Z `, if it has one.
pub fn without_stamp(line: &str) -> &str {
    const STAMP: &str = "0000-00-00T00:00:00.000Z ";
    let as_in_stamp = |(byte, wanted): (u8, u8)| match wanted {
        b'0' => byte.is_ascii_digit(),
        _ => byte == wanted,
    };
    match line.split_at_checked(STAMP.len()) {
        Some((start, rest)) if start.bytes().zip(STAMP.bytes()).all(as_in_stamp) => rest,
        _ => line,
    }
}

/// A process in /proc/PID/stat; see proc_pid_stat(5).
#[derive(Debug)]
pub struct Stat {
    /// Its number, which another process may get once this one is reaped.
    pub pid: Pid,
    /// The name of the program, which even a zombie keeps.
    pub name: String,
    /// `S` sleeping, `Z` zombie, and so on.
    pub state: char,
    /// The parent, or the process that has adopted it.
    pub parent: Pid,
    group: Pid,
    /// Processor time used, in hundredths of a second.
    pub ticks: u64,
    /// The same of its children that have been reaped, and of those that they have reaped.
    pub ticks_of_children: u64,
    /// When it started, in hundredths of a second after boot: tells it from a later one of its number.
    pub start: u64,
}

/// Reads /proc/PID/stat; `None` if there is no such process, not even as a zombie.
pub fn stat(pid: Pid) -> Option<Stat> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name may contain anything, also `)`.
    let (start, fields) = stat.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |field: usize| fields[field].parse::<i32>().unwrap();
    Some(Stat {
        pid,
        name: name.to_owned(),
        state: fields[0].chars().next()?,
        parent: Pid::from_raw(number(1)),
        group: Pid::from_raw(number(2)),
        ticks: (number(11) + number(12)).unsigned_abs().into(),
        ticks_of_children: (number(13) + number(14)).unsigned_abs().into(),
        start: fields[19].parse().unwrap(),
    })
}

/// Returns the letter that `ps` shows; `None` if there is no such process.
pub fn state(pid: Pid) -> Option<char> {
    stat(pid).map(|stat| stat.state)
}

/// Waits until the process sleeps.
#[track_caller]
pub fn assert_sleeps(pid: Pid) {
    wait_until("S", || state(pid), |state| *state == Some('S'));
}

/// Waits until the process has ended and is not reaped.
#[track_caller]
pub fn assert_zombie(pid: Pid) {
    wait_until("Z", || state(pid), |state| *state == Some('Z'));
}

/// Returns the `wanted` processes of the whole machine.
pub fn processes(wanted: impl Fn(&Stat) -> bool) -> Vec<Pid> {
    let wanted = stats().filter(wanted);
    wanted.map(|stat| stat.pid).collect()
}

/// Looks at all processes of the machine, one after the other.
pub fn stats() -> impl Iterator<Item = Stat> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| stat(Pid::from_raw(pid)))
}

/// Returns the process number at the end of a line such as `My pid is: 4711`. A signal to a number
/// below 2 would hit other processes, so there must be no such number.
pub fn number(line: &str, before: &str) -> Pid {
    let number = line.strip_prefix(before).and_then(|rest| rest.parse().ok());
    let number = number.filter(|number| *number > 1);
    Pid::from_raw(number.unwrap_or_else(|| panic!("{before:?} and a number, not {line:?}")))
}

/// Returns the line with which a program suggests to look at these processes.
pub fn suggestion(pids: &[Pid]) -> String {
    let pids: Vec<_> = pids.iter().map(Pid::to_string).collect();
    format!("{SUGGESTION}{}", pids.join(","))
}

/// Waits for the end of a process that this one has adopted, and reaps it.
#[track_caller]
pub fn reap(adopted: Pid) -> WaitStatus {
    wait_until(
        "the end of an orphan that is ours now",
        || waitpid(adopted, Some(WaitPidFlag::WNOHANG)),
        |status| !matches!(status, Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD)),
    )
    .unwrap()
}

/// A new folder that only its user can reach. Dropped, it is removed with all that is in it.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Makes a folder where temporary files go (TMPDIR).
    ///
    /// # Errors
    ///
    /// Those of mkdtemp(3).
    pub fn new() -> io::Result<Self> {
        Self::new_in(env::temp_dir())
    }

    /// Makes a folder in `parent`.
    ///
    /// # Errors
    ///
    /// Those of mkdtemp(3).
    pub fn new_in(parent: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self(mkdtemp(&parent.as_ref().join("test-XXXXXX"))?))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns a pipe that nobody reads any more, as after `| head -1`.
pub fn closed_pipe() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Returns a device that is always full.
pub fn full_device() -> Stdio {
    let device = fs::OpenOptions::new().write(true).open("/dev/full");
    device.unwrap().into()
}
