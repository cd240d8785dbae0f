//! What the tests share: a `main` that leaves no process behind, programs to be started from
//! outside, and looking at processes through /proc.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test file uses its part"
)]

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Trial};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Gid, Pid, Uid, alarm, geteuid, setgroups, setresgid, setresuid};

/// How long a state may take to come about; it is there within milliseconds on an idle machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// After this many seconds a test hangs: `SIGALRM` then ends it, and its children with it.
const HANGS: u32 = 60;

/// The tests, by the names of their functions.
macro_rules! trials {
    ($($test:ident),* $(,)?) => { vec![$($crate::support::trial(stringify!($test), $test)),*] };
}
pub(crate) use trials;

/// Functions that [`program`] starts, by their names.
macro_rules! programs {
    ($($function:ident),* $(,)?) => { &[$((stringify!($function), $function as fn())),*] };
}
pub(crate) use programs;

/// The rest of `main`, after `init`: one of the programs if the arguments say so, or the tests.
pub(crate) fn run(programs: &[(&str, fn())], trials: Vec<Trial>) -> ExitCode {
    if let Some(code) = run_program(programs) {
        return code;
    }
    // What is orphaned comes to us, so that we see how it ended.
    prctl::set_child_subreaper(true).unwrap();
    let mut arguments = Arguments::from_args();
    // One at a time: the tests look at all children and descriptors of this process.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// One of these programs, if this process was started by [`program`] as one of them.
pub(crate) fn run_program(programs: &[(&str, fn())]) -> Option<ExitCode> {
    let mut args = env::args_os().skip(1);
    let name = (args.next()? == "as").then(|| args.next())??;
    let (_, program) = programs.iter().find(|(known, _)| name == *known)?;
    alarm::set(HANGS);
    program();
    Some(ExitCode::SUCCESS)
}

/// One test. It fails also if it leaves a process behind, which is then removed.
pub(crate) fn trial<T: Verdict>(name: &str, test: fn() -> T) -> Trial {
    Trial::ignorable_test(name, move || {
        alarm::set(HANGS);
        let result = panic::catch_unwind(test);
        let left = remove_children();
        alarm::cancel();
        match result {
            Err(panic) => panic::resume_unwind(panic),
            Ok(_) if !left.is_empty() => Err(format!("left processes behind: {left:?}").into()),
            Ok(verdict) => Ok(verdict.completion()),
        }
    })
}

/// What a test may return.
pub(crate) trait Verdict: 'static {
    fn completion(self) -> Completion;
}

impl Verdict for () {
    fn completion(self) -> Completion {
        Completion::Completed
    }
}

/// Why a test could not be done here.
pub(crate) struct Skipped(String);

impl Skipped {
    pub(crate) fn because(reason: &str) -> Skipped {
        Skipped(reason.to_owned())
    }
}

impl Verdict for Result<(), Skipped> {
    fn completion(self) -> Completion {
        match self {
            Ok(()) => Completion::Completed,
            Err(Skipped(reason)) => Completion::ignored_with(reason),
        }
    }
}

/// Skips the test if this command line, which does nothing, does not succeed.
pub(crate) fn needs(command: &[&str]) -> Result<(), Skipped> {
    let mut started = Command::new(command[0]);
    match started.args(&command[1..]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Skipped(format!("{command:?} fails here: {}", said.trim())))
        }
        Err(error) => Err(Skipped(format!("{} cannot be run: {error}", command[0]))),
    }
}

/// Some user and group that root is not.
pub(crate) const NOBODY: u32 = 65534;

/// Skips the test unless it may change its user and groups.
pub(crate) fn needs_root() -> Result<(), Skipped> {
    if geteuid().is_root() {
        return Ok(());
    }
    Err(Skipped::because("only root can do this"))
}

/// In a program of root's, as a server that gives up its privileges does.
pub(crate) fn become_user(id: u32) {
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[]).unwrap();
    setresgid(group, group, group).unwrap();
    setresuid(user, user, user).unwrap();
    // The change has taken this away, and with it the right to look at our own /proc/self/fd.
    prctl::set_dumpable(true).unwrap();
}

/// Whether a spawn closes what nobody has declared, before the child's first instruction: glibc can
/// since 2.34, in a program that is linked with it dynamically. Otherwise it stays open in the child,
/// and goes no further.
pub(crate) fn closes_undeclared() -> bool {
    if !cfg!(all(target_env = "gnu", not(target_feature = "crt-static"))) {
        return false;
    }
    let said = stdout_of(Command::new("getconf").arg("GNU_LIBC_VERSION")); // such as "glibc 2.36"
    let version = said.trim().trim_start_matches("glibc ");
    let version: Vec<u32> = version
        .split('.')
        .map(|part| part.parse().unwrap())
        .collect();
    version >= vec![2, 34]
}

/// The same command where there is no /proc. From outside, it can be looked at through ours.
pub(crate) fn without_proc(command: &Command) -> Result<Command, Skipped> {
    let mount = "mount -t tmpfs tmpfs /proc";
    needs(&["unshare", "--mount", "sh", "-c", mount])?;
    let mut without = Command::new("unshare");
    without.args([
        "--mount",
        "sh",
        "-c",
        &format!("{mount} && exec \"$@\""),
        "sh",
    ]);
    without.arg(command.get_program()).args(command.get_args());
    Ok(without)
}

