//! Helpers of the tests: a `main` that leaves no process behind, programs that are started from
//! outside, and queries of processes through /proc.
#![allow(dead_code, unused_imports, unused_macros, reason = "each test file uses its part")]

pub(crate) mod filters;
pub(crate) mod templates;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{self, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Trial};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Gid, Pid, Uid, alarm, geteuid, setgroups, setresgid, setresuid};

/// The limit of each wait. An idle machine needs milliseconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The seconds after which `SIGALRM` ends a test that hangs, and its children with it.
const TEST_TIMEOUT: u32 = 60;

/// Makes tests of functions, with the names of the functions.
macro_rules! trials {
    ($($test:ident),* $(,)?) => { vec![$($crate::support::trial(stringify!($test), $test)),*] };
}
pub(crate) use trials;

pub(crate) use templates::{PLAIN_ONLY, command, run_both_ways};

/// Makes [`run`] run each test of this file a second time, with programs to which clone3(2) is refused, so
/// that they fork by libc's fork(3).
pub(crate) fn run_also_without_clone3() {
    ALSO_WITHOUT_CLONE3.store(true, Ordering::Relaxed);
}

static ALSO_WITHOUT_CLONE3: AtomicBool = AtomicBool::new(false);

/// Whether clone3(2) is to be refused to the programs that are started now.
static REFUSES_CLONE3: AtomicBool = AtomicBool::new(false);

/// Tells a program of a test that clone3(2) is refused to it.
pub(crate) const WITHOUT_CLONE3: &str = "WITHOUT_CLONE3";

/// Whether clone3(2) is refused to the programs of this test, or to this program.
pub(crate) fn is_without_clone3() -> bool {
    REFUSES_CLONE3.load(Ordering::Relaxed) || env::var_os(WITHOUT_CLONE3).is_some()
}

/// Lists functions that [`program`] starts, with their names.
macro_rules! programs {
    ($($function:ident),* $(,)?) => { &[$((stringify!($function), $function as fn())),*] };
}
pub(crate) use programs;

