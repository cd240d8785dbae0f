//! `cargo xtask bench`: times, measured beside those of rivals in the same run.

mod plot;
mod spawn;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use serde::Serialize;

use crate::demo::{EXIT_MISSING, EXIT_OUTPUT};
use crate::options::Bench;
use crate::programs;

/// Why there is no result.
pub(crate) enum Failure {
    /// Something is missing that it takes.
    Missing(String),
    /// What came out cannot be written.
    Output(String),
}

impl Failure {
    fn writing(to: impl std::fmt::Display, error: &io::Error) -> Self {
        Failure::Output(format!("cannot write to {to}: {error}"))
    }
}

/// Measures what was asked for. Returns the exit code.
pub(crate) fn run(options: &Bench) -> ExitCode {
    let Bench::Spawn(options) = options;
    let (code, sentence) = match spawn::run(options) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Missing(what)) => (EXIT_MISSING, what),
        Err(Failure::Output(what)) => (EXIT_OUTPUT, what),
    };
    let _ = writeln!(io::stderr(), "xtask: {sentence}");
    ExitCode::from(code)
}

/// A rival that is not here, and how to get it.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "missing")]
struct Missing {
    what: &'static str,
    why: String,
    how_to_get_it: &'static str,
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
}

/// A line of /proc/meminfo; 0 if it is not there.
fn meminfo_mib(name: &str) -> usize {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.unwrap_or(0) / 1024
}

/// Where what is built and drawn here goes.
fn folder() -> PathBuf {
    programs::target_folder().join("bench")
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
