//! The registered functions, and `init`, which runs one of them in a child.

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::{ExitCode, Termination};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::control::Control;
use crate::job_channel::KEEPER;
use crate::message::{Launch, Preparation, Report};
use crate::{
    EXIT_SETUP_FAILED, EXIT_UNKNOWN_ENTRY, Error, child_setup, keeper, preparation, program,
    template_message, template_server,
};

type Entry = Box<dyn FnOnce() -> ExitCode + Send>;

/// An entry that is about to run in this thread.
type Ready = Box<dyn FnOnce() -> ExitCode>;

/// A registered function.
struct Registered {
    name: String,
    entry: Entry,
    kind: Kind,
}

/// How an entry is started: by a command, also by a link of its name, or with an argument.
#[derive(PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Multicall,
    Call,
}

static ENTRIES: Mutex<Vec<Registered>> = Mutex::new(Vec::new());
static INIT_CALLED: AtomicBool = AtomicBool::new(false);
static HAS_RETURNED: AtomicBool = AtomicBool::new(false);
static DEPTH: AtomicU32 = AtomicU32::new(0);

/// Registers `f` as an entry: a function that [`command`](crate::command) can run in a process of its
/// own. Call this before [`init`].
///
/// `f` can return the same types as `main`. What it returns becomes the exit code of the child.
///
/// # Panics
///
/// If the name is empty, contains a `/` or a NUL byte, or is registered already. Also if [`init`] has
/// been called, because children look for their entry in `init`.
pub fn register<F, T>(name: impl Into<String>, f: F)
where
    F: FnOnce() -> T + Send + 'static,
    T: Termination,
{
    add_entry(name.into(), Kind::Plain, Box::new(|| f().report()));
}

/// Registers an entry as [`register`] does, which also runs when the program is *started* under its
/// name, through a symbolic or hard link, as the commands of BusyBox do. The directory before the name
/// is ignored.
///
/// Every user who can start the program can run such an entry, with any arguments.
///
/// # Panics
///
/// As [`register`].
pub fn register_multicall<F, T>(name: impl Into<String>, f: F)
where
    F: FnOnce() -> T + Send + 'static,
    T: Termination,
{
    add_entry(name.into(), Kind::Multicall, Box::new(|| f().report()));
}

/// Registers a function that confines a template before it makes children; see
/// [`Template::prepared_by`](crate::Template::prepared_by). Call this before [`init`].
///
/// # Panics
///
/// As [`register`].
pub fn register_preparation<F>(name: impl Into<String>, f: F)
where
    F: FnOnce(&[String]) -> io::Result<()> + Send + 'static,
{
    let name = name.into();
    check_name(&name);
    let is_new = preparation::add(name.clone(), Box::new(f));
    assert!(is_new, "a preparation named {name:?} is registered already");
}

fn check_name(name: &str) {
    assert!(!name.is_empty(), "the name of an entry must not be empty");
    assert!(
        !name.contains(['/', '\0']),
        "the name of an entry must not contain '/' or NUL: {name:?}"
    );
    assert!(
        !is_init_called(),
        "the entry {name:?} is registered after init(); do it before, or children will not find it"
    );
}

pub(crate) fn add_entry(name: String, kind: Kind, entry: Entry) {
    check_name(&name);
    let mut entries = entries();
    assert!(
        entries.iter().all(|known| known.name != name),
        "an entry named {name:?} is registered already"
    );
    entries.push(Registered { name, entry, kind });
}

/// Runs the registered function if this process was started by [`command`](crate::command). It must be
/// the first statement of `main` after the calls of [`register`]:
///
/// ```
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     reexec::register("childProcess", || { /* the child's work */ });
///     if let Some(code) = reexec::init() {
///         return code;
///     }
///     // the parent's work
///     ExitCode::SUCCESS
/// }
/// ```
///
/// Returns `None` in an ordinary start, also if somebody has started the program by hand with an
/// entry's name as `argv[0]`, unless the entry is a [multi-call](register_multicall) one.
///
/// Returns `Some(code)` in a child, after the function has run. `main` must then return the code, as
/// above: the rest of `main` is not for children. The code is what the function returned, or
/// [`EXIT_UNKNOWN_ENTRY`] if none is registered under the name, or [`EXIT_SETUP_FAILED`].
///
/// Before the function runs, `init` does this in the child:
///
/// 1. It takes the descriptors that the parent has passed.
/// 2. It names the process after the entry, so that `ps` shows the name, also of a zombie. The kernel
///    keeps 15 bytes of it; see `PR_SET_NAME` in prctl(2).
/// 3. It arms the lifeline, so that the child ends with its parent.
/// 4. It applies the settings of the command.
///
/// Call it while the process has one thread, and before anything changes the root or the working
/// directory, because it records which file is running. In an ordinary start it costs three or four
/// system calls.
///
/// A seccomp filter may refuse every system call that could tell whether the process is a child. Then
/// `init` prints a sentence to stderr and returns `Some` with [`EXIT_SETUP_FAILED`].
#[must_use = "main has to return this code, or a child runs the rest of main, too"]
pub fn init() -> Option<ExitCode> {
    if INIT_CALLED.swap(true, Ordering::SeqCst) {
        return None;
    }
    run_if_child().or_else(|| {
        program::record_identity(None);
        run_multicall()
    })
}

