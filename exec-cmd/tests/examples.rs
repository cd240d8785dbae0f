//! The small programs in `examples/`, from outside; nobody presses Enter, stdin just ends.

#![forbid(unsafe_code)]

#[path = "../../zombie/tests/processes/mod.rs"]
mod processes;

use std::env;
use std::process::Command;

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

#[test]
fn path_and_args_leaves_no_files() {
    let folder = env::temp_dir().join(format!("exec-cmd-test-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap_or_else(|error| panic!("{error}"));
    let mut command = example("path-and-args", &[]);
    let output = Program::start(command.env("TMPDIR", &folder)).output();
    // Fails if there is anything in it.
    std::fs::remove_dir(&folder).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(output.code, 0, "{output:?}");
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
