//! Runs `exec-cmd`, and reads what it prints.

#![forbid(unsafe_code)]

use std::process::{Command, Stdio};

use test_support::{Output, Program, closed_pipe, full_device};

fn exec_cmd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exec-cmd"));
    command.args(args).env("LC_ALL", "C"); // so that ls speaks English
    command
}

/// Runs it, and leaves out the lines that only say what comes.
fn output(args: &[&str]) -> Output {
    without_labels(Program::start(&mut exec_cmd(args)).output())
}

fn without_labels(mut output: Output) -> Output {
    output.stderr.retain(|line| !line.contains(" of 3, "));
    output
}

/// A command with output on both streams and an exit code.
const BOTH: [&str; 4] = ["--", "sh", "-c", "echo a; echo b >&2; exit 3"];

/// A command that writes more than a pipe holds on both streams, one after the other.
const MUCH: [&str; 4] = [
    "--",
    "sh",
    "-c",
    "head -c 300000 /dev/zero | tr '\\0' e >&2; head -c 300000 /dev/zero | tr '\\0' o",
];

#[test]
fn run_shows_nothing_but_the_failure() {
    let output = output(&[&["run"], &BOTH[..]].concat());
    assert_eq!(output.stdout, [""; 0]);
    assert_eq!(output.stderr, ["exec-cmd: cmd.Run failed with exit status: 3"]);
    assert_eq!(output.code, 1);
}

#[test]
fn combined_keeps_the_order_of_both_streams() {
    let output = output(&[&["combined"], &BOTH[..]].concat());
    assert_eq!(output.stdout, ["combined out:", "a", "b", ""]);
    assert_eq!(output.stderr, ["exec-cmd: cmd.Run() failed with exit status: 3"]);
    assert_eq!(output.code, 1);
}

#[test]
fn separate_keeps_the_streams_apart() {
    let output = output(&[&["separate"], &BOTH[..]].concat());
    assert_eq!(output.stdout, ["out:", "a", "", "err:", "b", ""]);
    assert_eq!(output.stderr, ["exec-cmd: cmd.Run() failed with exit status: 3"]);
    assert_eq!(output.code, 1);
}

#[test]
fn without_a_way_all_three_run_also_after_a_failure() {
    let output = output(&BOTH);
    assert_eq!(output.stdout, ["combined out:", "a", "b", "", "out:", "a", "", "err:", "b", ""]);
    assert_eq!(
        output.stderr,
        [
            "exec-cmd: cmd.Run failed with exit status: 3",
            "exec-cmd: cmd.Run() failed with exit status: 3",
            "exec-cmd: cmd.Run() failed with exit status: 3",
        ]
    );
    assert_eq!(output.code, 1);
}

#[test]
fn a_command_that_succeeds() {
    let output = output(&["--", "echo", "*.log"]);
    assert_eq!(
        output.stdout,
        ["combined out:", "*.log", "", "out:", "*.log", "", "err:", ""],
        "no shell expands it"
    );
    assert_eq!(output.stderr, [""; 0]);
    assert_eq!(output.code, 0);
}

#[test]
fn more_than_a_pipe_holds_on_both_streams() {
    let (errors, outs) = ("e".repeat(300_000), "o".repeat(300_000));
    let [run, combined, separate] =
        ["run", "combined", "separate"].map(|way| output(&[&[way], &MUCH[..]].concat()));
    assert_eq!(run.stdout, [""; 0]);
    // Not assert_eq, which would print 300 kB.
    assert!(combined.stdout == ["combined out:", &(errors.clone() + &outs)]);
    assert!(separate.stdout == ["out:", &outs, "err:", &errors]);
    for output in [run, combined, separate] {
        assert_eq!(output.code, 0);
    }
}

#[test]
fn a_command_that_is_killed() {
    for way in ["run", "combined", "separate"] {
        output(&[way, "--", "sh", "-c", "kill -9 $$"]).assert_failed(1, "signal: 9 (SIGKILL)");
    }
}