/// Functions that [`program`] starts, with their names.
type Programs = [(&'static str, fn())];

/// Runs the rest of `main`, after `init`: one of the programs if the arguments name it, or the tests.
pub(crate) fn run(programs: &Programs, tests: Vec<Test>) -> ExitCode {
    if let Some(code) = run_program(programs) {
        return code;
    }
    // We adopt orphans, so that we see how they end.
    prctl::set_child_subreaper(true).unwrap();
    let mut arguments = Arguments::from_args();
    // One at a time: the tests look at all children and descriptors of this process.
    arguments.test_threads = Some(1);
    let mut trials: Vec<_> = tests.iter().map(|test| test.trial(Way::Plain)).collect();
    if let Some(plain_only) = PLAIN_ONLY.get() {
        for (name, _) in *plain_only {
            assert!(tests.iter().any(|test| test.name == *name), "there is no test {name}");
        }
        trials.extend(tests.iter().map(|test| test.trial(Way::FromTemplate)));
    }
    if ALSO_WITHOUT_CLONE3.load(Ordering::Relaxed) {
        trials.extend(tests.iter().map(|test| test.trial(Way::WithoutClone3)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Does the same as [`run`], with tests that run in a process of their own each, if `needs` holds.
pub(crate) fn run_in_programs(
    needs: fn() -> Result<(), Skipped>,
    tests: &Programs,
    programs: &Programs,
    mut trials: Vec<Test>,
) -> ExitCode {
    for &(name, _) in tests {
        trials.push(trial(name, move || {
            needs()?;
            stdout_of(&mut program(name));
            Ok(())
        }));
    }
    run(&[tests, programs].concat(), trials)
}

/// Runs one of these programs, if [`program`] has started this process for it.
pub(crate) fn run_program(programs: &Programs) -> Option<ExitCode> {
    let mut args = env::args_os().skip(1);
    let name = (args.next()? == "as").then(|| args.next())??;
    let (_, program) = programs.iter().find(|(known, _)| name == *known)?;
    alarm::set(TEST_TIMEOUT);
    if is_without_clone3() {
        // With another error, libc does not start threads and processes either.
        filters::refuse(&["clone3"], libc::ENOSYS);
    }
    program();
    Some(ExitCode::SUCCESS)
}

/// A test, which can run in several ways.
pub(crate) struct Test {
    name: String,
    run: Arc<dyn Fn() -> Completion + Send + Sync>,
}

/// Makes a test. It also fails if it leaves a process behind, which is then removed.
pub(crate) fn trial<T: Verdict>(name: &str, test: impl Fn() -> T + Send + Sync + 'static) -> Test {
    Test { name: name.to_owned(), run: Arc::new(move || test().completion()) }
}

/// How a test makes processes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    /// Children are from a template.
    FromTemplate,
    /// Programs may not use clone3(2).
    WithoutClone3,
}

impl Test {
    /// Makes the trial that runs the test in this way.
    fn trial(&self, way: Way) -> Trial {
        let name = match way {
            Way::Plain => self.name.clone(),
            Way::FromTemplate => format!("{}_from_a_template", self.name),
            Way::WithoutClone3 => format!("{}_without_clone3", self.name),
        };
        let plain_only = PLAIN_ONLY.get().copied().unwrap_or_default();
        let reason = plain_only.iter().find(|(name, _)| *name == self.name);
        if let (Way::FromTemplate, Some((_, reason))) = (way, reason) {
            return Trial::ignorable_test(name, || Ok(Completion::ignored_with(*reason)));
        }
        let run = Arc::clone(&self.run);
        Trial::ignorable_test(name, move || {
            alarm::set(TEST_TIMEOUT);
            if way == Way::FromTemplate {
                templates::start();
            }
            REFUSES_CLONE3.store(way == Way::WithoutClone3, Ordering::Relaxed);
            let result = panic::catch_unwind(AssertUnwindSafe(|| match way {
                Way::WithoutClone3 => filters::needs_filters()
                    .map_or_else(|skipped| Err(skipped).completion(), |()| run()),
                Way::Plain | Way::FromTemplate => run(),
            }));
            let unusable = templates::end();
            let left = remove_children();
            alarm::cancel();
            match result {
                Err(panic) => panic::resume_unwind(panic),
                Ok(_) if !left.is_empty() => Err(format!("left processes behind: {left:?}").into()),
                Ok(completion) => unusable.map_or(Ok(completion), |reason| Err(reason.into())),
            }
        })
    }
}

/// A type that a test can return.
pub(crate) trait Verdict: 'static {
    fn completion(self) -> Completion;
}

impl Verdict for () {
    fn completion(self) -> Completion {
        Completion::Completed
    }
}

/// The reason why a test was skipped.
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

/// Skips the test if this command line, which must do nothing, fails.
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

/// A user and group without privileges.
pub(crate) const NOBODY: u32 = 65534;

/// Skips the test unless it may change its user and groups.
pub(crate) fn needs_root() -> Result<(), Skipped> {
    if geteuid().is_root() {
        return Ok(());
    }
    Err(Skipped::because("only root can do this"))
}

/// Gives up root's privileges, as a server does.
pub(crate) fn become_user(id: u32) {
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[]).unwrap();
    setresgid(group, group, group).unwrap();
    setresuid(user, user, user).unwrap();
    // The change has cleared this flag, and so the right to read our own /proc/self/fd.
    prctl::set_dumpable(true).unwrap();
}

/// Whether a spawn closes undeclared descriptors before the child's first instruction. glibc can since
/// 2.34, in a dynamically linked program. Otherwise they stay open in the child, close-on-exec.
pub(crate) fn closes_undeclared() -> bool {
    if !cfg!(all(target_env = "gnu", not(target_feature = "crt-static"))) {
        return false;
    }
    let said = stdout_of(Command::new("getconf").arg("GNU_LIBC_VERSION")); // such as "glibc 2.36"
    let version = said.trim().trim_start_matches("glibc ");
    let version: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    version >= vec![2, 34]
}

/// Makes the same command without a /proc. Our own /proc still shows its processes.
pub(crate) fn without_proc(command: &Command) -> Result<Command, Skipped> {
    let script = "mount -t tmpfs tmpfs /proc && exec \"$@\"";
    under(&["unshare", "--mount", "sh", "-c", script, "sh"], command)
}

/// Makes a command line of `wrapper` and the command. Skips the test if the wrapper cannot run `true`.
pub(crate) fn under(wrapper: &[&str], command: &Command) -> Result<Command, Skipped> {
    needs(&[wrapper, &["true"]].concat())?;
    let mut wrapped = Command::new(wrapper[0]);
    wrapped.args(&wrapper[1..]).arg(command.get_program());
    wrapped.args(command.get_args());
    pass_on_refusal(&mut wrapped);
    Ok(wrapped)
}

/// Runs the program under strace, which makes system calls fail as `inject` says. Returns the lines of
/// its trace about calls that were interrupted.
pub(crate) fn interrupted(inject: &[&str], name: &str) -> Result<Vec<String>, Skipped> {
    let mut strace = vec!["strace", "-f", "-e", "signal=none"];
    strace.extend(inject.iter().flat_map(|inject| ["-e", inject]));
    let mut strace = under(&strace, &program(name))?;
    let output = strace.stdin(Stdio::null()).output().unwrap();
    let trace = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{trace}");
    let interrupted = trace.lines().filter(|line| line.contains("EINTR"));
    Ok(interrupted.map(str::to_owned).collect())
}

/// Makes a command of this entry with pipes as stdin and stdout.
pub(crate) fn piped(entry: &str) -> reexec::Command {
    let mut command = command(entry);
    command.stdin(reexec::Stdio::piped()).stdout(reexec::Stdio::piped());
    command
}

/// Reads the first line of the child's stdout, with its end.
pub(crate) fn first_line(child: &reexec::Child) -> String {
    let mut line = String::new();
    let mut stdout = BufReader::new(child.take_stdout().unwrap());
    stdout.read_line(&mut line).unwrap();
    line
}

/// Whether this process has one thread.
pub(crate) fn has_one_thread() -> bool {
    fs::read_dir("/proc/self/task").unwrap().count() == 1
}

/// A directory that is removed with its content when the test ends.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let test = env!("CARGO_CRATE_NAME");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    /// Copies this program to a file that the test may change.
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

/// Fails unless the text contains the part.
#[track_caller]
pub(crate) fn assert_contains(text: &impl Display, part: &str) {
    let text = text.to_string();
    assert!(text.contains(part), "no {part:?} in: {text}");
}

/// Fails unless the error has this stage.
macro_rules! assert_stage {
    ($error:expr, $stage:pat) => {
        assert!(matches!($error.stage(), $stage), "{:?}", $error)
    };
}
pub(crate) use assert_stage;

/// Waits until the condition holds, and fails after [`LIMIT`].
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The fields of /proc/PID/stat that the tests use.
#[derive(Debug)]
pub(crate) struct Stat {
    pub(crate) comm: String,
    pub(crate) state: char,
    pub(crate) parent: u32,
    pub(crate) group: u32,
}

/// Reads the stat of a process; `None` if there is no such process, not even a zombie.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Returns the state of one thread of this process.
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
        group: fields.next()?.parse().ok()?,
    })
}

