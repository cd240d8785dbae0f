//! Runs the tests of a file a second time, with children from a template.

use std::env;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use reexec::Template;

use super::{stat, wait_until};

/// The tests that run only with plain children, each with the reason; set in a file whose other tests
/// run both ways.
pub(crate) static PLAIN_ONLY: OnceLock<&[(&str, &str)]> = OnceLock::new();

/// Tells a program of a test that its children come from a template.
const FROM_TEMPLATE: &str = "FROM_TEMPLATE";

/// The template that makes the children now.
static TEMPLATE: Mutex<Option<Template>> = Mutex::new(None);

/// Makes [`run`](super::run) run each test of this file a second time, with children from a template,
/// except these tests, for these reasons.
pub(crate) fn run_both_ways(plain_only: &'static [(&'static str, &'static str)]) {
    PLAIN_ONLY.set(plain_only).unwrap();
}

/// Makes a command of this entry: a plain one, or one of the template. A program of a test makes its
/// template here, after it has set itself up.
pub(crate) fn command(entry: impl Into<String>) -> reexec::Command {
    let mut template = TEMPLATE.lock().unwrap();
    if template.is_none() && are_wanted() {
        *template = Some(Template::new().unwrap());
    }
    match template.as_ref() {
        Some(template) => template.command(entry),
        None => reexec::command(entry),
    }
}

/// Makes the template of a test before the test begins, so that the test finds no more descriptors than
/// before.
pub(crate) fn start() {
    *TEMPLATE.lock().unwrap() = Some(Template::new().unwrap());
}

/// Whether the test that has started this program uses a template.
fn are_wanted() -> bool {
    env::var_os(FROM_TEMPLATE).is_some()
}

/// Makes a program of a test use a template if the test does.
pub(crate) fn pass_on(program: &mut Command) {
    if TEMPLATE.lock().unwrap().is_some() || are_wanted() {
        program.env(FROM_TEMPLATE, "1");
    }
}

/// Whether this process is a template of a test that runs from a template: such a test does not count
/// it.
pub(crate) fn is_one(pid: u32) -> bool {
    let uses_template = TEMPLATE.lock().unwrap().is_some() || are_wanted();
    uses_template && has_name(pid)
}

fn has_name(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.comm == "reexec/template")
}

/// Ends the template, and reaps the adopted ones. Returns why the template could make no children, if
/// it could not.
pub(crate) fn end() -> Option<String> {
    let template = TEMPLATE.lock().unwrap().take()?;
    let unusable = template.id().is_none().then(|| template.why_executed()).flatten();
    drop(template);
    for pid in super::children() {
        if has_name(pid) {
            let pid = Pid::from_raw(pid as i32);
            wait_until("a template has ended with its maker", || {
                let waited = waitpid(pid, Some(WaitPidFlag::WNOHANG));
                waited == Err(Errno::ECHILD) || waited.unwrap() != WaitStatus::StillAlive
            });
        }
    }
    unusable
}