/// Runs the child if this process is one.
fn run_if_child() -> Option<ExitCode> {
    match Control::take_inherited() {
        Ok(control) => control.map(run_child),
        Err(error) => {
            print_error(format_args!(
                "cannot find out whether this process is a child, or cannot take over descriptor 3: \
                 {error}"
            ));
            Some(ExitCode::from(EXIT_SETUP_FAILED))
        }
    }
}

/// In an ordinary start: runs the multi-call entry that the program was started as, if there is one.
fn run_multicall() -> Option<ExitCode> {
    let program = env::args_os().next()?;
    let name = Path::new(&program).file_name()?.to_str()?;
    let found = take_entry(|known| known.kind == Kind::Multicall && known.name == name)?;
    Some((found.entry)())
}

/// Runs the child that has executed the program.
fn run_child(control: Control) -> ExitCode {
    match control.receive_launch() {
        Ok(Some(launch)) => run_launch(&launch, Some(control)),
        // The parent has ended or given up, so nobody can receive a report.
        Ok(None) => ExitCode::from(EXIT_SETUP_FAILED),
        Err(error) => {
            print_error(format_args!("cannot receive from the parent what to run: {error}"));
            ExitCode::from(EXIT_SETUP_FAILED)
        }
    }
}

/// Sets the child up, reports if the parent waits for that, and runs the entry. This is also how the
/// child of a template continues.
fn run_launch(launch: &Launch, control: Option<Control>) -> ExitCode {
    let set_up = set_up(launch);
    let waiting = control.as_ref().filter(|_| launch.confirm);
    match set_up {
        Ok(entry) => {
            if !waiting.is_none_or(|parent| send_report(parent, &Report::Ready)) {
                return ExitCode::from(EXIT_SETUP_FAILED);
            }
            drop(control);
            let code = entry();
            HAS_RETURNED.store(true, Ordering::SeqCst);
            code
        }
        Err(report) => {
            if let Some(parent) = waiting {
                send_report(parent, &report);
            } else if let Some(stage) = report.failure() {
                print_error(format_args!("{}", Error::new(&launch.entry, stage)));
            }
            ExitCode::from(match report {
                Report::UnknownEntry => EXIT_UNKNOWN_ENTRY,
                _ => EXIT_SETUP_FAILED,
            })
        }
    }
}

/// Sends the report to the parent; returns whether that was possible. Prints the error, unless the
/// parent has ended.
fn send_report(control: &Control, report: &Report) -> bool {
    let sent = control.send_report(report);
    if let Err(error) = &sent
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        print_error(format_args!("cannot report {report:?} to the parent: {error}"));
    }
    sent.is_ok()
}

/// Prints an error to stderr, because it cannot be sent to the parent.
fn print_error(message: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "reexec: {message}");
}

/// Sets the child up, and returns the entry to run.
fn set_up(launch: &Launch) -> Result<Ready, Report> {
    DEPTH.store(launch.depth, Ordering::SeqCst);
    program::record_identity(launch.identity);
    child_setup::apply(launch)?;
    let entry = match built_in(&launch.entry) {
        Some(entry) => entry,
        None => take_entry_for(&launch.entry, launch.is_call())?,
    };
    if let Some(Preparation { name, args }) = &launch.preparation {
        preparation::run(name, args)?;
    }
    Ok(entry)
}

/// Returns an entry of this crate itself. No program can register its name, because of the '/'.
fn built_in(name: &str) -> Option<Ready> {
    match name {
        template_message::ENTRY => Some(template_server::prepare(run_launch)),
        KEEPER => Some(Box::new(|| keeper::run(|name| take_entry_for(name, false)))),
        _ => None,
    }
}

/// Returns the function with this name, if it was registered for this kind of start.
fn take_entry_for(name: &str, is_call: bool) -> Result<Entry, Report> {
    let found = take_entry(|known| known.name == name).ok_or(Report::UnknownEntry)?;
    let wrong_start = match (found.kind == Kind::Call, is_call) {
        (true, false) => "starting a function of register_call without Command::call",
        (false, true) => "calling a function that register_call has not registered",
        _ => return Ok(found.entry),
    };
    Err(Report::Failed { step: wrong_start.to_owned(), errno: libc::EINVAL })
}

fn take_entry(is_wanted: impl Fn(&Registered) -> bool) -> Option<Registered> {
    let mut entries = entries();
    let index = entries.iter().position(is_wanted)?;
    Some(entries.swap_remove(index))
}

/// Whether `init` has been called, so that the children of this process will call it, too.
pub(crate) fn is_init_called() -> bool {
    INIT_CALLED.load(Ordering::SeqCst)
}

/// Whether the entry of this process has returned, so that the process must end.
pub(crate) fn has_returned() -> bool {
    HAS_RETURNED.load(Ordering::SeqCst)
}

/// Returns the number of re-executions that led to this process; 0 in an ordinary start.
pub(crate) fn depth() -> u32 {
    DEPTH.load(Ordering::SeqCst)
}

fn entries() -> MutexGuard<'static, Vec<Registered>> {
    // A panic of `register` leaves the list as it was.
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    /// If this failed, the tests in `tests/` would not notice: their `main` would return the code, and
    /// no test would run.
    #[test]
    fn an_ordinary_start_continues_after_init() {
        assert!(super::init().is_none());
    }
}