pub(crate) fn is_zombie(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state == 'Z')
}

/// Whether there is no such process. No other process gets the number soon after a reap, because the
/// kernel goes through all numbers first.
pub(crate) fn is_gone(pid: u32) -> bool {
    stat(pid).is_none()
}

/// Returns all children of a process, with zombies.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap();
    pids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| stat(pid).is_some_and(|stat| stat.parent == parent))
        .filter(|&pid| !templates::is_one(pid))
        .collect()
}

/// Returns all children of this process, with zombies and adopted ones.
pub(crate) fn children() -> Vec<u32> {
    children_of(process::id())
}

/// Kills and reaps every child, and describes them.
fn remove_children() -> Vec<String> {
    let mut removed = Vec::new();
    // Again and again, because we adopt their children when they have ended.
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

/// The status of a process that has exited with this code.
pub(crate) fn exited(pid: u32, code: i32) -> WaitStatus {
    WaitStatus::Exited(Pid::from_raw(pid as i32), code)
}

/// The status of a process that this signal has ended.
pub(crate) fn signaled(pid: u32, signal: Signal) -> WaitStatus {
    WaitStatus::Signaled(Pid::from_raw(pid as i32), signal, false)
}

/// Waits until we have adopted this orphan and it has ended, and reaps it.
pub(crate) fn reap(pid: u32) -> WaitStatus {
    let pid = Pid::from_raw(pid as i32);
    let mut status = WaitStatus::StillAlive;
    wait_until("an orphan has ended", || {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return false, // its parent has not ended yet
            result => status = result.unwrap(),
        }
        status != WaitStatus::StillAlive
    });
    status
}

