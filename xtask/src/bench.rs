//! `cargo xtask bench`: times, measured beside those of rivals in the same run.

mod bars;
mod echo;
mod load;
mod plot;
mod servers;
mod spawn;

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::builder::PossibleValuesParser;
use serde::Serialize;

use crate::cmd::bench::Bench;
use crate::guarded::become_subreaper;
use crate::model::failure::Failure;
use crate::runner::programs::{self, cargo_build};

/// Measures what was asked for.
pub(crate) fn run(options: &Bench) -> Result<(), Failure> {
    match options {
        Bench::Spawn(options) => spawn::run(options),
        Bench::Echo(options) => {
            become_subreaper()?;
            echo::run(options)
        }
    }
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
pub(crate) enum Linking {
    Dynamic,
    Static,
}

/// Has cargo build one of our programs: `what` says which, up to its name.
pub(crate) fn built(
    folder: &Path,
    what: &[&str],
    name: &str,
    linking: Linking,
) -> Result<PathBuf, String> {
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
