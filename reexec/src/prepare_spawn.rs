//! Prepares a start before there is a process, so that a failure leaves none.

use std::env;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::unistd::Uid;

use crate::child_setting::Setting;
use crate::control::{CONTROL_FD, Control, LAUNCH_MAX};
use crate::error::shortened;
use crate::fd_map::FdMap;
use crate::handle::PendingHandle;
use crate::lifeline::Lifeline;
use crate::message::Launch;
use crate::program::Identity;
use crate::stdio::{Pipes, StdioDefault, add_stream};
use crate::sys::{CStrings, ContainsNul};
use crate::validate::{contains_nul, invalid};
use crate::{Command, Stage, entry, program, sys};

/// Holds what a start needs before there is a child.
pub(crate) struct Prepared<'a> {
    /// The file that the child executes.
    pub(crate) program: CString,
    pub(crate) argv: CStrings,
    pub(crate) env: CStrings,
    /// The child's descriptors.
    pub(crate) fd_map: FdMap<'a>,
    /// The parent's ends of the standard streams.
    pub(crate) pipes: Pipes,
    /// The parent's end of the control channel, if the child needs one.
    pub(crate) control: Option<Control>,
    pub(crate) lifeline: Option<Lifeline>,
    pub(crate) pending: PendingHandle,
    /// Whether the spawn closes every descriptor that is not in the map.
    pub(crate) close_undeclared: bool,
    /// The encoded [`Launch`].
    pub(crate) launch: Vec<u8>,
}

/// How the child comes to be. One of a template has been prepared with the template.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Template,
    Exec,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(
        command: &'a Command,
        default: StdioDefault,
        confirm: bool,
        way: Way,
    ) -> Result<Self, Stage> {
        let argv = argv(command)?;
        let env = match way == Way::Template && command.keeps_template_env {
            true => CStrings::default(),
            false => environment(command)?,
        };
        let [stdin, stdout, stderr] = default.fill(command.streams());
        let has_control = confirm || way == Way::Exec;
        let mut fd_map = FdMap::new(CONTROL_FD + RawFd::from(has_control));
        let stdin = add_stream(&mut fd_map, stdin, libc::STDIN_FILENO);
        let stdout = add_stream(&mut fd_map, stdout, libc::STDOUT_FILENO);
        let stderr = add_stream(&mut fd_map, stderr, libc::STDERR_FILENO);
        let pipes = Pipes {
            stdin: step("preparing stdin", stdin)?.map(Into::into),
            stdout: step("preparing stdout", stdout)?.map(Into::into),
            stderr: step("preparing stderr", stderr)?.map(Into::into),
        };
        let control = has_control.then(|| control(&mut fd_map, way)).transpose();
        let control = step("making the control channel", control)?;
        let lifeline = command.death_signal.map(|signal| Lifeline::new(&mut fd_map, signal));
        let lifeline = step("making the lifeline", lifeline.transpose())?;
        let (lifeline, childs_lifeline) = lifeline.unzip();
        let (pending, child_end) = step("preparing the handle", PendingHandle::new())?;
        let keep_open = child_end.map(|fd| fd_map.give_next(fd));
        let descriptors = descriptors(command, &mut fd_map)?;
        let executed = match way {
            Way::Template => Executed::default(),
            Way::Exec => executed(command, &mut fd_map)?,
        };
        step("giving the child its descriptors", fd_map.resolve_conflicts())?;
        let close_undeclared = sys::can_close_from();
        let launch = Launch {
            entry: command.entry.clone(),
            depth: entry::depth() + 1,
            confirm,
            lifeline: childs_lifeline,
            keep_open,
            sealed_copy: executed.sealed_copy,
            identity: executed.identity,
            // A template closes them in each child.
            undeclared_closed: close_undeclared || way == Way::Template,
            descriptors,
            settings: settings_of(command, way),
            preparation: match way {
                Way::Template => None,
                Way::Exec => command.preparation.as_deref().cloned(),
            },
        };
        Ok(Self {
            program: executed.path,
            argv,
            env,
            fd_map,
            pipes,
            control,
            lifeline,
            pending,
            close_undeclared,
            launch: encode(&launch)?,
        })
    }
}