#[test]
fn no_such_command() {
    for way in ["run", "combined", "separate"] {
        let output = output(&[way, "--", "no-such-command"]);
        assert_eq!(output.stdout, [""; 0]);
        assert_eq!(output.stderr.len(), 1);
        output.assert_failed(1, "exec-cmd: cannot run \"no-such-command\": No such file");
    }
}

/// With SIGCHLD ignored, nobody can wait for a child. The command has run all the same.
#[test]
fn where_sigchld_is_ignored_it_is_the_wait_that_fails() {
    for (way, step) in [
        ("run", "wait for"),
        ("combined", "wait for"),
        ("separate", "read the output of, or wait for,"),
    ] {
        let mut command = Command::new("env");
        command.args(["--ignore-signal=CHLD", env!("CARGO_BIN_EXE_exec-cmd"), way]);
        let output = without_labels(Program::start(command.args(["--", "true"])).output());
        let sentence =
            format!("exec-cmd: cannot {step} \"true\": No child processes (os error 10)");
        assert_eq!(output.stderr, [sentence]);
        assert_eq!(output.code, 1);
    }
}

#[test]
fn the_commands_of_the_chapter() {
    let run = output(&["run"]);
    assert_eq!((run.code, run.stdout.len(), run.stderr.len()), (0, 0, 0));

    let combined = output(&["combined"]);
    assert_eq!(combined.code, 0);
    assert_eq!(combined.stdout[0], "combined out:");
    assert!(combined.stdout[1].starts_with("total "), "{combined:?}");

    let separate = output(&["separate"]);
    assert_eq!(separate.stdout[..3], ["out:", "", "err:"]);
    assert!(separate.stdout[3].contains("cannot access '/var/log/*.log'"), "{separate:?}");
    assert_eq!(separate.stderr[0], "exec-cmd: cmd.Run() failed with exit status: 2");
    assert!(separate.stderr[1].starts_with("exec-cmd: that is meant to fail: no shell"));
    assert_eq!((separate.code, separate.stderr.len()), (0, 2), "{separate:?}");
}

/// The command that is meant to fail is the chapter's third. With it, all three end well.
#[test]
fn each_way_says_first_what_it_runs() {
    let output = Program::start(&mut exec_cmd(&[])).output();
    assert_eq!(output.code, 0, "{output:?}");
    let mut labels = output.stderr.iter().filter(|line| line.contains(" of 3, "));
    for start in [
        r#"exec-cmd: 1 of 3, run: "ls" "-l" "/var/log"; "#,
        r#"exec-cmd: 2 of 3, combined: "ls" "-l" "/var/log/"; "#,
        r#"exec-cmd: 3 of 3, separate: "ls" "-l" "/var/log/*.log"; "#,
    ] {
        let label = labels.next().unwrap();
        assert!(label.starts_with(start), "{label}");
    }
    assert_eq!(labels.next(), None);
}

#[test]
fn nobody_reads_the_labels() {
    for stderr in [closed_pipe(), full_device()] {
        let mut command = exec_cmd(&[]);
        let program = Program::try_start(command.stdout(Stdio::piped()).stderr(stderr)).unwrap();
        let output = program.output();
        assert_eq!((output.code, &output.stdout[0][..]), (0, "combined out:"), "{output:?}");
    }
}

#[test]
fn nobody_reads_the_output() {
    for way in ["combined", "separate"] {
        let mut command = exec_cmd(&[way, "--", "echo", "a"]);
        for (stdout, reason) in [
            (closed_pipe(), "exec-cmd: cannot write to stdout: Broken pipe"),
            (full_device(), "exec-cmd: cannot write to stdout: No space"),
        ] {
            let output = Program::start_to(stdout, &mut command).output();
            without_labels(output).assert_failed(1, reason);
        }
    }
}

#[test]
fn usage() {
    output(&["--no-such-option"]).assert_usage("--no-such-option");
    output(&["no-such-way"]).assert_usage("no-such-way");
    output(&["run", "ls"]).assert_usage("'ls'");
}
