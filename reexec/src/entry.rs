//! The registered functions, and the choice that `init` makes: an ordinary start, or one of them.

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::{ExitCode, Termination};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::control::Control;
use crate::message::{Launch, Report};
use crate::{Error, program, setup};

/// The exit code of a child whose set-up failed before its entry ran, as of `env(1)` and
/// `timeout(1)` when they themselves fail.
pub const EXIT_SETUP_FAILED: u8 = 125;

/// The exit code of a child that was asked for an entry which is not registered, as of a shell
/// that does not find a command.
pub const EXIT_UNKNOWN_ENTRY: u8 = 127;

type Entry = Box<dyn FnOnce() -> ExitCode + Send>;

/// A registered function.
struct Registered {
    name: String,
    entry: Entry,
    /// Whether a link of that name to the program runs it, too.
    multicall: bool,
}

static ENTRIES: Mutex<Vec<Registered>> = Mutex::new(Vec::new());
static INIT_CALLED: AtomicBool = AtomicBool::new(false);
static HAS_ENDED: AtomicBool = AtomicBool::new(false);
static DEPTH: AtomicU32 = AtomicU32::new(0);

/// Makes `f` an entry: a function that [`command`](crate::command) can run in a process of its
/// own. To be called before [`init`].
///
/// `f` may return whatever `main` may return; it becomes the exit code of that process.
///
/// # Panics
///
/// If the name is empty, contains a `/` or a NUL byte, or is registered already, or if [`init`]
/// has been called: its choice is made, so children would not find the entry.
pub fn register<F, T>(name: &str, f: F)
where
    F: FnOnce() -> T + Send + 'static,
    T: Termination,
{
    add(name, Box::new(|| f().report()), false);
}

/// As [`register`], for an entry that also runs when the program is *started* under its name,
/// through a symbolic or hard link, as the commands of BusyBox are. The directory before the name
/// does not count.
///
/// Whoever can start the program can run such an entry, with any arguments.
///
/// # Panics
///
/// As [`register`].
pub fn register_multicall<F, T>(name: &str, f: F)
where
    F: FnOnce() -> T + Send + 'static,
    T: Termination,
{
    add(name, Box::new(|| f().report()), true);
}

fn add(name: &str, entry: Entry, multicall: bool) {
    assert!(!name.is_empty(), "the name of an entry must not be empty");
    assert!(
        !name.contains(['/', '\0']),
        "the name of an entry must not contain '/' or NUL: {name:?}"
    );
    assert!(
        !init_called(),
        "the entry {name:?} is registered after init(); do it before, or children will not find it"
    );
    let mut entries = entries();
    assert!(
        entries.iter().all(|known| known.name != name),
        "an entry named {name:?} is registered already"
    );
    entries.push(Registered {
        name: name.to_owned(),
        entry,
        multicall,
    });
}

/// Runs the registered function that this process was started for, if it was started by
/// [`command`](crate::command). Must be the first statement of `main` after the calls of
/// [`register`]:
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
/// `None` in an ordinary start, also when somebody started the program by hand with an entry's
/// name as `argv[0]`, unless that entry is a [multi-call](register_multicall) one. `Some(code)` in a
/// child, after the function has run; `code` is what it returned, [`EXIT_UNKNOWN_ENTRY`] if there is
/// none under the name, or [`EXIT_SETUP_FAILED`].
/// In a child, `main` has to return that code, as above: the rest of it is not for children.
///
/// In the child, in this order, before the function runs: it takes the descriptors that were handed
/// over; the process is named after the entry (15 bytes of it, see `PR_SET_NAME` in prctl(2)), so that
/// `ps` shows it, also as a zombie; the tie to the parent process is armed; the command's settings are
/// applied.
///
/// Call it while the process has one thread, and before anything changes the root or the working
/// directory: it takes down which file is running. It is cheap in an ordinary start: three or four
/// system calls.
///
/// In a process that cannot tell whether it is a child, because a seccomp filter refuses every question
/// that could, this is `Some` with [`EXIT_SETUP_FAILED`], after a sentence on stderr.
#[must_use = "main has to return this code, or a child runs the rest of main, too"]
pub fn init() -> Option<ExitCode> {
    if INIT_CALLED.swap(true, Ordering::SeqCst) {
        return None;
    }
    match Control::inherited() {
        Ok(Some(control)) => Some(child(control)),
        Ok(None) => {
            program::identify(None);
            multicall()
        }
        Err(error) => {
            say(format_args!(
                "descriptor 3 does not tell whether this process is a child, or cannot be taken \
                 over: {error}"
            ));
            Some(ExitCode::from(EXIT_SETUP_FAILED))
        }
    }
}

