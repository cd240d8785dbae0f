//! Starting the real programs, and looking at them as a user does: at what they print, how they
//! end, and what /proc says meanwhile. The tests of all the chapter's crates use this file.

#![allow(dead_code, reason = "each test crate uses its part of this file")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]

use std::fmt::Debug;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

/// After so long, what a test waits for is not coming.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Values of an option in seconds that are none.
pub(crate) const NOT_SECONDS: [&str; 6] = ["-1", "abc", "", "1e99", "nan", "inf"];

/// What may be set where the tests are run, and would make a program colour what it prints, or talk
/// to a service manager.
const OF_OTHERS: [&str; 5] = [
    "CLICOLOR_FORCE",
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
];

/// Looks again and again, until what it sees is good.
#[track_caller]
pub(crate) fn until<T: Debug>(
    what: &str,
    mut look: impl FnMut() -> T,
    good: impl Fn(&T) -> bool,
) -> T {
    let start = Instant::now();
    loop {
        let seen = look();
        if good(&seen) {
            return seen;
        }
        assert!(
            start.elapsed() < LIMIT,
            "{what}: not within {LIMIT:?}; last seen: {seen:?}"
        );
        thread::sleep(Duration::from_millis(3));
    }
}

/// A program in a process group of its own.
///
/// Dropped, it kills whatever is left of the group, and reaps it: this process is a subreaper, so
/// that the program's orphans come to it, and to no init that may or may not reap them.
pub(crate) struct Program {
    /// Not reaped before the drop: until then its number, which is the group's, is its own.
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Program {
    /// Starts `command` with both output streams captured.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_to(Stdio::piped(), command)
    }

    /// Starts `command` with its stdout going to `stdout`.
    pub(crate) fn start_to(stdout: impl Into<Stdio>, command: &mut Command) -> Self {
        Self::try_start(command.stdout(stdout).stderr(Stdio::piped()))
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
    }

    /// Starts `command`, whose output streams have been set.
    pub(crate) fn try_start(command: &mut Command) -> std::io::Result<Self> {
        Self::try_start_from(Stdio::null(), command)
    }

