//! Events, one a line, on stderr. A line that nobody reads must not stop the server: it is lost, and
//! counted, and the number is logged when there is room again.

use std::env;
use std::fmt;
use std::io;
use std::panic;
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::SystemTime;

use nix::sys::stat::fstat;

use crate::nonblocking::{ATOMIC, Stream};

/// How much is said.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(crate) enum Level {
    /// Why the server ends, and nothing else.
    Quiet,
    /// What an operator should know.
    Events,
    /// Each session.
    Sessions,
}

impl Level {
    /// The other way round than `as u8`.
    pub(crate) fn from_u8(number: u8) -> Option<Self> {
        let all = [Level::Quiet, Level::Events, Level::Sessions];
        all.into_iter().find(|level| *level as u8 == number)
    }
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Events as u8);

pub(crate) fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Where lines go, and how they begin.
struct Log {
    stderr: Stream<io::Stderr>,
    is_stamped: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// How many lines this process has lost and not told of.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Whether the last thing that we wrote was a part of a line.
static IS_CUT: AtomicBool = AtomicBool::new(false);

/// Makes sure that no line blocks. To be called before there are threads, and before the sandbox,
/// in which nothing can be opened any more; forked workers inherit the result.
pub(crate) fn open() {
    LOG.get_or_init(|| Log {
        stderr: Stream::stderr(),
        is_stamped: !is_journal(),
    });
    // The default hook writes to stderr in its own way, and waits if that is full.
    panic::set_hook(Box::new(|panic| failure(format_args!("{panic}"))));
}

/// Whether systemd's journal reads our stderr: it stamps each line itself. The variable alone is no
/// proof, as it is still set when somebody has redirected stderr; see systemd.exec(5).
fn is_journal() -> bool {
    let Ok(stat) = fstat(io::stderr()) else {
        return false;
    };
    env::var("JOURNAL_STREAM") == Ok(format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// An event.
pub(crate) fn log(event: fmt::Arguments<'_>) {
    if LEVEL.load(Ordering::Relaxed) >= Level::Events as u8 {
        failure(event);
    }
}

/// Something about one session.
pub(crate) fn session(event: fmt::Arguments<'_>) {
    if is_about_sessions() {
        failure(event);
    }
}

/// Whether it is worth finding out more about a session.
pub(crate) fn is_about_sessions() -> bool {
    LEVEL.load(Ordering::Relaxed) >= Level::Sessions as u8
}

/// For `map_err`: says which step has failed, for the system's error does not.
pub(crate) fn cannot<E: Into<io::Error>>(step: &str) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("cannot {step}: {error}"))
    }
}

/// Why the server, or this worker, ends; and what was asked for.
pub(crate) fn failure(event: fmt::Arguments<'_>) {
    report_lost();
    if !write_line(event) {
        count_lost(1);
    }
}

/// Whether lines were lost, and [`report_lost`] has something to report.
pub(crate) fn has_lost() -> bool {
    LOST.load(Ordering::Relaxed) > 0
}

/// Logs how many lines were lost, if there is room for that.
pub(crate) fn report_lost() {
    // Taken, so that two threads do not report the same lines.
    let lost = if has_lost() {
        LOST.swap(0, Ordering::Relaxed)
    } else {
        0
    };
    if lost == 0 {
        return;
    }
    let lines = if lost == 1 { "line was" } else { "lines were" };
    if !write_line(format_args!("{lost} {lines} lost: stderr had no room")) {
        count_lost(lost);
    }
}

/// In a new process: what the other one has lost is its own to report.
pub(crate) fn forget_lost() {
    // Without need, it would be written to, and the page copied.
    if has_lost() {
        LOST.store(0, Ordering::Relaxed);
    }
}

fn count_lost(lines: u64) {
    LOST.fetch_add(lines, Ordering::Relaxed);
}

/// The exit code of a worker that has done its work: 0, or, if it could not report the lines that it
/// has lost, 128 and their number, up to 127. Its supervisor reports them then.
pub(crate) fn exit_code() -> u8 {
    report_lost();
    match LOST.load(Ordering::Relaxed) {
        0 => 0,
        lost => NOT_REPORTED | lost.min(127) as u8,
    }
}

/// In the supervisor: whether a worker has ended with such an exit code. The lines that it has lost
/// are ours to report.
pub(crate) fn count_lost_by_worker(status: ExitStatus) -> bool {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    if let Some(code) = code.filter(|code| *code > NOT_REPORTED) {
        count_lost(u64::from(code & !NOT_REPORTED));
    }
    code.is_some_and(|code| code == 0 || code > NOT_REPORTED)
}

const NOT_REPORTED: u8 = 128;

/// Returns whether the whole line has been written. In one write, or the lines of two workers would
/// be mixed.
fn write_line(event: fmt::Arguments<'_>) -> bool {
    let Some(log) = LOG.get() else {
        return false;
    };
    let was_cut = IS_CUT.load(Ordering::Relaxed);
    let line = line(event, log.is_stamped, was_cut);
    match log.stderr.write(line.as_bytes()) {
        Ok(length) => {
            // If a terminal or a socket has taken a part of it, the next line ends this one first.
            let is_cut = length > 0 && line.as_bytes()[length - 1] != b'\n';
            if is_cut != was_cut {
                IS_CUT.store(is_cut, Ordering::Relaxed);
            }
            length == line.len()
        }
        Err(_) => false,
    }
}

fn line(event: fmt::Arguments<'_>, is_stamped: bool, is_after_a_part: bool) -> String {
    let end_of_the_part = if is_after_a_part { "\n" } else { "" };
    let stamp = if is_stamped {
        format!("{} ", humantime::format_rfc3339_millis(SystemTime::now()))
    } else {
        String::new()
    };
    // What has come from outside, such as a path, may contain anything.
    let event = event.to_string().replace('\n', " ");
    let mut line = format!("{end_of_the_part}{stamp}echo-server: {event}");
    truncate(&mut line, ATOMIC - 1);
    line.push('\n');
    line
}

/// Ends a text that is too long with an ellipsis.
fn truncate(text: &mut String, length: usize) {
    const ELLIPSIS: &str = "…";
    if text.len() > length {
        let mut end = length - ELLIPSIS.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.replace_range(end.., ELLIPSIS);
    }
}