/// A directory that goes, with what is in it, when the test ends.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let test = env!("CARGO_CRATE_NAME");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    /// A second file with this program, for a test to do as it likes with.
    pub(crate) fn copy_of_this_program(&self) -> PathBuf {
        let copy = self.0.join("copy");
        fs::copy(env::current_exe().unwrap(), &copy).unwrap();
        copy
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits for a state to come about.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A process as /proc/PID/stat shows it.
#[derive(Debug)]
pub(crate) struct Stat {
    pub(crate) comm: String,
    pub(crate) state: char,
    pub(crate) parent: u32,
}

/// `None` if there is no such process, not even as a zombie.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The state of one thread of this process.
pub(crate) fn thread_state(tid: i32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/self/task/{tid}/stat")).ok()?;
    Some(parse_stat(&text)?.state)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name may contain anything, also a ')'.
    let (before, after) = text.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    Some(Stat {
        comm: before.split_once('(')?.1.to_owned(),
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}

pub(crate) fn is_zombie(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state == 'Z')
}

/// Asserted at once after a reap: no other process gets the number that soon, as the kernel hands
/// them out in a circle.
pub(crate) fn is_gone(pid: u32) -> bool {
    stat(pid).is_none()
}

/// All children of a process, zombies too.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap();
    pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| stat(pid).is_some_and(|stat| stat.parent == parent))
        .collect()
}

/// All children of this process, zombies and adopted ones too.
pub(crate) fn children() -> Vec<u32> {
    children_of(process::id())
}

/// Kills and reaps every child, and says which there were.
fn remove_children() -> Vec<String> {
    let mut removed = Vec::new();
    // Again, as their own children come to us when they are gone.
    loop {
        let left = children();
        if left.is_empty() {
            return removed;
        }
        for pid in left {
            removed.push(format!("{pid} {:?}", stat(pid)));
            let pid = Pid::from_raw(pid as i32);
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

/// Waits for an orphan to come to us and end, and reaps it.
pub(crate) fn reap(pid: u32) -> WaitStatus {
    let pid = Pid::from_raw(pid as i32);
    let mut status = WaitStatus::StillAlive;
    wait_until("an orphan has ended", || {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return false, // its parent is not quite dead yet
            result => status = result.unwrap(),
        }
        status != WaitStatus::StillAlive
    });
    status
}

/// The open descriptors of this process, each with what it leads to, such as `pipe:[4711]`.
pub(crate) fn descriptors() -> BTreeMap<RawFd, PathBuf> {
    let own = PathBuf::from(format!("/proc/{}/fd", process::id()));
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let entries = entries.map(|entry| {
        let path = entry.unwrap().path();
        let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        (number, fs::read_link(path).unwrap())
    });
    // Without the one that is open for looking.
    entries.filter(|(_, target)| *target != own).collect()
}

/// The signals in one of the sets of a /proc/PID/status, such as `SigBlk`.
pub(crate) fn signals(status: &str, set: &str) -> Vec<Signal> {
    let line = status.lines().find_map(|line| line.strip_prefix(set));
    let bits = line.unwrap().trim_start_matches(':').trim();
    let bits = u64::from_str_radix(bits, 16).unwrap();
    Signal::iterator()
        .filter(|signal| bits >> (*signal as i32 - 1) & 1 == 1)
        .collect()
}

/// This test's own executable, started anew in an ordinary way to run one of its programs.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["as", name]);
    command
}

/// The same from a shell that does something first, such as leaving a descriptor open.
pub(crate) fn program_after(script: &str, name: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{script}; exec \"$0\" as \"$1\"")]);
    command.arg(env::current_exe().unwrap()).arg(name);
    command
}

/// Runs a command that must succeed, and returns what it wrote to stdout.
pub(crate) fn stdout_of(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program of this test in a process group whose members get `SIGTERM` again and again, from
/// the line `ready` until the program's end. Returns the next line.
pub(crate) fn run_under_fire(name: &str) -> String {
    let mut running = Running::start(program(name).process_group(0));
    let pid = Pid::from_raw(running.id() as i32);
    assert_eq!(running.line(), "ready");
    // It is not reaped meanwhile, so its number stays its own.
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(pid), flags).unwrap() == WaitStatus::StillAlive {
        killpg(pid, Signal::SIGTERM).unwrap();
    }
    let line = running.line();
    assert!(running.wait().success(), "{line}");
    line
}

/// In a child or a program: lives until whoever holds the other end of its stdin closes it.
pub(crate) fn until_stdin_ends() {
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
}

/// What a pipe or socket holds until its end.
pub(crate) fn read_all(fd: impl Into<OwnedFd>) -> String {
    let mut text = String::new();
    let mut file = fs::File::from(fd.into());
    file.read_to_string(&mut text).unwrap();
    text
}

/// A program with its stdin and stdout in our hands; killed and reaped at the latest with this.
pub(crate) struct Running {
    child: process::Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Running {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Running {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it, or a child of it, writes.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next line, a process id.
    pub(crate) fn pid(&mut self) -> u32 {
        self.line().parse().unwrap()
    }

    /// With `SIGKILL`; also reaped when this returns, so its children are ours then.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets [`until_stdin_ends`] return, in the program and in children that share its stdin.
    pub(crate) fn close_stdin(&mut self) {
        drop(self.stdin.take());
    }

    pub(crate) fn wait(&mut self) -> process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// All of its stderr, if that is a pipe, to the end.
    pub(crate) fn stderr(&mut self) -> String {
        read_all(self.child.stderr.take().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