    /// Starts `command`, whose output streams have been set, with its stdin coming from `stdin`.
    pub(crate) fn try_start_from(
        stdin: impl Into<Stdio>,
        command: &mut Command,
    ) -> std::io::Result<Self> {
        use std::os::unix::process::CommandExt;

        let is_told = |name: &&str| command.get_envs().any(|(told, _)| told == *name);
        let untold: Vec<_> = OF_OTHERS
            .into_iter()
            .filter(|name| !is_told(name))
            .collect();
        for name in untold {
            command.env_remove(name);
        }
        prctl::set_child_subreaper(true)?;
        let mut child = command.stdin(stdin).process_group(0).spawn()?;
        Ok(Self {
            stdout: Lines::of(child.stdout.take()),
            stderr: Lines::of(child.stderr.take()),
            child,
        })
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Its children, living or zombies.
    pub(crate) fn children(&self) -> Vec<Pid> {
        processes(|stat| stat.parent == self.pid())
    }

    /// Its only child, as soon as there is one.
    pub(crate) fn child(&self) -> Pid {
        until("one child", || self.children(), |all| all.len() == 1)[0]
    }

    /// What is left of the program, apart from its first process.
    pub(crate) fn rest_of_group(&self) -> Vec<Pid> {
        let mut rest = processes(|stat| stat.group == self.pid());
        rest.retain(|pid| *pid != self.pid());
        rest
    }

    /// Waits for the end of its first process, which stays a zombie until this is dropped.
    #[track_caller]
    pub(crate) fn end(&self) -> WaitStatus {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        until(
            "the end of the program",
            || waitid(Id::Pid(self.pid()), flags).unwrap(),
            |status| *status != WaitStatus::StillAlive,
        )
    }

    #[track_caller]
    pub(crate) fn exit_code(&self) -> i32 {
        match self.end() {
            WaitStatus::Exited(_, code) => code,
            status => panic!("no exit code: {status:?}"),
        }
    }

    /// Waits for its end, and that of all it has started.
    #[track_caller]
    pub(crate) fn output(mut self) -> Output {
        let stdout = self.stdout.rest();
        let stderr = self.stderr.rest();
        let code = self.exit_code();
        Output {
            code,
            stdout,
            stderr,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let children = self.children();
        // An error means that all of it has ended, which is fine.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let group = Pid::from_raw(-self.pid().as_raw());
        while matches!(waitpid(group, None), Ok(_) | Err(Errno::EINTR)) {}
        // Those in other groups have been adopted by us, so their numbers are still theirs.
        for child in children {
            if waitpid(child, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive) {
                let _ = kill(child, Signal::SIGKILL);
                let _ = waitpid(child, None);
            }
        }
    }
}

/// What a program has said when it has ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

impl Output {
    /// The program has ended with this exit code, after sentences on stderr that all contain
    /// `reason`.
    #[track_caller]
    pub(crate) fn assert_failed(&self, code: i32, reason: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(!self.stderr.is_empty(), "{self:?}");
        for line in &self.stderr {
            assert!(line.contains(reason), "{self:?}");
        }
    }

    /// Exit code 2, and an explanation that has `subject` in it.
    #[track_caller]
    pub(crate) fn assert_usage(&self, subject: &str) {
        assert_eq!(self.code, 2, "{self:?}");
        assert!(self.stderr.concat().contains(subject), "{self:?}");
        assert!(self.stdout.is_empty(), "{self:?}");
    }
}

/// One of a program's output streams, line by line as they come.
pub(crate) struct Lines(Receiver<String>);

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

    #[track_caller]
    pub(crate) fn next(&mut self) -> String {
        self.try_next().expect("another line before the end")
    }

    /// Goes on to the next line that contains `text`.
    #[track_caller]
    pub(crate) fn next_with(&mut self, text: &str) -> String {
        let mut passed = Vec::new();
        while let Some(line) = self.try_next() {
            if line.contains(text) {
                return line;
            }
            passed.push(line);
        }
        panic!("no line with {text:?} among {passed:?}");
    }

    /// The lines that are left, when the stream has ended.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<String> {
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

/// The line without the time before it, such as `2026-11-28T04:05:06.789Z `, if it has one.
pub(crate) fn without_stamp(line: &str) -> &str {
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

/// From /proc/PID/stat; see proc_pid_stat(5).
#[derive(Debug)]
pub(crate) struct Stat {
    /// What is left to `ps` of a zombie.
    pub(crate) name: String,
    /// `S` sleeping, `Z` zombie, and so on.
    pub(crate) state: char,
    pub(crate) parent: Pid,
    group: Pid,
    /// Processor time used, in hundredths of a second.
    pub(crate) ticks: u64,
}

/// `None` if there is no such process; a zombie is one.
pub(crate) fn stat(pid: Pid) -> Option<Stat> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name may contain anything, also `)`.
    let (start, fields) = stat.rsplit_once(')')?;
    let (_, name) = start.split_once('(')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |field: usize| fields[field].parse::<i32>().unwrap();
    Some(Stat {
        name: name.to_owned(),
        state: fields[0].chars().next()?,
        parent: Pid::from_raw(number(1)),
        group: Pid::from_raw(number(2)),
        ticks: (number(11) + number(12)).unsigned_abs().into(),
    })
}

/// The letter that `ps` shows; `None` if there is no such process.
pub(crate) fn state(pid: Pid) -> Option<char> {
    stat(pid).map(|stat| stat.state)
}

/// Waits until the process sleeps, which it does after a moment of work.
#[track_caller]
pub(crate) fn assert_sleeps(pid: Pid) {
    until("S", || state(pid), |state| *state == Some('S'));
}

/// Waits until the process has ended and is not reaped.
#[track_caller]
pub(crate) fn assert_zombie(pid: Pid) {
    until("Z", || state(pid), |state| *state == Some('Z'));
}

/// Those processes of the whole machine that are `wanted`.
pub(crate) fn processes(wanted: impl Fn(&Stat) -> bool) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(Pid::from_raw)
        .filter(|pid| stat(*pid).is_some_and(|stat| wanted(&stat)))
        .collect()
}

/// The number at the end of a line such as `My pid is: 4711`. Others than those of processes, and
/// that of process 1, would mean somebody else if they were signalled.
pub(crate) fn number(line: &str, before: &str) -> Pid {
    let number = line.strip_prefix(before).and_then(|rest| rest.parse().ok());
    let number = number.filter(|number| *number > 1);
    Pid::from_raw(number.unwrap_or_else(|| panic!("{before:?} and a number, not {line:?}")))
}

/// Waits for the end of a process that has been adopted by this one, and reaps it.
#[track_caller]
pub(crate) fn reap(adopted: Pid) -> WaitStatus {
    until(
        "the end of an orphan that is ours now",
        || waitpid(adopted, Some(WaitPidFlag::WNOHANG)),
        |status| !matches!(status, Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD)),
    )
    .unwrap()
}

/// A pipe that nobody reads from any more, as after `| head -1`.
pub(crate) fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// A device that is always full.
pub(crate) fn full_device() -> Stdio {
    let device = fs::OpenOptions::new().write(true).open("/dev/full");
    device.unwrap().into()
}