/// In an ordinary start: the entry that the program was called as, if it is a multi-call one.
fn multicall() -> Option<ExitCode> {
    let program = env::args_os().next()?;
    let name = Path::new(&program).file_name()?.to_str()?;
    let entry = take_entry(|known| known.multicall && known.name == name)?;
    Some(entry())
}

/// The child's whole life.
fn child(control: Control) -> ExitCode {
    let launch = match control.receive_launch() {
        Ok(Some(launch)) => launch,
        // The parent has gone, or given up; there is nobody to tell.
        Ok(None) => return ExitCode::from(EXIT_SETUP_FAILED),
        Err(error) => {
            say(format_args!("the parent cannot be heard: {error}"));
            return ExitCode::from(EXIT_SETUP_FAILED);
        }
    };
    match prepare(&launch) {
        Ok(entry) => {
            if launch.confirm && !tell(&control, &Report::Ready) {
                return ExitCode::from(EXIT_SETUP_FAILED);
            }
            drop(control);
            let code = entry();
            HAS_ENDED.store(true, Ordering::SeqCst);
            code
        }
        Err(report) => {
            if launch.confirm {
                tell(&control, &report);
            } else if let Some(stage) = report.failure() {
                say(format_args!("{}", Error::new(&launch.entry, stage)));
            }
            ExitCode::from(match report {
                Report::UnknownEntry => EXIT_UNKNOWN_ENTRY,
                _ => EXIT_SETUP_FAILED,
            })
        }
    }
}

/// Tells the parent, and whether that was possible. If it has gone, nobody is left who could do
/// something about it; otherwise stderr has to do.
fn tell(control: &Control, report: &Report) -> bool {
    let told = control.send_report(report);
    if let Err(error) = &told
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        say(format_args!(
            "the parent cannot be told ({error}) of {report:?}"
        ));
    }
    told.is_ok()
}

/// On stderr, where there is no other way to tell.
fn say(message: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "reexec: {message}");
}

fn prepare(launch: &Launch) -> Result<Entry, Report> {
    DEPTH.store(launch.depth, Ordering::SeqCst);
    program::identify(launch.identity);
    setup::apply(launch)?;
    take_entry(|known| known.name == launch.entry).ok_or(Report::UnknownEntry)
}

fn take_entry(is_wanted: impl Fn(&Registered) -> bool) -> Option<Entry> {
    let mut entries = entries();
    let index = entries.iter().position(is_wanted)?;
    Some(entries.swap_remove(index).entry)
}

/// Whether this process may start children: they would come past `init` as it did.
pub(crate) fn init_called() -> bool {
    INIT_CALLED.load(Ordering::SeqCst)
}

/// Whether the entry that this process was started for has returned: only its end is left.
pub(crate) fn has_ended() -> bool {
    HAS_ENDED.load(Ordering::SeqCst)
}

/// How many re-executions deep this process is; 0 in an ordinary start.
pub(crate) fn depth() -> u32 {
    DEPTH.load(Ordering::SeqCst)
}

fn entries() -> MutexGuard<'static, Vec<Registered>> {
    // A panic of `register` leaves the list as it was.
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    /// The other tests would not notice: their `main` returns this code, and none of them runs.
    #[test]
    fn an_ordinary_start_goes_on() {
        assert!(super::init().is_none());
    }
}
