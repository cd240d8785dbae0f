//! The parent's side of a start.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::{Uid, pipe2};

use crate::command::{Source, Stdio, Unset};
use crate::control::{CONTROL_FD, Control, LAUNCH_MAX};
use crate::handle::Prospect;
use crate::layout::{Layout, Pipes};
use crate::message::Launch;
use crate::readiness::wait_readable;
use crate::setting::Setting;
use crate::{Child, Command, Error, Stage, entry, program, sys};

/// Far above any sensible nesting, far below the number of processes a user may have.
const DEPTH_LIMIT: u32 = 16;

/// Once the child has let go of its control channel, it should soon be gone altogether.
const END_GRACE: Duration = Duration::from_secs(1);

/// Starts the child and brings it to where its entry runs.
pub(crate) fn spawn(command: &mut Command, unset: Unset) -> Result<Child, Error> {
    let run = || {
        let start = Start::new(command, unset, true)?;
        start.await_ready()?;
        Ok(start.child)
    };
    finish(command, run())
}

/// Starts the child, and leaves it to itself.
pub(crate) fn spawn_unconfirmed(command: &mut Command) -> Result<Child, Error> {
    let start = Start::new(command, Unset::Inherited, false);
    finish(command, start.map(|start| start.child))
}

/// Starts the child, and returns when it has ended, without having waited for its report before:
/// to wake up for that takes longer than all else that the parent does.
pub(crate) fn run_to_end(command: &mut Command) -> Result<Child, Error> {
    if command.hands_over() {
        // These go when the report is there, and must not be held until the end.
        return spawn(command, Unset::Inherited);
    }
    let run = || {
        let start = Start::new(command, Unset::Inherited, true)?;
        drop(start.child.take_stdin()); // a child that reads to its end would never end
        let ended = wait_readable([Some(start.child.as_fd())], start.deadline);
        step("waiting for the child", ended)?;
        // Either it has ended, or its time to report is over.
        start.await_ready()?;
        Ok(start.child)
    };
    finish(command, run())
}

/// Only of a child that has come so far does the command forget what it was handed.
fn finish(command: &mut Command, result: Result<Child, Stage>) -> Result<Child, Error> {
    match result {
        Ok(child) => {
            command.forget_descriptors();
            Ok(child)
        }
        Err(stage) => Err(Error::new(&command.entry, stage)),
    }
}

/// A child on its way to its entry. Dropped, it is killed and reaped.
struct Start {
    child: Child,
    control: Control,
    timeout: Duration,
    deadline: Option<Instant>,
}

impl Start {
    fn new(command: &Command, unset: Unset, confirm: bool) -> Result<Self, Stage> {
        refuse_loops()?;
        refuse_nonsense(command)?;
        let argv = argv(command)?;
        let env = environment(command)?;
        let prepared = Prepared::new(command, unset, confirm)?;
        let pid = exec(&argv, &env, &prepared.layout, command)?;
        // The child has its copies now. Ours must go, or we would never see the end of what it
        // closes; their going also makes room for the pidfd when the table is full.
        drop(prepared.layout);
        // Nobody can have reaped it: it waits for the launch.
        let handle = step("opening a pidfd", prepared.prospect.of(pid))?;
        let child = Child::new(pid, handle, prepared.tie, prepared.pipes);
        match prepared.control.send_launch(&prepared.launch) {
            // There is a better error coming: the child is gone, or nearly so.
            Err(error) if is_of_the_peer(&error) => {}
            result => step("sending the launch", result)?,
        }
        let timeout = command.ready_timeout;
        let deadline = Instant::now().checked_add(timeout);
        Ok(Self {
            child,
            control: prepared.control,
            timeout,
            deadline,
        })
    }

    /// Returns when the child is about to run its entry, or has run it.
    fn await_ready(&self) -> Result<(), Stage> {
        // The pidfd as well: another process, forked from us at the wrong moment, may hold a copy
        // of the child's end of the channel, which then never ends.
        let watched = [Some(self.control.as_fd()), Some(self.child.as_fd())];
        let ready = wait_readable(watched, self.deadline);
        if step("waiting for the child's report", ready)? == [false, false] {
            return Err(Stage::NotReady {
                timeout: self.timeout,
            });
        }
        let report = self.control.try_receive_report();
        match step("receiving the child's report", report)? {
            Some(report) => report.failure().map_or(Ok(()), Err),
            None => Err(Stage::BeforeInit {
                status: self.child.wait_timeout(END_GRACE).ok().flatten(),
            }),
        }
    }
}

