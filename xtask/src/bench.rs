//! `cargo xtask bench`: times, measured beside those of rivals in the same run.
//!
//! It takes three processes. The first takes signals. The last measures, and starts everything that
//! is measured. The one between is there to clear up after it, also if the first is killed.

mod bars;
mod echo;
mod load;
mod plot;
mod servers;
mod spawn;

use std::env;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use clap::builder::PossibleValuesParser;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use serde::Serialize;

use crate::options::{Bench, Options, Task};
use crate::outcome::{self, EXIT_INTERRUPTED, EXIT_MISSING, EXIT_NOT_HELD, EXIT_OUTPUT};
use crate::programs::{self, cargo_build};
use crate::{interrupt, procfs, stage};

/// The names of the entries.
pub(crate) const GUARD: &str = "xtask-guard";
pub(crate) const MEASURE: &str = "xtask-measure";

/// Why there is no result, or not a good one.
pub(crate) enum Failure {
    /// Something is missing that it takes.
    Missing(String),
    /// What came out cannot be written.
    Output(String),
    /// What was measured does not work.
    Failed(String),
}

impl Failure {
    fn writing(to: impl fmt::Display, error: &io::Error) -> Self {
        Failure::Output(format!("cannot write to {to}: {error}"))
    }
}

/// Has it measured by others, and takes the signals. Returns the exit code.
pub(crate) fn run() -> ExitCode {
    if let Err(why) = procfs::check() {
        say(&format!("xtask: {why}; what helps: {}", procfs::REMEDY));
        return ExitCode::from(EXIT_MISSING);
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    let status = guarded(&interrupted);
    let left = outcome::clear_up(); // if the guard was killed, what it had started is ours now
    let (code, sentence) = match status {
        Err(error) => (EXIT_MISSING, format!("cannot measure: {error}")),
        Ok(_) if interrupted.load(Ordering::SeqCst) => (
            EXIT_INTERRUPTED,
            format!("interrupted; {left} processes left"),
        ),
        Ok(status) => match status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(0) if left > 0 => return ExitCode::from(EXIT_NOT_HELD),
            Some(code) => return ExitCode::from(code), // which has been explained there
            None => (EXIT_MISSING, format!("{GUARD} has ended: {status}")),
        },
    };
    say(&format!("xtask: {sentence}"));
    ExitCode::from(code)
}

fn guarded(interrupted: &Arc<AtomicBool>) -> io::Result<std::process::ExitStatus> {
    prctl::set_child_subreaper(true)?;
    let guard = reexec::command(GUARD)
        .args(env::args_os().skip(1))
        .stdin(reexec::Stdio::piped())
        // Out of the terminal's foreground group: Ctrl-C is for us, who then close its stdin.
        .process_group(0)
        .outlive_parent()
        .spawn()
        .map_err(io::Error::other)?; // the whole sentence, not only the error number
    let orders = Mutex::new(guard.take_stdin());
    let interrupted = Arc::clone(interrupted);
    interrupt::take_signals(move || {
        interrupted.store(true, Ordering::SeqCst);
        let _ = orders.lock().unwrap_or_else(PoisonError::into_inner).take();
    })?;
    guard.wait()
}

/// The entry of the guard: lets the other measure until the end of stdin, which comes with the end
/// of xtask, too, and leaves no process.
pub(crate) fn guard() -> ExitCode {
    let result = watch();
    let _ = stage::kill_and_reap_all(); // what is left comes to xtask, which tells of it
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!("xtask: cannot measure: {error}"));
            ExitCode::from(EXIT_MISSING)
        }
    }
}

