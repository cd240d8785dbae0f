//! The registered functions, and the choice that `init` makes: an ordinary start, or one of them.

use std::process::{ExitCode, Termination};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::control::{Control, Launch, Report};
use crate::setup;

/// The exit code of a child whose set-up failed before its entry ran, as of `env(1)` and
/// `timeout(1)` when they themselves fail.
pub const EXIT_SETUP_FAILED: u8 = 125;

/// The exit code of a child that was asked for an entry which is not registered, as of a shell
/// that does not find a command.
pub const EXIT_UNKNOWN_ENTRY: u8 = 127;

type Entry = Box<dyn FnOnce() -> ExitCode + Send>;

static ENTRIES: Mutex<Vec<(String, Entry)>> = Mutex::new(Vec::new());
static INIT_CALLED: AtomicBool = AtomicBool::new(false);
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
    assert!(!name.is_empty(), "the name of an entry must not be empty");
    assert!(
        !name.contains(['/', '\0']),
        "the name of an entry must not contain '/' or NUL: {name:?}"
    );
    assert!(
        !init_called(),
        "register({name:?}) comes after init(); call it before, or children will not find it"
    );
    let mut entries = entries();
    assert!(
        entries.iter().all(|(known, _)| known != name),
        "an entry named {name:?} is registered already"
    );
    entries.push((name.to_owned(), Box::new(|| f().report())));
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
/// name as `argv[0]`. `Some(code)` in a child, after the function has run; `code` is what it
/// returned, [`EXIT_UNKNOWN_ENTRY`] if there is none under the name, or [`EXIT_SETUP_FAILED`].
/// A child never gets past this call into the rest of `main`.
///
/// In the child, in this order, before the function runs: everything that came through exec
/// undeclared is closed; the process is named after the entry (15 bytes of it, see
/// `PR_SET_NAME` in prctl(2)), so that `ps` shows it, also as a zombie; the tie to the parent
/// process is armed.
///
/// Call it while the process has one thread. It is cheap in an ordinary start: one system call.
pub fn init() -> Option<ExitCode> {
    if INIT_CALLED.swap(true, Ordering::SeqCst) {
        return None;
    }
    let control = setup::control_channel()?;
    Some(child(control))
}

/// The child's whole life.
fn child(control: Control) -> ExitCode {
    let Ok(launch) = control.receive_launch() else {
        // The parent has gone, or given up; there is nobody to tell.
        return ExitCode::from(EXIT_SETUP_FAILED);
    };
    match prepare(&launch) {
        Ok(entry) => {
            if control.send_report(&Report::Ready).is_err() {
                return ExitCode::from(EXIT_SETUP_FAILED);
            }
            drop(control);
            entry()
        }
        Err(report) => {
            // If the parent has gone, nobody is left who could do something about it.
            let _ = control.send_report(&report);
            ExitCode::from(match report {
                Report::UnknownEntry => EXIT_UNKNOWN_ENTRY,
                _ => EXIT_SETUP_FAILED,
            })
        }
    }
}

fn prepare(launch: &Launch) -> Result<Entry, Report> {
    DEPTH.store(launch.depth, Ordering::SeqCst);
    setup::apply(launch)?;
    take_entry(&launch.entry).ok_or(Report::UnknownEntry)
}

fn take_entry(name: &str) -> Option<Entry> {
    let mut entries = entries();
    let index = entries.iter().position(|(known, _)| known == name)?;
    Some(entries.swap_remove(index).1)
}

/// Whether this process may start children: they would come past `init` as it did.
pub(crate) fn init_called() -> bool {
    INIT_CALLED.load(Ordering::SeqCst)
}

/// How many re-executions deep this process is; 0 in an ordinary start.
pub(crate) fn depth() -> u32 {
    DEPTH.load(Ordering::SeqCst)
}

fn entries() -> MutexGuard<'static, Vec<(String, Entry)>> {
    // A panic of `register` leaves the list as it was.
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}