/// A child that does not call `init` would come here again, and its child again.
fn refuse_loops() -> Result<(), Stage> {
    if !entry::init_called() {
        return Err(Stage::InitNotCalled);
    }
    if entry::has_ended() {
        let reason = "the entry of this process has ended; main has to return the code of init()";
        return Err(Stage::Invalid(reason.to_owned()));
    }
    if entry::depth() >= DEPTH_LIMIT {
        return Err(Stage::TooDeep { limit: DEPTH_LIMIT });
    }
    Ok(())
}

/// What no child can be started with.
fn refuse_nonsense(command: &Command) -> Result<(), Stage> {
    let names: Vec<&str> = command
        .descriptors
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let twice = names
        .iter()
        .enumerate()
        .find(|(index, name)| names[..*index].contains(*name));
    if let Some((_, name)) = twice {
        return Err(Stage::Invalid(format!(
            "two descriptors are named {name:?}"
        )));
    }
    let streams = [
        ("stdin", &command.stdin),
        ("stdout", &command.stdout),
        ("stderr", &command.stderr),
    ];
    for (name, stdio) in streams {
        if let Some(Stdio(Source::Spent)) = stdio {
            return Err(Stage::Invalid(format!(
                "what {name} was set to went to the child started before; set it again"
            )));
        }
    }
    match command.death_signal {
        Some(signal) if !(1..=libc::SIGRTMAX()).contains(&signal) => Err(Stage::Invalid(format!(
            "die_with_parent: there is no signal {signal}"
        ))),
        _ => Ok(()),
    }
}

/// The other end has been closed.
fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn argv(command: &Command) -> Result<Vec<CString>, Stage> {
    let name = OsString::from(&command.entry);
    let all = [&name].into_iter().chain(&command.args);
    all.map(|arg| c_string(arg.clone())).collect()
}

fn environment(command: &Command) -> Result<Vec<CString>, Stage> {
    command.environment().map(c_string).collect()
}

fn c_string(string: OsString) -> Result<CString, Stage> {
    CString::new(string.into_vec()).map_err(|error| {
        let string = String::from_utf8_lossy(&error.into_vec()).into_owned();
        Stage::Invalid(format!("{string:?} contains a NUL byte"))
    })
}

/// Everything a start needs, made before there is a process, so that a failure leaves none.
struct Prepared {
    /// The parent's end.
    control: Control,
    prospect: Prospect,
    /// The write end of the lifeline.
    tie: Option<OwnedFd>,
    /// The parent's ends of the standard streams.
    pipes: Pipes,
    /// The child's descriptors.
    layout: Layout,
    /// What the child is told, encoded.
    launch: Vec<u8>,
}

impl Prepared {
    fn new(command: &Command, unset: Unset, confirm: bool) -> Result<Self, Stage> {
        let [stdin, stdout, stderr] = streams(command, unset);
        let mut layout = Layout::new(command.descriptors.len());
        let mut pipes = Pipes::default();
        step("preparing stdin", pipes.add_stdin(&mut layout, stdin))?;
        step("preparing stdout", pipes.add_stdout(&mut layout, stdout))?;
        step("preparing stderr", pipes.add_stderr(&mut layout, stderr))?;
        let control = step("making the control channel", control(&mut layout))?;
        let lifeline = step(
            "making the lifeline",
            lifeline(&mut layout, command.death_signal),
        )?;
        let (tie, lifeline) = lifeline.unzip();
        let (prospect, childs) = step("preparing the handle", Prospect::new())?;
        let keep_open = childs.map(|fd| layout.give_next(fd)).transpose();
        let keep_open = step("preparing the handle", keep_open)?;
        let mut descriptors = Vec::new();
        for (name, fd) in &command.descriptors {
            let fd = fd.as_ref().ok_or_else(|| {
                Stage::Invalid(format!(
                    "the descriptor {name:?} went to the child started before; pass another"
                ))
            })?;
            let number = step("passing a descriptor", layout.lend_next(fd.as_fd()))?;
            descriptors.push((name.clone(), number));
        }
        let launch = Launch {
            entry: command.entry.clone(),
            depth: entry::depth() + 1,
            confirm,
            lifeline,
            keep_open,
            descriptors,
            settings: settings(command)?,
        }
        .encode();
        if launch.len() > LAUNCH_MAX {
            let reason = format!("the names and paths are longer than {LAUNCH_MAX} bytes together");
            return Err(Stage::Invalid(reason));
        }
        Ok(Self {
            control,
            prospect,
            tie,
            pipes,
            layout,
            launch,
        })
    }
}

