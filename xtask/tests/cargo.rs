//! What cargo has to do with it: which settings are obeyed, and what is compiled.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers fail a test by panicking

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use support::{Run, XTASK, assert_has, assert_one_sentence, programs, put_script, text, word};
use test_support::TempDir;

const CARGO: &str = env!("CARGO");
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(WORKSPACE).join(file)).unwrap()
}

/// A folder with a `cargo` that builds nothing: it notes how it is called, and names the programs that
/// are built already. Everything else is left to the real one.
fn cargo_that_builds_nothing() -> TempDir {
    let folder = TempDir::new().unwrap();
    let mut messages = String::new();
    for programs in [programs().to_owned(), programs().join("examples")] {
        for entry in fs::read_dir(programs).unwrap().flatten() {
            let (name, executable) = (entry.file_name().into_string().unwrap(), entry.path());
            let target = serde_json::json!({ "name": name });
            let message = serde_json::json!({ "target": target, "executable": executable });
            messages += &format!("{message}\n");
        }
    }
    fs::write(folder.path().join("messages"), messages).unwrap();
    let script = format!(
        r#"case "$1" in build) ;; *) exec '{CARGO}' "$@" ;; esac
        echo "   Compiling everything" >&2
        echo "in $PWD: $*" >'{0}/called'; exec cat '{0}/messages'"#,
        word(folder.path())
    );
    put_script(&folder.path().join("cargo"), &script);
    folder
}

#[test]
fn programs_are_built_as_xtask_was_built() {
    let cargo = cargo_that_builds_nothing();
    for (setting, value) in [
        ("CARGO_TARGET_DIR", "out"),
        ("CARGO_BUILD_TARGET_DIR", "out"),
        ("none", ""), // but in a file
    ] {
        let folder = TempDir::new().unwrap();
        let work = fs::canonicalize(folder.path()).unwrap();
        if value.is_empty() {
            fs::create_dir(work.join(".cargo")).unwrap();
            let config = "[build]\ntarget-dir = \"out\"\n";
            fs::write(work.join(".cargo/config.toml"), config).unwrap();
        }
        let place = work.join("out/some-target/release");
        fs::create_dir_all(&place).unwrap();
        // Not by this process: a child of another test could still have the copy open for writing, and
        // what is open for writing cannot be executed.
        let copied = Command::new("cp").arg(XTASK).arg(&place).status();
        assert!(copied.unwrap().success());
        let output = Command::new(place.join("xtask"))
            .args(["demo", "fork"])
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("CARGO_BUILD_TARGET_DIR")
            .env(setting, value)
            .env("CARGO", cargo.path().join("cargo"))
            .current_dir(&work)
            .output()
            .unwrap();
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let building = stderr.find("cargo builds the programs\n").unwrap();
        assert!(building < stderr.find("   Compiling everything\n").unwrap());
        let out = work.join("out").display().to_string();
        let called = fs::read_to_string(cargo.path().join("called")).unwrap();
        let where_called = format!("in {}: build ", work.display());
        let to = format!(" --target some-target --profile release --target-dir {out}\n");
        assert!(called.starts_with(&where_called) && called.ends_with(&to), "{called}");
        assert_has(&text(&output.stdout), &[&format!("The report is {out}/demo-part/")]);
    }
}

#[test]
fn a_path_that_is_not_utf_8_works_or_is_why_not() {
    let run = Run::new();
    let odd = |name: &[u8]| run.path(OsStr::from_bytes(name));
    let folder = odd(b"programs-\xff");
    symlink(programs(), &folder).unwrap();
    let report = odd(b"report-\xff");
    let mut command = run.command(XTASK);
    command.args(["demo", "fork", "--programs"]).arg(&folder);
    let output = command.arg("--report").arg(&report).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(report.join("index.html").exists());

    // Neither cargo nor rustc can build there.
    let mut command = run.xtask(&["demo", "fork"]);
    let output = command.env("CARGO_TARGET_DIR", odd(b"target-\xff")).output();
    let parts = ["cargo metadata failed", "invalid UTF-8"];
    assert_one_sentence(&output.unwrap(), 77, &parts);
}

/// Cargo chooses the features of a dependency anew for the packages that a command names. A dependency
/// with other features is compiled once more, and so is whatever uses it.
#[test]
fn the_commands_of_the_readme_compile_no_dependency_twice() {
    let mut commands = vec![
        // `cargo test --workspace`, `cargo xtask`, and what `cargo xtask demo` builds
        (vec!["--workspace"], true),
        (vec!["--package", "xtask"], false),
        (vec!["--workspace", "--exclude", "xtask", "--exclude", "xtask-bench"], true),
    ];
    let readme = read("README.md");
    let runs = readme.split("`cargo run -p ").skip(1);
    for run in runs.filter_map(|run| run.split('`').next()) {
        let package = run.split(' ').next().unwrap();
        if package != "CRATE" {
            // For an example, cargo builds what tests use, too.
            commands.push((vec!["--package", package], run.contains("--example")));
        }
    }
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `"));
    for package in rows.filter_map(|row| row.split('`').next()) {
        if Path::new(WORKSPACE).join(package).join("examples").is_dir() {
            commands.push((vec!["--package", package], true));
        }
    }
    assert!(commands.len() > 14, "{commands:?}");
    // What `cargo xtask exercise` builds. Cargo would shorten its copy of the lock file: not --locked.
    let answers = Run::new();
    let folder = answers.path("answers");
    let mut exercise = answers.xtask(&["exercise", "never-waits", "--answers"]);
    assert!(exercise.arg(&folder).output().unwrap().status.success());
    let manifest = folder.join("Cargo.toml");
    commands.push((vec!["--manifest-path", manifest.to_str().unwrap()], false));

    let mut features = BTreeMap::<String, BTreeSet<String>>::new();
    for (packages, for_examples) in &commands {
        let edges = if *for_examples { "all" } else { "normal,build" };
        let mut command = Command::new(CARGO);
        command.args(["tree", "--offline", "--prefix=none", "--no-dedupe", "--format={p}: {f}"]);
        let output = command
            .args(["--edges", edges])
            .args(packages)
            .current_dir(WORKSPACE)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        for line in text(&output.stdout).lines() {
            if let Some((package, of_package)) = line.split_once(": ") {
                let of_package = format!("{:?}", of_package.trim());
                features.entry(package.to_owned()).or_default().insert(of_package);
            }
        }
    }
    features.retain(|_, sets| sets.len() > 1);
    assert!(features.is_empty(), "compiled once with each of these features: {features:#?}");
}

#[test]
fn the_first_build_is_not_silent() {
    let alias = read(".cargo/config.toml");
    assert_has(&alias, &["xtask = \"run --package xtask --\""]);
}
