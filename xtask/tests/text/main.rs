//! That the texts are true: what they show comes from a run on this machine, their code from the files,
//! their commands run, their links lead somewhere, and both languages say the same.
//!
//! `UPDATE_TEXT=1 cargo test -p xtask --test text` writes the blocks anew that differ.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod blocks;
mod commands;
mod faults;
mod languages;
mod links;
mod page;
mod recording;
mod same;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::env;
use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use page::{Page, pages};
use recording::Recording;

/// How one mends a block.
const MEND: &str = "UPDATE_TEXT=1 cargo test -p xtask --test text";
/// How often a scenario that differs is run again: now and then, one of them prints a line more.
const AGAIN: usize = 3;

/// What is wrong, and where.
struct Fault {
    file: String,
    line: usize,
    says: String,
    /// For a block: the scenario that it shows, or nothing if it shows none.
    block: Option<String>,
}

impl Fault {
    /// `line` counts from 0.
    fn new(page: &Page, line: usize, says: impl Into<String>) -> Self {
        Self { file: page.name.clone(), line: line + 1, says: says.into(), block: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.says)?;
        match self.block {
            Some(_) => write!(f, "; to write it anew: {MEND}"),
            None => Ok(()),
        }
    }
}

/// All scenarios, recorded once for all tests.
fn recording() -> &'static Recording {
    static RECORDING: OnceLock<Recording> = OnceLock::new();
    RECORDING.get_or_init(|| Recording::of(&["all"]))
}

/// Everything that needs no run of a command.
fn check(root: &Path, recordings: &[&Recording]) -> Vec<Fault> {
    let pages = pages(root);
    let mut faults = blocks::check(root, &pages, recordings);
    faults.extend(languages::check(&pages));
    faults.extend(links::check(root, &pages));
    faults.extend(commands::check(root, &pages));
    faults
}

#[test]
fn the_texts_are_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    if env::var_os("UPDATE_TEXT").is_some() {
        let mut written = blocks::update(root, recording(), |_| true);
        // Until the next run shows the same: now and then, a run is not as most are.
        for _ in 0..AGAIN {
            let again = Recording::of(&names(&written));
            written = blocks::update(root, &again, |scenario| written.contains(scenario));
        }
    }
    for (scenario, why) in blocks::not_compared(&pages(root), recording()) {
        support::skip(&format!("blocks of {scenario} are not compared as a whole: {why}"));
    }
    let mut faults = check(root, &[recording()]);
    let mut again: Vec<Recording> = Vec::new();
    while again.len() < AGAIN && faults.iter().any(|fault| fault.block.is_some()) {
        let differing = faults.iter().filter_map(|fault| fault.block.clone()).collect();
        again.push(Recording::of(&names(&differing)));
        let recordings: Vec<_> = [recording()].into_iter().chain(&again).collect();
        faults = check(root, &recordings);
    }
    faults.extend(commands::run(root, &pages(root)));
    let sentences: Vec<String> = faults.iter().map(Fault::to_string).collect();
    assert!(sentences.is_empty(), "the texts are not true:\n{}\n", sentences.join("\n"));
}

/// The names of the scenarios among these that exist.
fn names(scenarios: &BTreeSet<String>) -> Vec<&str> {
    scenarios.iter().map(String::as_str).filter(|name| recording().run(name).is_some()).collect()
}
