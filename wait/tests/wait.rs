//! Runs `wait`, and looks at its processes.

#![forbid(unsafe_code)]

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use test_support::{
    NOT_SECONDS, Program, assert_sleeps, assert_zombie, closed_pipe, full_device, reap, state,
    suggestion,
};

fn wait(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wait"));
    command.args(args);
    command
}

#[test]
fn it_prints_the_lines_of_the_chapter_and_leaves_nothing() {
    let mut program = Program::start(&mut wait(&["--parent-sleep", "0.2", "--child-sleep", "1.2"]));
    let child = program.child();
    assert_eq!(
        program.stdout.rest(),
        [
            "Parent start sleeping...",
            "Parent end sleeping...",
            "End child process.",
            "End parent process."
        ]
    );
    assert_eq!(program.stderr.rest(), [suggestion(&[program.pid(), child])]);
    assert_eq!(program.exit_code(), 0);
    // If its parent had not reaped it, it would be our zombie now.
    assert_eq!(state(child), None);
}

#[test]
fn both_are_alive_while_the_parent_waits() {
    let mut program = Program::start(&mut wait(&["--parent-sleep", "0.1"]));
    program.stdout.next_with("Parent end sleeping...");
    let child = program.child();
    for pid in [program.pid(), child] {
        assert_sleeps(pid);
    }
    kill(child, Signal::SIGKILL).unwrap();
    assert_eq!(program.stdout.next(), "failed to wait command: signal: 9 (SIGKILL)");
    assert_eq!(program.stdout.next(), "End parent process.");
    assert_eq!(program.exit_code(), 0);
    assert_eq!(state(child), None);
}

#[test]
fn a_child_that_ends_first_is_a_zombie_until_the_parent_waits() {
    let mut program = Program::start(&mut wait(&["--parent-sleep", "2", "--child-sleep", "0"]));
    let child = program.child();
    assert_zombie(child);
    // Parent and child write at the same time, so the order of these lines is left to chance.
    let mut first = [program.stdout.next(), program.stdout.next()];
    first.sort();
    assert_eq!(first, ["End child process.", "Parent start sleeping..."]);
    assert_eq!(program.stdout.rest(), ["Parent end sleeping...", "End parent process."]);
    assert_eq!(program.exit_code(), 0);
    assert_eq!(state(child), None);
}

/// It takes as long as the longer sleep, not as both together.
#[test]
fn parent_and_child_sleep_at_the_same_time() {
    let run = || {
        let start = Instant::now();
        let mut command = wait(&["--parent-sleep", "1", "--child-sleep", "1"]);
        assert_eq!(Program::start(&mut command).output().code, 0);
        start.elapsed().as_secs_f64()
    };
    // A busy machine can make a run longer, but not shorter.
    let mut times = Vec::new();
    while times.iter().all(|time| *time >= 2.0) {
        assert!(times.len() < 3, "{times:?}");
        times.push(run());
    }
    assert!(times.iter().all(|time| *time >= 1.0), "{times:?}");
}

/// Its control is `orphan` of the crate `zombie`, whose child lives on.
#[test]
fn when_the_parent_is_killed_the_child_ends_with_it() {
    let mut program = Program::start(&mut wait(&["--child-sleep", "60"]));
    program.stdout.next_with("Parent start sleeping...");
    let child = program.child();
    assert_sleeps(child);
    let killed = Instant::now();
    program.signal(Signal::SIGKILL);
    let ended = WaitStatus::Signaled(child, Signal::SIGTERM, false);
    assert_eq!(reap(child), ended);
    assert!(killed.elapsed() < Duration::from_secs(2));
}

#[test]
fn nobody_reads_the_output() {
    for (stdout, reason) in [
        (closed_pipe(), "wait: cannot write to stdout: Broken pipe"),
        (full_device(), "wait: cannot write to stdout: No space"),
    ] {
        // It ends at once, because it kills its child and does not wait for it.
        let program = Program::start_to(stdout, &mut wait(&["--child-sleep", "60"]));
        assert_eq!(program.exit_code(), 1);
        assert_eq!(program.rest_of_group(), []);
        program.output().assert_failed(1, reason);
    }
}

#[test]
fn the_reader_goes_away_after_the_first_line() {
    let mut script = Command::new("sh");
    script.args(["-c", "{ \"$0\" --parent-sleep 0.5; echo $? >&2; } | head -1"]);
    let output = Program::start(script.arg(env!("CARGO_BIN_EXE_wait"))).output();
    assert_eq!(output.stdout, ["Parent start sleeping..."]);
    let failure = ["wait: cannot write to stdout: Broken pipe (os error 32)", "1"];
    assert_eq!(output.stderr[1..], failure, "after the suggestion to look with ps");
}

#[test]
fn usage() {
    Program::start(&mut wait(&["--no-such-option"])).output().assert_usage("--no-such-option");
    for value in NOT_SECONDS {
        for option in ["--parent-sleep", "--child-sleep"] {
            Program::start(&mut wait(&[&format!("{option}={value}")]))
                .output()
                .assert_usage(option);
        }
    }
}
