//! `goroutine-wait`, from outside.

#![forbid(unsafe_code)]

#[path = "../../zombie/tests/processes/mod.rs"]
mod processes;

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use processes::{
    NOT_SECONDS, Program, assert_sleeps, assert_zombie, closed_pipe, full_device, number, reap,
    stat, state, until,
};

fn goroutine_wait(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goroutine-wait"));
    command.args(args);
    command
}

/// Up to the parent's second sleep, with a child that ends when the test wants it to.
fn start(args: &[&str]) -> (Program, Pid) {
    let mut command = goroutine_wait(&["--parent-sleep", "0.1", "--child-sleep", "60"]);
    let mut program = Program::start(command.args(args));
    let child = number(&program.stdout.next(), "My pid is: ");
    assert_eq!(program.stdout.next(), "Parent start sleeping...");
    assert_eq!(program.stdout.next(), "Parent end sleeping...");
    (program, child)
}

#[test]
fn it_prints_the_lines_of_the_chapter_and_leaves_nothing() {
    let mut command = goroutine_wait(&["--parent-sleep", "0.3", "--child-sleep", "2"]);
    let mut program = Program::start(command.args(["--parent-work", "3.5"]));
    let child = number(&program.stdout.next(), "My pid is: ");
    assert_ne!(child, program.pid());
    assert_eq!(
        program.stdout.rest(),
        [
            "Parent start sleeping...",
            "Parent end sleeping...",
            "End child process.",
            "End parent process."
        ]
    );
    assert_eq!(program.stderr.rest(), [""; 0]);
    assert_eq!(program.exit_code(), 0);
    assert_eq!(state(child), None);
}

#[test]
fn the_child_is_reaped_while_the_parent_goes_on() {
    let (mut program, child) = start(&[]);
    assert_sleeps(child);
    kill(child, Signal::SIGKILL).unwrap();
    until("gone", || state(child), Option::is_none);
    assert_sleeps(program.pid());
    assert_eq!(
        program.stdout.next(),
        "failed to wait command: signal: 9 (SIGKILL)"
    );
}

/// The twin: the same without the thread that waits.
#[test]
fn without_the_waiting_thread_the_child_is_a_zombie() {
    let (program, child) = start(&["--no-wait", "--parent-work", "2"]);
    assert_sleeps(child);
    kill(child, Signal::SIGKILL).unwrap();
    assert_zombie(child);
    assert_eq!(stat(child).unwrap().parent, program.pid());
    // For as long as the parent works; then it is its adopter's.
    assert_eq!(program.exit_code(), 0);
    assert_eq!(stat(child).unwrap().parent, Pid::this());
    let killed = WaitStatus::Signaled(child, Signal::SIGKILL, false);
    assert_eq!(reap(child), killed);
    assert_eq!(state(child), None);
}

#[test]
fn a_child_that_outlives_the_work_ends_with_its_parent() {
    for no_wait in [&[][..], &["--no-wait"]] {
        let args = [&["--parent-work", "0.1"], no_wait].concat();
        let (mut program, child) = start(&args);
        assert_eq!(program.stdout.next(), "End parent process.");
        assert_eq!(program.exit_code(), 0);
        let ended = WaitStatus::Signaled(child, Signal::SIGTERM, false);
        assert_eq!(reap(child), ended);
    }
}

#[test]
fn when_the_parent_is_killed_the_child_ends_with_it() {
    let (program, child) = start(&[]);
    let killed = Instant::now();
    program.signal(Signal::SIGKILL);
    let ended = WaitStatus::Signaled(child, Signal::SIGTERM, false);
    assert_eq!(reap(child), ended);
    assert!(killed.elapsed() < Duration::from_secs(2));
}

#[test]
fn nobody_reads_the_output() {
    for (stdout, reason) in [
        (closed_pipe(), "cannot write to stdout: Broken pipe"),
        (full_device(), "cannot write to stdout: No space"),
    ] {
        let program = Program::start_to(stdout, &mut goroutine_wait(&["--child-sleep", "60"]));
        assert_eq!(program.exit_code(), 1);
        assert_eq!(program.rest_of_group(), []);
        program.output().assert_failed(1, reason);
    }
}

#[test]
fn usage() {
    Program::start(&mut goroutine_wait(&["--no-such-option"]))
        .output()
        .assert_usage("--no-such-option");
    for value in NOT_SECONDS {
        for option in ["--parent-sleep", "--child-sleep", "--parent-work"] {
            Program::start(&mut goroutine_wait(&[&format!("{option}={value}")]))
                .output()
                .assert_usage(option);
        }
    }
}
