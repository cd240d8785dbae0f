//! Templates: children that are cloned from a waiting copy of the program, instead of executed.

use std::fmt;
use std::os::fd::RawFd;
use std::process;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socketpair};
use nix::unistd::{Pid, setpgid};

use crate::background::{self, END_GRACE};
use crate::child_setting::Setting;
use crate::command::command;
use crate::confinement::Confinement;
use crate::group::Group;
use crate::prepare_spawn::{Prepared, step};
use crate::stdio::StdioDefault;
use crate::sys::{RIGHTS_MAX, SharedWord};
use crate::template_message::{ARGUMENTS_MAX, ENTRY, PAGE, Request, SOCKET};
use crate::template_process::{TemplateProcess, Templates};
use crate::validate::invalid;
use crate::{Command, Error, Stage, Stdio, sys};

/// A copy of the program that waits, and makes children in a fraction of the time of an exec.
#[derive(Clone)]
pub struct Template(Arc<Templates>);

impl Template {
    /// Starts a template.
    pub fn new() -> Result<Template, Error> {
        let failed = |stage| Error::new(ENTRY, stage);
        let confinement = confinement().map_err(failed)?;
        let templates = Templates::new(start_template(true)?, confinement);
        templates.state().await_greeting();
        Ok(Template(Arc::new(templates)))
    }

    /// Makes a builder for a child of this template.
    pub fn command(&self, name: impl Into<String>) -> Command {
        let mut command = command(name);
        command.template = Some(Arc::clone(&self.0));
        command
    }

    /// Replaces the template after each `children` children; 0 means never.
    pub fn renew_after(&self, children: u32) {
        self.0.state().renew_after = children;
    }

    /// Returns the process id of the template.
    pub fn id(&self) -> Option<u32> {
        self.0.state().current.as_ref().map(TemplateProcess::id)
    }

    /// Says why the last child that the template did not make was executed instead.
    pub fn why_executed(&self) -> Option<String> {
        self.0.state().reason.clone()
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("id", &self.id()).finish_non_exhaustive()
    }
}

fn confinement() -> Result<Confinement, Stage> {
    step("looking at the rights of this process", Confinement::now())
}

/// Starts one template the way every child is started.
fn start_template(confirm: bool) -> Result<TemplateProcess, Error> {
    let failed = |stage| Error::new(ENTRY, stage);
    let (flags, protocol) = (SockFlag::SOCK_CLOEXEC, None::<SockProtocol>);
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, protocol, flags);
    let (ours, its) =
        step("making the template's socket", pair.map_err(Into::into)).map_err(failed)?;
    let (number, page) = step("making the template's page", SharedWord::new()).map_err(failed)?;
    let mut command = command(ENTRY);
    command
        .args([""; ARGUMENTS_MAX])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .fd(SOCKET, its)
        .fd(PAGE, page)
        // It blocks all others. Its socket ends as well; but if it is stopped, it does not see that.
        .parent_death_signal(libc::SIGKILL);
    let child = match confirm {
        true => command.spawn()?,
        false => command.spawn_unconfirmed()?,
    };
    Ok(TemplateProcess::new(child, ours, number))
}

/// Lets the command's template make the child, up to where the child waits for its launch. Returns
/// `None` if the child must be executed: the command has no template, or the template cannot make it.
/// Executing it then gives the error, if there is one.
///
/// # Errors
///
/// If this process has other rights than when it made the template.
pub(crate) fn start<'a>(
    command: &'a Command,
    default: StdioDefault,
    confirm: bool,
) -> Result<Option<(Prepared<'a>, i32)>, Stage> {
    let Some(templates) = &command.template else { return Ok(None) };
    check_maker(templates)?;
    let mut state = templates.state();
    if state.is_unusable {
        return Ok(None);
    }
    if let Some(reason) = unfit(command) {
        state.reason = Some(reason.to_owned());
        return Ok(None);
    }
    let prepared = Prepared::new(command, default, confirm)?;
    let descriptors = match sources(&prepared) {
        Ok(descriptors) => descriptors,
        Err(reason) => {
            state.reason = Some(reason);
            return Ok(None);
        }
    };
    let ignored = command.settings.iter().filter_map(Setting::ignored_signal);
    let ignored: Vec<_> = ignored.collect();
    let pid = state.request(&Request {
        argv: &prepared.argv,
        env: &prepared.env,
        blocked: &ignored,
        descriptors: &descriptors,
    });
    drop(state);
    let Some(pid) = pid else { return Ok(None) };
    if let Some(group) = command.group_at_birth()
        && setpgid(Pid::from_raw(pid), Pid::from_raw(group)).is_err()
    {
        drop(prepared);
        background::abandon(pid, Group::Shared, Instant::now() + END_GRACE);
        return Ok(None);
    }
    Ok(Some((prepared, pid)))
}

/// Starts another template if that is due.
pub(crate) fn renew(command: &Command) {
    let Some(templates) = &command.template else { return };
    let mut state = templates.state();
    if state.is_renewal_due() {
        drop(state.current.take());
        match start_template(false) {
            Ok(next) => state.current = Some(next),
            Err(error) => state.reason = Some(error.to_string()),
        }
    }
}

/// Fails if the template would give a child other rights than this process has.
fn check_maker(templates: &Templates) -> Result<(), Stage> {
    if templates.maker != process::id() {
        return Err(invalid(
            "the template belongs to the process that this one was forked from; make another one",
        ));
    }
    match templates.confinement.difference(&confinement()?) {
        None => Ok(()),
        Some(what) => Err(invalid(format!(
            "the {what} of this process are not those that it had when it made the template; make \
             another one"
        ))),
    }
}

/// Returns why no template can make this child.
fn unfit(command: &Command) -> Option<&'static str> {
    if command.sealed {
        return Some("the command executes a sealed copy of the program");
    }
    if command.executable.is_some() {
        return Some("the command names a file to execute");
    }
    (command.args.len() > ARGUMENTS_MAX).then_some("the command has more than 64 arguments")
}

/// Returns the descriptors that the child gets, by their numbers in the child. Its streams are those of
/// this process unless the command says otherwise.
///
/// # Errors
///
/// The reason why no message can carry them.
fn sources(prepared: &Prepared<'_>) -> Result<Vec<RawFd>, String> {
    let mut sources: Vec<Option<RawFd>> = vec![None; prepared.fd_map.end() as usize];
    if sources.len() > RIGHTS_MAX {
        return Err(format!("the child gets more than {RIGHTS_MAX} descriptors"));
    }
    for (source, target) in prepared.fd_map.pairs() {
        sources[target as usize] = Some(source);
    }
    let source = |(given, own): (Option<RawFd>, RawFd)| match given {
        Some(source) => Ok(source),
        None if sys::is_inheritable(own) => Ok(own),
        // Something else may have the number by now.
        None => Err("stdin, stdout or stderr of this process is closed".to_owned()),
    };
    sources.into_iter().zip(0..).map(source).collect()
}