/// In the order in which they are to be applied.
fn settings(command: &Command) -> Result<Vec<Setting>, Stage> {
    let mut settings = command.settings.clone();
    if command.process_group.is_some() && settings.contains(&Setting::NewSession) {
        let reason = "setsid makes a process group, too; it cannot be combined with process_group";
        return Err(Stage::Invalid(reason.to_owned()));
    }
    let has_nul =
        |setting: &Setting| matches!(setting, Setting::CurrentDir(path) if path.contains(&0));
    if settings.iter().any(has_nul) {
        return Err(Stage::Invalid(
            "the directory's name contains a NUL byte".to_owned(),
        ));
    }
    let has = |wanted: fn(&Setting) -> bool| settings.iter().any(wanted);
    let user = has(|setting| matches!(setting, Setting::User(_)));
    let groups = has(|setting| matches!(setting, Setting::Groups(_)));
    if user && !groups && Uid::effective().is_root() {
        // As std does. Otherwise the new user would keep root's groups.
        settings.push(Setting::Groups(Vec::new()));
    }
    settings.sort();
    Ok(settings)
}

fn control(layout: &mut Layout) -> io::Result<Control> {
    let (ours, childs) = Control::pair()?;
    layout.give(childs.into(), CONTROL_FD)?;
    Ok(ours)
}

/// A pipe whose only write end is ours: the child gets a signal when that is closed, by us or by
/// our end. Each child has a pipe of its own, because the receiver of the signal is a property of
/// the open file, which they would share.
fn lifeline(
    layout: &mut Layout,
    death_signal: Option<i32>,
) -> io::Result<Option<(OwnedFd, (RawFd, i32))>> {
    let Some(signal) = death_signal else {
        return Ok(None);
    };
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let number = layout.give_next(read)?;
    Ok(Some((write, (number, signal))))
}

/// What was set, or else the default.
fn streams(command: &Command, unset: Unset) -> [Option<&Stdio>; 3] {
    static NULL: Stdio = Stdio(Source::Null);
    static PIPED: Stdio = Stdio(Source::Piped);
    let [stdin, stdout, stderr] =
        [&command.stdin, &command.stdout, &command.stderr].map(Option::as_ref);
    match unset {
        Unset::Inherited => [stdin, stdout, stderr],
        Unset::Captured => [
            stdin.or(Some(&NULL)),
            stdout.or(Some(&PIPED)),
            stderr.or(Some(&PIPED)),
        ],
    }
}

fn exec(
    argv: &[CString],
    env: &[CString],
    layout: &Layout,
    command: &Command,
) -> Result<i32, Stage> {
    let pairs = layout.pairs.iter();
    let descriptors: Vec<_> = pairs
        .map(|(fd, target)| (fd.as_raw_fd(), *target))
        .collect();
    let start = |program: &CStr| {
        let process_group = command.process_group;
        sys::spawn(&sys::Image {
            program,
            argv,
            env,
            descriptors: &descriptors,
            process_group,
        })
        .map_err(|source| Stage::Exec {
            program: PathBuf::from(OsStr::from_bytes(program.to_bytes())),
            source,
        })
    };
    if command.sealed {
        let copy = step("making a sealed copy of the program", sealed_copy(layout))?;
        // It is the child that looks this up, in its copy of our descriptors.
        return start(&c_string(
            format!("/proc/self/fd/{}", copy.as_raw_fd()).into(),
        )?);
    }
    match start(program::LINK) {
        // Only for want of a /proc. It can also be the program's loader that is not found, in another
        // root, where the path that we were executed by may be another program's.
        Err(Stage::Exec { source, .. })
            if source.kind() == io::ErrorKind::NotFound && !program::link_exists() =>
        {
            start(&sys::path_executed_by())
        }
        result => result,
    }
}

/// Where none of the child's descriptors is put in its place before it is executed.
fn sealed_copy(layout: &Layout) -> io::Result<OwnedFd> {
    layout.copy(program::sealed_copy()?.as_fd())
}

fn step<T>(step: &'static str, result: io::Result<T>) -> Result<T, Stage> {
    result.map_err(|source| Stage::Prepare { step, source })
}
