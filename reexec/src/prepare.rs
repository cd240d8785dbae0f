//! Everything a start needs, made before there is a process, so that a failure leaves none.

use std::env;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::fcntl::OFlag;
use nix::unistd::{Uid, pipe2};

use crate::command::{Source, Stdio, Unset};
use crate::control::{CONTROL_FD, Control, LAUNCH_MAX};
use crate::error::shortened;
use crate::handle::PendingHandle;
use crate::layout::{Layout, Pipes};
use crate::message::Launch;
use crate::program::Identity;
use crate::setting::Setting;
use crate::sys::{CStrings, ContainsNul};
use crate::validate::{contains_nul, invalid};
use crate::{Command, Stage, entry, program, sys};

/// What there is before the child.
pub(crate) struct Prepared<'a> {
    /// What the child executes.
    pub(crate) program: CString,
    pub(crate) argv: CStrings,
    pub(crate) env: CStrings,
    /// The child's descriptors.
    pub(crate) layout: Layout<'a>,
    /// The parent's ends of the standard streams.
    pub(crate) pipes: Pipes,
    /// The parent's end.
    pub(crate) control: Control,
    /// The write end of the lifeline.
    pub(crate) tie: Option<OwnedFd>,
    pub(crate) pending: PendingHandle,
    /// Whether the spawn is to close every descriptor that is not in the layout.
    pub(crate) closes: bool,
    /// What the child is told, encoded.
    pub(crate) launch: Vec<u8>,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(command: &'a Command, unset: Unset, confirm: bool) -> Result<Self, Stage> {
        let argv = argv(command)?;
        let env = environment(command)?;
        let [stdin, stdout, stderr] = streams(command, unset);
        let mut layout = Layout::new();
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
        let (pending, childs) = step("preparing the handle", PendingHandle::new())?;
        let keep_open = childs.map(|fd| layout.give_next(fd));
        let descriptors = descriptors(command, &mut layout)?;
        let executed = executed(command, &mut layout)?;
        step("giving the child its descriptors", layout.clear_the_way())?;
        let closes = sys::can_close_from();
        let launch = Launch {
            entry: command.entry.clone(),
            depth: entry::depth() + 1,
            confirm,
            lifeline,
            keep_open,
            image: executed.image,
            identity: executed.identity,
            is_closed: closes,
            descriptors,
            settings: settings(command),
        };
        Ok(Self {
            program: executed.path,
            argv,
            env,
            layout,
            pipes,
            control,
            tie,
            pending,
            closes,
            launch: encode(&launch)?,
        })
    }
}

fn argv(command: &Command) -> Result<CStrings, Stage> {
    let mut argv = CStrings::default();
    add(&mut argv, &[command.entry.as_bytes()])?;
    for arg in &command.args {
        add(&mut argv, &[arg.as_bytes()])?;
    }
    Ok(argv)
}

/// `KEY=VALUE` of every variable that the child will have.
fn environment(command: &Command) -> Result<CStrings, Stage> {
    let mut env = CStrings::default();
    if !command.env_clear {
        for (key, value) in env::vars_os().filter(|(key, _)| !command.env.contains_key(key)) {
            add(&mut env, &[key.as_bytes(), b"=", value.as_bytes()])?;
        }
    }
    for (key, value) in &command.env {
        if let Some(value) = value {
            add(&mut env, &[key.as_bytes(), b"=", value.as_bytes()])?;
        }
    }
    Ok(env)
}

fn add(strings: &mut CStrings, parts: &[&[u8]]) -> Result<(), Stage> {
    let added = strings.push(parts);
    added.map_err(|ContainsNul| contains_nul(&parts.concat()))
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

fn control(layout: &mut Layout<'_>) -> io::Result<Control> {
    let (ours, childs) = Control::pair()?;
    layout.give(childs.into(), CONTROL_FD);
    Ok(ours)
}

/// A pipe whose only write end is ours: the child gets a signal when that is closed, by us or by
/// our end. Each child has a pipe of its own, because the receiver of the signal is a property of
/// the open file, which they would share.
fn lifeline(
    layout: &mut Layout<'_>,
    death_signal: Option<i32>,
) -> io::Result<Option<(OwnedFd, (RawFd, i32))>> {
    let Some(signal) = death_signal else {
        return Ok(None);
    };
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let number = layout.give_next(read);
    Ok(Some((write, (number, signal))))
}

/// The numbers at which the child gets what is passed by name.
fn descriptors<'a>(
    command: &'a Command,
    layout: &mut Layout<'a>,
) -> Result<Vec<(String, RawFd)>, Stage> {
    let mut descriptors = Vec::new();
    for (name, fd) in &command.descriptors {
        let fd = fd.as_ref().ok_or_else(|| {
            invalid(format!(
                "the descriptor {:?} went to the child started before; pass another",
                shortened(name)
            ))
        })?;
        descriptors.push((name.clone(), layout.lend_next(fd.as_fd())));
    }
    Ok(descriptors)
}

/// What the child executes.
struct Executed {
    path: CString,
    /// The number of the sealed copy, if it is that.
    image: Option<RawFd>,
    /// If it is our own file: so the child need not find out.
    identity: Option<Identity>,
}

fn executed(command: &Command, layout: &mut Layout<'_>) -> Result<Executed, Stage> {
    if let Some(path) = &command.executable {
        return Ok(Executed {
            path: c_string(path.clone().into_os_string().into_vec())?,
            image: None,
            identity: None,
        });
    }
    if command.sealed {
        let copy = step(
            "making a sealed copy of the program",
            program::sealed_copy(),
        )?;
        let number = layout.give_next(copy);
        return Ok(Executed {
            // It is the child that looks this up, among its own descriptors.
            path: c_string(format!("/proc/self/fd/{number}").into_bytes())?,
            image: Some(number),
            identity: None,
        });
    }
    let path = step("finding the program's own file", program::executable())?;
    Ok(Executed {
        path,
        image: None,
        identity: program::identity(),
    })
}

fn c_string(bytes: Vec<u8>) -> Result<CString, Stage> {
    CString::new(bytes).map_err(|error| contains_nul(&error.into_vec()))
}

/// In the order in which they are to be applied.
fn settings(command: &Command) -> Vec<Setting> {
    let mut settings = command.settings.clone();
    let has = |wanted: fn(&Setting) -> bool| settings.iter().any(wanted);
    let user = has(|setting| matches!(setting, Setting::User(_)));
    let groups = has(|setting| matches!(setting, Setting::Groups(_)));
    if user && !groups && Uid::effective().is_root() {
        // As std does. Otherwise the new user would keep root's groups.
        settings.push(Setting::Groups(Vec::new()));
    }
    settings.sort();
    settings
}

/// What the child is told fits into one packet of the control channel, or is refused.
fn encode(launch: &Launch) -> Result<Vec<u8>, Stage> {
    let message = launch.encode();
    if message.len() <= LAUNCH_MAX {
        return Ok(message);
    }
    let groups = launch.settings.iter().map(|setting| match setting {
        Setting::Groups(groups) => groups.len(),
        _ => 0,
    });
    Err(invalid(format!(
        "{} bytes for the names of the entry, of {} descriptors and of the directory, and for {} \
         groups; a child can be told {LAUNCH_MAX} at most",
        message.len(),
        launch.descriptors.len(),
        groups.sum::<usize>(),
    )))
}

/// Wraps what went wrong before there was a child.
pub(crate) fn step<T>(step: &'static str, result: io::Result<T>) -> Result<T, Stage> {
    result.map_err(|source| Stage::Prepare { step, source })
}
