//! The keeper of a job: a process of our own image that runs the program as its child, and kills
//! everything that the program has started when the job ends.
//!
//! ```text
//! caller ── keeper (a subreaper, all signals blocked, in a session of its own) ── the program ── …
//! ```
//!
//! A process that loses its parent becomes a child of the keeper, because the keeper is a subreaper;
//! see `PR_SET_CHILD_SUBREAPER` in prctl(2). So whatever the program's descendants do, they stay the
//! keeper's descendants. The job ends when
//!
//! - the program has ended,
//! - the channel to the caller is at its end: the job was dropped, or the caller has died,
//! - or the deadline has passed.
//!
//! The keeper has one thread, and forks to make the program: it is small and has done nothing else.

use std::env;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{
    Pid, dup2_stderr, dup2_stdin, dup2_stdout, execvp, getppid, pipe2, setpgid, setsid,
};

use crate::child_setting::ignored_signals;
use crate::job_cgroup::JobCgroup;
use crate::job_channel::{Answer, Ended, Failure, JobChannel, Program, Task};
use crate::kill_tree::{Left, kill_descendants, reap_some};
use crate::message::Report;
use crate::poll::{earliest, has_passed, wait_readable};
use crate::sys::{self, Disposition, End};
use crate::{EXIT_SETUP_FAILED, inherited, lifeline, threads};

/// How long the keeper waits for the next end of a child at most, while it kills. It also is the
/// interval at which it looks if it cannot be told.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Runs the keeper. Returns only in the forked copy that has become the program, if the program is an
/// entry, with its exit code. `take_entry` finds the function of an entry.
pub(crate) fn run<E>(take_entry: impl FnOnce(&str) -> Result<E, Report>) -> ExitCode
where
    E: FnOnce() -> ExitCode,
{
    let received = JobChannel::take_inherited().and_then(|channel| {
        let task = channel.receive_task()?;
        Ok(task.map(|task| (channel, task)))
    });
    // Without a task, the caller has ended, or has given up.
    let Ok(Some((channel, task))) = received else {
        sys::exit_now(EXIT_SETUP_FAILED);
    };
    // For the rest of the keeper's life. The program starts with an empty mask.
    sys::block_signals();
    // If somebody stops the keeper, the kernel continues it at the end of the channel.
    let _ = sys::signal_on_activity(&channel, libc::SIGCONT);
    let caller = sys::pidfd_open(getppid().as_raw()).ok();
    if !channel.is_to(getppid()) {
        // The caller has died, and another process has adopted us. The pidfd refers to that one.
        sys::exit_now(EXIT_SETUP_FAILED);
    }
    let cgroup = if task.cgroup { JobCgroup::new() } else { None };
    match start(&task, cgroup.as_ref()) {
        Ok(Started::Keeper(program, report)) => {
            release_inherited();
            // Many processes that fork and exit can keep an ordinary process from running for seconds.
            // Without the right to this, the end of the job comes later.
            let _ = sys::run_before_others().or_else(|_| sys::add_nice(-20));
            Keeper::new(channel, caller, &task, cgroup, program, report).run();
            sys::exit_now(0)
        }
        Ok(Started::Copy(report)) => {
            drop((channel, caller));
            run_program(task, report, take_entry)
        }
        Err(failure) => {
            cgroup.iter().for_each(JobCgroup::remove);
            let _ = channel.send_answer(&Answer::Failed(failure).encode(), None);
            sys::exit_now(EXIT_SETUP_FAILED)
        }
    }
}

/// The process we are in after [`start`].
enum Started {
    /// The keeper, with the number of the program, and the pipe on which the copy reports a failure.
    Keeper(i32, File),
    /// The copy, which is to become the program, with the other end of the pipe.
    Copy(File),
}

