//! The small programs in `examples/`, from outside; nobody presses Enter, stdin just ends.

#![forbid(unsafe_code)]

#[path = "../../zombie/tests/processes/mod.rs"]
mod processes;

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use processes::{Program, assert_sleeps, closed_pipe, number};

/// Cargo builds examples along with the tests, but has no variable for their place.
fn example(name: &str, args: &[&str]) -> Command {
    let tests = env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    let example = tests.with_file_name(format!("../examples/{name}"));
    assert!(
        example.exists(),
        "first: cargo build -p exec-cmd --examples"
    );
    let mut command = Command::new(example);
    command.args(args);
    command
}

#[track_caller]
fn lines(name: &str, args: &[&str]) -> Vec<String> {
    let output = Program::start(&mut example(name, args)).output();
    assert_eq!(
        (output.code, &output.stderr[..]),
        (0, &[][..]),
        "{output:?}"
    );
    output.stdout
}

#[test]
fn a_command_is_started_twice() {
    let children = |args: &[&str]| {
        let lines = lines("reuse", args);
        lines
            .iter()
            .filter(|line| line.starts_with("Child: "))
            .count()
    };
    assert_eq!(children(&[]), 2);
    assert_eq!(children(&["--once"]), 1);
}

#[test]
fn statuses_are_there_after_the_end_and_stay() {
    assert_eq!(
        lines("status", &[]),
        [
            "Before exit 7: None",
            "Before kill -9 $$: None",
            "Before exit 300: None",
            "Press Enter to go on.",
            "After exit 7: exit status: 7",
            "After kill -9 $$: signal: 9 (SIGKILL)",
            "After exit 300: exit status: 44",
            "Once more, after exit 7: exit status: 7",
            "Once more, after kill -9 $$: signal: 9 (SIGKILL)",
            "Once more, after exit 300: exit status: 44",
        ]
    );
}

/// For temporary files, itself one that is gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("exec-cmd-test-{}-{number}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap_or_else(|error| panic!("{error}"));
        Self(folder)
    }

    fn entries(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).unwrap_or_else(|error| panic!("{error}"));
        entries.flatten().map(|entry| entry.path()).collect()
    }

    /// A shell that does this, with the example as `$0`, and with the number that the example has if
    /// the shell becomes it.
    fn path_and_args(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        let example = example("path-and-args", &[]);
        command.args(["-c", script]).arg(example.get_program());
        command.env("TMPDIR", &self.0);
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn path_and_args_leaves_no_files() {
    for args in ["", "--same"] {
        let folder = Folder::new();
        let mut command = folder.path_and_args(&format!("exec \"$0\" {args}"));
        let output = Program::start(&mut command).output();
        assert_eq!(output.code, 0, "{output:?}");
        assert!(
            folder.entries().is_empty(),
            "left are {:?}",
            folder.entries()
        );
    }
}

/// As everybody may who can guess a number.
#[test]
fn path_and_args_runs_no_program_that_was_there_before() {
    let folder = Folder::new();
    let script = r#"there="$TMPDIR/path-and-args-$$/one"
                    mkdir -p "$there" && printf '#!/bin/sh\n>"$TMPDIR/run"\n' >"$there/program" &&
                    chmod +x "$there/program" && exec "$0""#;
    let output = Program::start(&mut folder.path_and_args(script)).output();
    output.assert_failed(1, "path-and-args: cannot make ");
    output.assert_failed(
        1,
        ": File exists (os error 17); TMPDIR takes another place for it",
    );
    let entries = folder.entries();
    assert_eq!(entries.len(), 1, "it was run: {entries:?}");
    assert!(entries[0].join("one/program").exists(), "it was removed");
}

#[test]
fn nobody_else_can_reach_the_programs_of_path_and_args() {
    let folder = Folder::new();
    let (stdin, enter) = io::pipe().unwrap_or_else(|error| panic!("{error}"));
    let mut command = folder.path_and_args(r#"umask 0; exec "$0""#);
    let started = Program::try_start_from(stdin, command.stdout(Stdio::piped()));
    let mut program = started.unwrap_or_else(|error| panic!("{error}"));
    program.stdout.next_with("Press Enter");
    let metadata = fs::metadata(&folder.entries()[0]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    drop(enter);
    assert_eq!(program.exit_code(), 0);
}

#[test]
fn the_output_has_no_end_while_a_grandchild_has_the_pipe() {
    let mut program = Program::start(&mut example("grandchild-holds-pipe", &[]));
    let grandchild = number(&program.stdout.next(), "Grandchild: ");
    program.stdout.next_with("has ended: exit status: 0");
    program.stdout.next_with("Reading to the end");
    assert_sleeps(program.pid());
    assert_sleeps(grandchild);
    kill(grandchild, Signal::SIGTERM).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(program.stdout.rest(), ["The output has ended."]);
    assert_eq!(program.exit_code(), 0);
}

#[test]
fn the_output_has_an_end_where_no_grandchild_has_the_pipe() {
    let mut program = Program::start(&mut example("grandchild-holds-pipe", &["--closed"]));
    program.stdout.next_with("The output has ended.");
    assert_eq!(program.exit_code(), 0);
}

#[test]
fn nobody_reads_the_output() {
    for name in [
        "reuse",
        "status",
        "inherited",
        "path-and-args",
        "grandchild-holds-pipe",
    ] {
        let mut program = Program::start_to(closed_pipe(), &mut example(name, &[]));
        let said = program.stderr.next();
        assert_eq!(program.exit_code(), 1);
        let expected = format!("{name}: cannot write to stdout: Broken pipe");
        assert!(said.starts_with(&expected), "{said:?}");
    }
}
