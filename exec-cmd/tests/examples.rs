//! Runs the programs in `examples/`. Nobody presses Enter: their stdin is at its end.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use test_support::{Program, TempDir, assert_sleeps, closed_pipe, example, number, suggestion};

#[track_caller]
fn lines(name: &str, args: &[&str]) -> Vec<String> {
    let output = Program::start(&mut example(name, args)).output();
    assert_eq!(output.code, 0, "{output:?}");
    output.stdout
}

#[test]
fn a_command_is_started_twice() {
    let children = |args: &[&str]| {
        let lines = lines("reuse", args);
        lines.iter().filter(|line| line.starts_with("Child: ")).count()
    };
    assert_eq!(children(&[]), 2);
    assert_eq!(children(&["--once"]), 1);
}

#[test]
fn status_suggests_to_look_at_its_children_before_their_end() {
    let (stdin, enter) = io::pipe().unwrap();
    let mut command = example("status", &[]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = Program::try_start_from(stdin, &mut command).unwrap();
    let suggested = program.stderr.next();
    let children = program.children();
    assert_eq!(children.len(), 3);
    assert!(suggested.starts_with(&suggestion(&[])), "{suggested}");
    assert!(children.iter().all(|it| suggested.contains(&it.to_string())), "{suggested}");
    drop(enter);
    assert_eq!(program.exit_code(), 0);
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

fn entries(folder: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path()).unwrap();
    entries.flatten().map(|entry| entry.path()).collect()
}

#[test]
fn path_and_args_leaves_no_files() {
    for args in [&[][..], &["--same"]] {
        let folder = TempDir::new().unwrap();
        let mut command = example("path-and-args", args);
        let output = Program::start(command.env("TMPDIR", folder.path())).output();
        assert_eq!(output.code, 0, "{output:?}");
        assert!(entries(&folder).is_empty(), "left are {:?}", entries(&folder));
    }
}

#[test]
fn path_and_args_says_why_it_has_no_folder() {
    let mut command = example("path-and-args", &[]);
    let output = Program::start(command.env("TMPDIR", "/nonexistent")).output();
    output.assert_failed(1, "path-and-args: cannot make a temporary folder: ");
    output.assert_failed(1, "; TMPDIR takes another place for it");
}

#[test]
fn nobody_else_can_reach_the_programs_of_path_and_args() {
    let folder = TempDir::new().unwrap();
    let (stdin, enter) = io::pipe().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", r#"umask 0; exec "$0""#]);
    command.arg(example("path-and-args", &[]).get_program());
    command.env("TMPDIR", folder.path());
    let started = Program::try_start_from(stdin, command.stdout(Stdio::piped()));
    let mut program = started.unwrap();
    program.stdout.next_with("Press Enter");
    let metadata = fs::metadata(&entries(&folder)[0]).unwrap();
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
    kill(grandchild, Signal::SIGTERM).unwrap();
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
    for name in ["reuse", "status", "inherited", "path-and-args", "grandchild-holds-pipe"] {
        let mut program = Program::start_to(closed_pipe(), &mut example(name, &[]));
        let said = program.stderr.next();
        assert_eq!(program.exit_code(), 1);
        let expected = format!("{name}: cannot write to stdout: Broken pipe");
        assert!(said.starts_with(&expected), "{said:?}");
    }
}