/// Forks the copy that becomes the program.
fn start(task: &Task, cgroup: Option<&JobCgroup>) -> Result<Started, Failure> {
    step("becoming a subreaper", prctl::set_child_subreaper(true))?;
    let one = threads::require_one("the code before reexec::init() must not start threads");
    step("forking the program's process", one)?;
    let (read, write) = step("making a pipe", pipe2(OFlag::O_CLOEXEC))?;
    let (left, leave) = step("making a pipe", pipe2(OFlag::O_CLOEXEC))?;
    let keeper = process::id();
    let spec = sys::ForkSpec {
        new_group: task.process_group == Some(0),
        ignored: ignored_signals(&task.settings),
        keep_ignored: false,
    };
    match step("forking the program's process", sys::fork(&spec))? {
        sys::Forked::Parent(pid) => {
            // A signal to the caller's process group must not kill the keeper, or stop the deadline.
            // The program stays in that group: it was forked before.
            let _ = setsid();
            drop(leave);
            Ok(Started::Keeper(pid, read.into()))
        }
        sys::Forked::Child(dispositions) => {
            let mut report = File::from(write);
            let set_up = step("resetting signals", dispositions)
                .and_then(|()| set_up(task, cgroup, keeper))
                .and_then(|()| {
                    // Nothing is started as long as the keeper can be killed with the group.
                    drop(leave);
                    step("waiting for the keeper", File::from(left).read(&mut [0]).map(drop))
                });
            if let Err(failure) = set_up {
                fail(&mut report, failure);
            }
            Ok(Started::Copy(report))
        }
    }
}

/// In the copy: applies the settings.
fn set_up(task: &Task, cgroup: Option<&JobCgroup>, keeper: u32) -> Result<(), Failure> {
    // If somebody kills the keeper, at least the program does not survive it.
    step("arming the parent-death signal", lifeline::kill_with(keeper))?;
    step("joining the job's cgroup", cgroup.map_or(Ok(()), JobCgroup::join))?;
    if let Some(group) = task.process_group {
        let joined = setpgid(Pid::from_raw(0), Pid::from_raw(group));
        joined.map_err(|errno| Failure::ProcessGroup(errno as i32))?;
    }
    for setting in &task.settings {
        step(&setting.step(), setting.apply())?;
    }
    // The kernel forgets the signal when the process changes its user or group.
    step("arming the parent-death signal", lifeline::kill_with(keeper))
}

/// In the copy: runs the entry, or executes the program.
fn run_program<E>(
    task: Task,
    mut report: File,
    take_entry: impl FnOnce(&str) -> Result<E, Report>,
) -> ExitCode
where
    E: FnOnce() -> ExitCode,
{
    match task.program {
        Program::Entry(name) => {
            let entry = match take_entry(&name) {
                Ok(entry) => entry,
                Err(Report::Failed { step, errno }) => {
                    fail(&mut report, Failure::SetUp { step, errno })
                }
                Err(_) => fail(&mut report, Failure::UnknownEntry),
            };
            // If a filter refuses this, only the name is lost.
            let _ = CString::new(name).map(|name| prctl::set_name(&name));
            drop(report); // its end says that the entry runs
            entry()
        }
        Program::Foreign(path) => {
            if !ignored_signals(&task.settings).contains(&libc::SIGPIPE) {
                // Rust programs ignore it; others expect to be ended by it.
                let _ = sys::set_disposition(libc::SIGPIPE, Disposition::Default);
            }
            let args = env::args_os().map(|arg| CString::new(arg.into_vec()));
            let args: Result<Vec<_>, _> = args.collect();
            let executed = match CString::new(path).and_then(|path| Ok((path, args?))) {
                Ok((path, args)) => execvp(&path, &args).map(|never| match never {}),
                Err(_) => Err(nix::errno::Errno::EINVAL), // the caller has checked them
            };
            let Err(errno) = executed;
            fail(&mut report, Failure::Exec(errno as i32))
        }
    }
}

/// In the copy: reports why the program does not run.
fn fail(report: &mut File, failure: Failure) -> ! {
    // Without a report, the caller still learns the exit code.
    let _ = report.write_all(&Answer::Failed(failure).encode());
    sys::exit_now(EXIT_SETUP_FAILED)
}

/// In the keeper: closes what is the program's, so that a reader sees the end of a stream when the
/// program's processes have closed it.
fn release_inherited() {
    inherited::close_stored();
    match File::options().read(true).write(true).open("/dev/null") {
        Ok(null) => {
            let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
        }
        Err(_) => (0..=2).for_each(sys::close_if_inherited),
    }
}

/// The keeper while the program runs.
struct Keeper {
    channel: JobChannel,
    cgroup: Option<JobCgroup>,
    program: i32,
    /// The program's pidfd, if pidfds are available.
    pidfd: Option<OwnedFd>,
    /// At its end when the program runs; `None` after that.
    report: Option<File>,
    /// The caller's pidfd. It tells of the caller's death if a forked copy of the caller holds the
    /// channel open.
    caller: Option<OwnedFd>,
    /// Readable when a child has ended.
    signals: Option<SignalFd>,
    /// How long the program may run.
    limit: Option<Duration>,
    /// The end of that time, once the program runs.
    deadline: Option<Instant>,
    /// What was left when we reaped last.
    left: Left,
    /// How the program has ended.
    end: Option<End>,
    timed_out: bool,
}

