//! Logs events on stderr, one a line. A line that nobody reads must not stop the server: it is lost and
//! counted, and the number is logged when there is room again.

pub(crate) mod nonblocking;

use std::env;
use std::fmt;
use std::io;
use std::panic;
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::stat::fstat;

use crate::exit;
use crate::log::nonblocking::{ATOMIC, Stream};

/// How much is logged.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub(crate) enum Level {
    /// Why the server ends, and nothing else.
    Quiet,
    /// Also what an operator should know.
    Events,
    /// Also each session.
    Sessions,
}

impl Level {
    /// Reverses `as u8`.
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

/// How many lines this process has lost and not yet reported.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Whether our last write ended within a line.
static IS_CUT: AtomicBool = AtomicBool::new(false);

/// Makes sure that no line blocks. Must be called before there are threads, and before the sandbox, in
/// which nothing can be opened. Forked workers inherit the result.
pub(crate) fn open() {
    LOG.get_or_init(|| Log { stderr: Stream::stderr(), is_stamped: !is_journal() });
    log_panics();
}

/// The default hook writes to stderr in its own way, and waits if that is full.
fn log_panics() {
    panic::set_hook(Box::new(|panic| log_always(format_args!("{panic}"))));
}

/// Whether systemd's journal reads our stderr: it stamps each line itself. The variable alone does not
/// prove that, because it is still set after stderr was redirected; see systemd.exec(5).
fn is_journal() -> bool {
    let Ok(stat) = fstat(io::stderr()) else {
        return false;
    };
    env::var("JOURNAL_STREAM") == Ok(format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Logs an event.
pub(crate) fn log(event: fmt::Arguments<'_>) {
    if LEVEL.load(Ordering::Relaxed) >= Level::Events as u8 {
        log_always(event);
    }
}

/// Logs something about one session.
pub(crate) fn log_session(event: fmt::Arguments<'_>) {
    if is_about_sessions() {
        log_always(event);
    }
}

/// Whether sessions are logged, so that it is worth finding out more about them.
pub(crate) fn is_about_sessions() -> bool {
    LEVEL.load(Ordering::Relaxed) >= Level::Sessions as u8
}

/// For `map_err`: names the step that has failed, which the system's error does not.
pub(crate) fn cannot<E: Into<io::Error>>(step: &str) -> impl FnOnce(E) -> io::Error {
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("cannot {step}: {error}"))
    }
}

/// Logs in every level: why the server or this worker ends, and what the user has asked for.
pub(crate) fn log_always(event: fmt::Arguments<'_>) {
    report_lost();
    if !write_line(event) {
        count_lost(1);
    }
}

/// Whether lines were lost, and [`report_lost`] has something to report.
fn has_lost() -> bool {
    LOST.load(Ordering::Relaxed) > 0
}

/// When to try again to log how many lines were lost; `None` if none was.
pub(crate) fn next_report() -> Option<Instant> {
    has_lost().then(|| Instant::now() + Duration::from_secs(1))
}

/// Logs how many lines were lost, if there is room for that.
pub(crate) fn report_lost() {
    // Taken, so that two threads do not report the same lines.
    let lost = if has_lost() { LOST.swap(0, Ordering::Relaxed) } else { 0 };
    if lost == 0 {
        return;
    }
    let lines = if lost == 1 { "line was" } else { "lines were" };
    if !write_line(format_args!("{lost} {lines} lost: stderr had no room")) {
        count_lost(lost);
    }
}

/// Forgets, in a forked process, the lines that its parent has lost: the parent reports them.
pub(crate) fn forget_lost() {
    // Written only if necessary: a write would make the kernel copy the page.
    if has_lost() {
        LOST.store(0, Ordering::Relaxed);
    }
}

fn count_lost(lines: u64) {
    LOST.fetch_add(lines, Ordering::Relaxed);
}

/// The exit code of a worker that has done its work: 0, or [`exit::LOST_LINES`] and the number of lines
/// that it has lost and could not report. The supervisor then reports them.
pub(crate) fn exit_code() -> u8 {
    report_lost();
    match LOST.load(Ordering::Relaxed) {
        0 => 0,
        lost => exit::LOST_LINES | lost.min(127) as u8,
    }
}

/// Counts, in the supervisor, the lines that a worker has lost by its [`exit_code`], so that we report
/// them. Returns whether the worker has done its work.
pub(crate) fn count_lost_by_worker(status: ExitStatus) -> bool {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    if let Some(code) = code.filter(|code| *code > exit::LOST_LINES) {
        count_lost(u64::from(code & !exit::LOST_LINES));
    }
    code.is_some_and(|code| code == 0 || code > exit::LOST_LINES)
}

/// Writes a line. Returns whether all of it has been written. It is one write, or the lines of two
/// workers would be mixed.
fn write_line(event: fmt::Arguments<'_>) -> bool {
    let Some(log) = LOG.get() else {
        return false;
    };
    let was_cut = IS_CUT.load(Ordering::Relaxed);
    let line = line(event, log.is_stamped, was_cut);
    match log.stderr.write(line.as_bytes()) {
        Ok(length) => {
            // If a terminal or a socket has taken only a part, the next line ends this one first.
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
    // A text from outside, such as a path, may contain line breaks.
    let event = event.to_string().replace('\n', " ");
    let mut line = format!("{end_of_the_part}{stamp}echo-server: {event}");
    truncate(&mut line, ATOMIC - 1);
    line.push('\n');
    line
}

/// Cuts a text that is too long, and ends it with an ellipsis.
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
