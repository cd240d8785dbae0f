//! Runs `goroutine-wait` and its examples `try-wait` and `pidfd`, and looks at their processes.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, geteuid};
use test_support::{
    NOT_SECONDS, Program, assert_sleeps, assert_zombie, closed_pipe, example, full_device, number,
    reap, stat, state, suggestion, wait_until,
};

fn goroutine_wait(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_goroutine-wait"));
    command.args(args);
    command
}

/// Runs the program up to the parent's second sleep. Its child sleeps until the test ends it.
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
    assert_eq!(program.stderr.rest(), [suggestion(&[program.pid(), child])]);
    assert_eq!(program.exit_code(), 0);
    assert_eq!(state(child), None);
}

#[test]
fn the_child_is_reaped_while_the_parent_goes_on() {
    let (mut program, child) = start(&[]);
    assert_sleeps(child);
    kill(child, Signal::SIGKILL).unwrap();
    wait_until("gone", || state(child), Option::is_none);
    assert_sleeps(program.pid());
    assert_eq!(program.stdout.next(), "failed to wait command: signal: 9 (SIGKILL)");
}

#[test]
fn a_thread_that_cannot_be_started_is_explained() {
    const WITHOUT_PROCESSES: u32 = 54322; // a user who has no other processes, which would count
    if !geteuid().is_root() {
        println!("skipped: only root can be a user who has no process yet");
        return;
    }
    let program = goroutine_wait(&["--parent-sleep", "0.1", "--child-sleep", "60"]);
    let mut limited = Command::new("prlimit");
    limited.arg("--nproc=2").arg(program.get_program()); // the parent and its child
    limited.args(program.get_args()).current_dir("/");
    limited.uid(WITHOUT_PROCESSES).gid(WITHOUT_PROCESSES);
    let output = Program::start(&mut limited).output();
    if output.stderr.concat().contains("Permission denied") {
        println!("skipped: others may not look into the folder of the program");
        return;
    }
    output.assert_failed(1, "goroutine-wait: cannot start the thread that waits");
    output.assert_failed(1, "Resource temporarily unavailable (os error 11); what helps: ");
    let child = number(&output.stdout[0], "My pid is: ");
    assert_eq!(output.stdout[1..], ["Parent start sleeping...", "Parent end sleeping..."]);
    assert_eq!(state(child), None);
}

/// The control: the same without the thread that waits.
#[test]
fn without_the_waiting_thread_the_child_is_a_zombie() {
    let (program, child) = start(&["--no-wait", "--parent-work", "2"]);
    assert_sleeps(child);
    kill(child, Signal::SIGKILL).unwrap();
    assert_zombie(child);
    assert_eq!(stat(child).unwrap().parent, program.pid());
    // It stays as long as the parent works. Then we adopt it.
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
fn try_wait_asks_until_the_child_has_ended_and_reaps_it() {
    let args = ["--child-sleep", "1.1", "--every", "0.3"];
    let mut program = Program::start(&mut example("try-wait", &args));
    let child = number(&program.stdout.next(), "My pid is: ");
    assert_eq!(program.stderr.next(), suggestion(&[program.pid(), child]));
    assert_eq!(stat(child).unwrap().parent, program.pid());
    let mut lines = program.stdout.rest();
    let questions = lines.pop().unwrap();
    assert_eq!(lines.pop().unwrap(), "Child ended with exit status: 24");
    // Four, unless a busy machine makes one of the two processes late.
    assert!((3..=5).contains(&lines.len()), "{lines:?}");
    assert!(lines.iter().all(|line| line == "sleep 0.3sec."), "{lines:?}");
    assert_eq!(questions, format!("Questions: {}", lines.len() + 1));
    assert_eq!(program.exit_code(), 0);
    assert_eq!(state(child), None);
}

/// What asking costs.
#[test]
fn try_wait_leaves_a_zombie_until_it_asks_again() {
    let args = ["--child-sleep", "60", "--every", "3"];
    let mut program = Program::start(&mut example("try-wait", &args));
    let child = number(&program.stdout.next(), "My pid is: ");
    assert_sleeps(child);
    assert_eq!(program.stdout.next(), "sleep 3sec.");
    assert_sleeps(program.pid()); // it has asked, and will ask again in 3 seconds
    kill(child, Signal::SIGKILL).unwrap();
    assert_zombie(child);
    program.stdout.next_with("Child ended with signal: 9 (SIGKILL)");
    assert_eq!(state(child), None);
    assert_eq!(program.exit_code(), 0);
}

#[test]
fn pidfd_passes_lines_on_and_notices_the_end_at_once() {
    let mut program = Program::start(&mut example("pidfd", &["--child-sleep", "0.4"]));
    let child = number(&program.stdout.next(), "My pid is: ");
    assert_eq!(program.stderr.next(), suggestion(&[program.pid(), child]));
    assert_eq!(stat(child).unwrap().parent, program.pid());
    assert_eq!(program.stdout.next(), "still here");
    assert_eq!(program.stdout.next(), "Child ended with exit status: 24");
    assert_eq!(state(child), None);
    // Two lines, and the ends of the pipe and of the child, which may come together.
    let returns = program.stdout.next();
    assert!(returns == "Returns of poll: 4" || returns == "Returns of poll: 3", "{returns}");
    assert_eq!(program.exit_code(), 0);
}

#[test]
fn the_examples_children_end_with_their_parents() {
    for name in ["try-wait", "pidfd"] {
        let mut program = Program::start(&mut example(name, &["--child-sleep", "60"]));
        let child = number(&program.stdout.next(), "My pid is: ");
        program.signal(Signal::SIGKILL);
        let ended = WaitStatus::Signaled(child, Signal::SIGTERM, false);
        assert_eq!(reap(child), ended);
    }
}

#[test]
fn nobody_reads_the_output_of_the_examples() {
    let asks = ("try-wait", &["--every", "0.1"][..]);
    let polls = ("pidfd", &["--child-sleep", "0.1"][..]);
    for (name, args) in [asks, polls] {
        for (stdout, reason) in [
            (closed_pipe(), "cannot write to stdout: Broken pipe"),
            (full_device(), "cannot write to stdout: No space"),
        ] {
            let output = Program::start_to(stdout, &mut example(name, args)).output();
            output.assert_failed(1, reason);
        }
    }
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
    for name in ["try-wait", "pidfd"] {
        Program::start(&mut example(name, &["--child-sleep=abc"]))
            .output()
            .assert_usage("--child-sleep");
    }
    for value in NOT_SECONDS {
        for option in ["--parent-sleep", "--child-sleep", "--parent-work"] {
            Program::start(&mut goroutine_wait(&[&format!("{option}={value}")]))
                .output()
                .assert_usage(option);
        }
    }
}