impl Keeper {
    fn new(
        channel: JobChannel,
        caller: Option<OwnedFd>,
        task: &Task,
        cgroup: Option<JobCgroup>,
        program: i32,
        report: File,
    ) -> Keeper {
        let mask = SigSet::from(Signal::SIGCHLD);
        Keeper {
            channel,
            cgroup,
            program,
            // Nobody has reaped it, so it is the right one.
            pidfd: sys::pidfd_open(program).ok(),
            report: Some(report),
            caller,
            signals: SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
                .ok(),
            limit: task.deadline,
            deadline: None,
            left: Left::Children,
            end: None,
            timed_out: false,
        }
    }

    /// Waits for the end of the job, kills everything, and tells the caller how the program has ended.
    fn run(mut self) {
        while self.step() {}
        self.cgroup.iter().for_each(JobCgroup::kill);
        let signals = self.signals.as_ref();
        let mut pause = Duration::from_millis(1);
        kill_descendants(self.program, &mut self.end, || {
            let _ = wait_readable([signals.map(AsFd::as_fd)], Some(Instant::now() + pause));
            drain(signals);
            pause = (pause * 2).min(LONGEST_PAUSE);
        });
        self.cgroup.iter().for_each(JobCgroup::remove);
        if let Some(End { status, usage, .. }) = self.end {
            let ended = Ended { status, usage, timed_out: self.timed_out };
            let _ = self.channel.send_answer(&Answer::Ended(ended).encode(), None);
        }
    }

    /// Waits for the next event; returns whether the job goes on.
    fn step(&mut self) -> bool {
        let watched = [
            Some(self.channel.as_fd()),
            self.report.as_ref().map(AsFd::as_fd),
            self.caller.as_ref().map(AsFd::as_fd),
            self.signals.as_ref().map(AsFd::as_fd),
        ];
        let poll = match (self.left, &self.signals) {
            (Left::Ended, _) => Some(Instant::now()),
            (_, None) => Some(Instant::now() + LONGEST_PAUSE),
            _ => None,
        };
        let Ok([told, reported, caller_ended, _]) =
            wait_readable(watched, earliest(self.deadline, poll))
        else {
            return false; // a filter refuses to wait; then we must not leave anything
        };
        if reported && !self.pass_on_report() || caller_ended {
            return false;
        }
        if told {
            match self.channel.receive_signal() {
                Some(signal) => self.signal_program(signal),
                None => return false,
            }
        }
        drain(self.signals.as_ref());
        self.left = reap_some(self.program, &mut self.end);
        if self.end.is_some() {
            // Its end of the pipe is closed, but perhaps only since we looked.
            self.pass_on_report();
            return false;
        }
        self.timed_out = has_passed(self.deadline);
        !self.timed_out
    }

    /// Tells the caller that the program runs, or why not; returns whether it runs.
    fn pass_on_report(&mut self) -> bool {
        let Some(mut report) = self.report.take() else {
            return true;
        };
        let mut failure = Vec::new();
        let _ = report.read_to_end(&mut failure);
        if !failure.is_empty() {
            let _ = self.channel.send_answer(&failure, None);
            return false;
        }
        self.deadline = self.limit.and_then(|limit| Instant::now().checked_add(limit));
        let started = Answer::Started { pid: self.program, cgroup: self.cgroup.is_some() };
        let started = started.encode();
        let sent = self.channel.send_answer(&started, self.pidfd.as_ref());
        // The user may have too many descriptors on their way (`ETOOMANYREFS`).
        sent.or_else(|_| self.channel.send_answer(&started, None)).is_ok()
    }

    /// Signals the program for a caller that has no pidfd.
    fn signal_program(&self, signal: i32) {
        if self.end.is_none() {
            let _ = sys::kill(self.program, signal);
        }
    }
}

/// Takes what the kernel has to tell about ended children.
fn drain(signals: Option<&SignalFd>) {
    while let Some(Ok(Some(_))) = signals.map(SignalFd::read_signal) {}
}

/// Turns an error of this step into a [`Failure`].
fn step<T>(step: &str, result: Result<T, impl Into<std::io::Error>>) -> Result<T, Failure> {
    result.map_err(|error| Failure::SetUp {
        step: step.to_owned(),
        errno: error.into().raw_os_error().unwrap_or(libc::EINVAL),
    })
}