fn argv(command: &Command) -> Result<CStrings, Stage> {
    let mut argv = CStrings::default();
    let arg0 = command.arg0.as_deref().unwrap_or(OsStr::new(&command.entry));
    add(&mut argv, &[arg0.as_bytes()])?;
    for arg in &command.args {
        add(&mut argv, &[arg.as_bytes()])?;
    }
    Ok(argv)
}

/// Returns `KEY=VALUE` for each variable of the child.
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

fn control(fd_map: &mut FdMap<'_>, way: Way) -> io::Result<Control> {
    let (parent_end, child_end) = Control::pair()?;
    if way == Way::Exec {
        parent_end.send_hello()?;
    }
    fd_map.give(child_end.into(), CONTROL_FD);
    Ok(parent_end)
}

/// Puts the descriptors passed by name into the map, and returns their numbers in the child.
fn descriptors<'a>(
    command: &'a Command,
    fd_map: &mut FdMap<'a>,
) -> Result<Vec<(String, RawFd)>, Stage> {
    let mut descriptors = Vec::new();
    for (name, fd) in &command.descriptors {
        let fd = fd.as_ref().ok_or_else(|| {
            invalid(format!(
                "the descriptor {:?} went to a child started before; pass another",
                shortened(name)
            ))
        })?;
        descriptors.push((name.clone(), fd_map.lend_next(fd.as_fd())));
    }
    Ok(descriptors)
}

/// The file that the child executes. Nothing for a child of a template, which knows its own file.
#[derive(Default)]
struct Executed {
    path: CString,
    /// The number of the sealed copy, if the child executes one.
    sealed_copy: Option<RawFd>,
    /// The identity, if the child executes our own file: so the child need not look it up.
    identity: Option<Identity>,
}

fn executed(command: &Command, fd_map: &mut FdMap<'_>) -> Result<Executed, Stage> {
    if let Some(path) = &command.executable {
        return Ok(Executed {
            path: c_string(path.clone().into_os_string().into_vec())?,
            sealed_copy: None,
            identity: None,
        });
    }
    if command.sealed {
        let copy = step("making a sealed copy of the program", program::sealed_copy())?;
        let number = fd_map.give_next(copy);
        return Ok(Executed {
            // The child looks this up, among its own descriptors.
            path: c_string(format!("/proc/self/fd/{number}").into_bytes())?,
            sealed_copy: Some(number),
            identity: None,
        });
    }
    let path = step("finding the program's own file", program::executable())?;
    Ok(Executed { path, sealed_copy: None, identity: program::identity() })
}

fn c_string(bytes: Vec<u8>) -> Result<CString, Stage> {
    CString::new(bytes).map_err(|error| contains_nul(&error.into_vec()))
}

/// Returns the settings in the order in which the child applies them.
pub(crate) fn settings(command: &Command) -> Vec<Setting> {
    let mut settings = command.settings.clone();
    let has = |wanted: fn(&Setting) -> bool| settings.iter().any(wanted);
    let user = has(|setting| matches!(setting, Setting::User(_)));
    let groups = has(|setting| matches!(setting, Setting::Groups(_)));
    if user && !groups && Uid::effective().is_root() {
        // Otherwise the new user would keep root's groups. std does the same.
        settings.push(Setting::Groups(Vec::new()));
    }
    settings.sort();
    settings
}

/// Returns the settings that the child applies itself. A template makes its children ignore signals.
fn settings_of(command: &Command, way: Way) -> Vec<Setting> {
    let mut settings = settings(command);
    if way == Way::Template {
        settings.retain(|setting| setting.ignored_signal().is_none());
    }
    settings
}

/// Encodes the launch. Fails if it does not fit into one packet of the control channel.
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
        "the message to the child would have {} bytes, with the names of the entry, of {} \
         descriptors and of the directory, and with {} groups; it can have {LAUNCH_MAX}",
        message.len(),
        launch.descriptors.len(),
        groups.sum::<usize>(),
    )))
}

/// Turns an error of this step into a [`Stage`].
pub(crate) fn step<T>(step: &'static str, result: io::Result<T>) -> Result<T, Stage> {
    result.map_err(|source| Stage::Prepare { step, source })
}