fn watch() -> io::Result<u8> {
    prctl::set_child_subreaper(true)?;
    let child = reexec::command(MEASURE)
        .args(env::args_os().skip(1))
        .stdin(reexec::Stdio::null())
        .spawn()
        .map_err(io::Error::other)?;
    let stdin = io::stdin();
    loop {
        let mut fds = [
            PollFd::new(child.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[1].any() == Some(true) {
            return Ok(EXIT_INTERRUPTED); // the child is killed when its handle is dropped
        }
        if let Some(status) = child.try_wait()? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return code.ok_or_else(|| io::Error::other(format!("{MEASURE} has ended: {status}")));
        }
    }
}

/// The entry of the process that measures what was asked for.
pub(crate) fn measure() -> ExitCode {
    let result = match Options::parse().task {
        Task::Bench(Bench::Spawn(options)) => spawn::run(&options),
        Task::Bench(Bench::Echo(options)) => become_subreaper().and_then(|()| echo::run(&options)),
        _ => Ok(()),
    };
    let (code, sentence) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Missing(what)) => (EXIT_MISSING, what),
        Err(Failure::Output(what)) => (EXIT_OUTPUT, what),
        Err(Failure::Failed(what)) => (EXIT_NOT_HELD, what),
    };
    say(&format!("xtask: {sentence}"));
    ExitCode::from(code)
}

/// What a server leaves behind comes to us, and is ended with it.
fn become_subreaper() -> Result<(), Failure> {
    prctl::set_child_subreaper(true)
        .map_err(|error| Failure::Missing(format!("cannot become a subreaper: {error}")))
}

/// How far it is; nobody waits for it.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// A rival that is not here, and how to get it.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "missing")]
struct Missing {
    what: &'static str,
    why: String,
    how_to_get_it: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missing {
            what,
            why,
            how_to_get_it,
        } = self;
        write!(f, "missing: {what}: {why}\n  to get it: {how_to_get_it}")
    }
}

/// What the figures were measured on.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "machine")]
struct Machine {
    processor: String,
    processors: usize,
    memory_mib: usize,
    kernel: String,
}

impl Machine {
    fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            processor: model.map_or("unknown".to_owned(), |(_, model)| model.to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: meminfo_mib("MemTotal:"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }

    /// The first line of a table.
    fn line(&self) -> String {
        let Machine {
            processor,
            processors,
            memory_mib,
            kernel,
        } = self;
        format!("{processor}, {processors} processors, {memory_mib} MiB, Linux {kernel}\n")
    }
}

/// A line of /proc/meminfo; 0 if it is not there.
fn meminfo_mib(name: &str) -> usize {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.unwrap_or(0) / 1024
}

/// For the command line.
pub(crate) fn server_names() -> PossibleValuesParser {
    servers::ROWS
        .iter()
        .map(|row| row.key)
        .collect::<Vec<_>>()
        .into()
}

/// Where what is built and drawn here goes.
fn folder() -> PathBuf {
    programs::target_folder().join("bench")
}

/// How one of our programs is linked.
#[derive(Clone, Copy, PartialEq)]
enum Linking {
    Dynamic,
    Static,
}

/// Has cargo build one of our programs: `what` says which, up to its name.
fn built(folder: &Path, what: &[&str], name: &str, linking: Linking) -> Result<PathBuf, String> {
    // In a folder of its own, and for an explicit target: the flag is not for build scripts.
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let target_dir = folder.join("static").to_string_lossy().into_owned();
    let (more, flags) = match linking {
        Linking::Dynamic => (vec![], None),
        Linking::Static => (
            vec!["--target", &target, "--target-dir", &target_dir],
            Some("-C target-feature=+crt-static"),
        ),
    };
    let built = cargo_build([what, &[name], &more].concat(), flags)?;
    built
        .get(name)
        .cloned()
        .ok_or_else(|| format!("cargo has not built {name}"))
}

/// Runs a compiler; an error is a sentence.
fn compile(compiler: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(compiler)
        .args(args)
        .stdin(Stdio::null())
        .output();
    let output = output.map_err(|error| format!("{compiler} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{compiler} failed: {}",
        said.lines().next().unwrap_or_default()
    ))
}

/// The value in the middle.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert!(median(&[]).is_nan());
    }
}