/// Returns the open descriptors of this process, with their targets, such as `pipe:[4711]`.
pub(crate) fn descriptors() -> BTreeMap<RawFd, PathBuf> {
    let own = PathBuf::from(format!("/proc/{}/fd", process::id()));
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let entries = entries.map(|entry| {
        let path = entry.unwrap().path();
        let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        (number, fs::read_link(path).unwrap())
    });
    // Without the descriptor that this function has opened.
    entries.filter(|(_, target)| *target != own).collect()
}

/// Returns the value of a line of /proc/PROCESS/status, such as `Umask`, with single blanks.
pub(crate) fn status_line(process: impl Display, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| *key == name).unwrap();
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the signals in one of the sets of /proc/PROCESS/status, such as `SigBlk`.
pub(crate) fn signals(process: impl Display, set: &str) -> Vec<Signal> {
    let bits = u64::from_str_radix(&status_line(process, set), 16).unwrap();
    Signal::iterator().filter(|signal| bits >> (*signal as i32 - 1) & 1 == 1).collect()
}

/// Makes a command that starts this test's executable for one of its programs.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["as", name]);
    templates::pass_on(&mut command);
    pass_on_refusal(&mut command);
    command
}

/// Makes the same command in a shell that runs a script first, which may leave a descriptor open.
pub(crate) fn program_after(script: &str, name: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{script}; exec \"$0\" as \"$1\"")]);
    command.arg(env::current_exe().unwrap()).arg(name);
    templates::pass_on(&mut command);
    pass_on_refusal(&mut command);
    command
}

/// Makes a program refuse itself clone3(2), if the test runs without it.
fn pass_on_refusal(program: &mut Command) {
    if is_without_clone3() {
        program.env(WITHOUT_CLONE3, "1");
    }
}

/// Runs a command that must succeed, and returns what it wrote to stdout.
pub(crate) fn stdout_of(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program of this test in a process group to which it sends `SIGTERM` again and again, from the
/// line `ready` until the program's end. Returns the next line.
pub(crate) fn run_under_fire(name: &str) -> String {
    let mut running = Running::start(program(name).process_group(0));
    let pid = Pid::from_raw(running.id() as i32);
    assert_eq!(running.line(), "ready");
    // We do not reap it meanwhile, so no other process gets its number.
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(pid), flags).unwrap() == WaitStatus::StillAlive {
        killpg(pid, Signal::SIGTERM).unwrap();
    }
    let line = running.line();
    assert!(running.wait().success(), "{line}");
    line
}

/// In a child or a program: waits until its stdin ends.
pub(crate) fn until_stdin_ends() {
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
}

/// Reads a pipe or socket to its end.
pub(crate) fn read_all(fd: impl Into<OwnedFd>) -> String {
    let mut text = String::new();
    let mut file = fs::File::from(fd.into());
    file.read_to_string(&mut text).unwrap();
    text
}

/// A running program whose stdin and stdout are pipes to us. Dropping this kills and reaps it.
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

    /// Reads the next line that it, or a child of it, writes.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Reads the next line, which must be a process id.
    pub(crate) fn pid(&mut self) -> u32 {
        self.line().parse().unwrap()
    }

    /// Kills and reaps it, so that we adopt its children.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its stdin, so that [`until_stdin_ends`] returns, also in children that share that stdin.
    pub(crate) fn close_stdin(&mut self) {
        drop(self.stdin.take());
    }

    pub(crate) fn wait(&mut self) -> process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// Reads all of its stderr, which must be a pipe.
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
