//! Runs `zombie` and its example `orphan`. This process adopts the children that they leave behind,
//! and decides when to reap them.

#![forbid(unsafe_code)]

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use test_support::{
    NOT_SECONDS, Program, assert_sleeps, assert_zombie, closed_pipe, example, full_device, number,
    reap, stat, state, suggestion,
};

fn zombie(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zombie"));
    command.args(args);
    command
}

fn orphan(args: &[&str]) -> Command {
    example("orphan", args)
}

#[test]
fn zombie_prints_the_lines_of_the_chapter() {
    let program = Program::start(&mut zombie(&["--parent-sleep", "2"]));
    let parent = program.pid();
    let mut output = program.output();
    let child = number(&output.stdout.remove(1), "My pid is: ");
    assert_ne!(child, parent);
    assert_eq!(
        output.stdout,
        ["Hi, I am a child Process.", "End child process.", "End parent process."]
    );
    assert_eq!(output.stderr, [suggestion(&[parent, child])]);
    assert_eq!(output.code, 0);
}

/// Runs `zombie` up to the moment at which the chapter calls `ps`.
fn start_zombie(parent_sleep: &str) -> (Program, Pid) {
    let mut program = Program::start(&mut zombie(&["--parent-sleep", parent_sleep]));
    assert_eq!(program.stdout.next(), "Hi, I am a child Process.");
    let child = number(&program.stdout.next(), "My pid is: ");
    assert_eq!(program.stdout.next(), "End child process.");
    assert_zombie(child);
    (program, child)
}

#[test]
fn the_child_is_a_zombie_while_its_parent_sleeps() {
    let (program, child) = start_zombie("60");
    assert_sleeps(program.pid());
    let seen = stat(child).unwrap();
    assert_eq!(seen.parent, program.pid());
    assert_eq!(seen.name, "childProcess", "what ps shows of it");
}

#[test]
fn killing_the_dead_changes_nothing() {
    let (program, child) = start_zombie("60");
    kill(child, Signal::SIGKILL).unwrap();
    assert_eq!(state(child), Some('Z'));
    assert_sleeps(program.pid());
}

#[test]
fn when_the_parent_ends_the_zombie_goes_to_an_adopter_who_reaps_it() {
    let (program, child) = start_zombie("1");
    assert_eq!(program.exit_code(), 0);
    let seen = stat(child).unwrap();
    assert_eq!((seen.state, seen.parent), ('Z', Pid::this()));
    assert_eq!(reap(child), WaitStatus::Exited(child, 0));
    assert!(stat(child).is_none(), "{:?}", stat(child));
}

#[test]
fn when_the_parent_is_killed_the_zombie_goes_to_an_adopter_who_reaps_it() {
    let (program, child) = start_zombie("60");
    program.signal(Signal::SIGKILL);
    let killed = WaitStatus::Signaled(program.pid(), Signal::SIGKILL, false);
    assert_eq!(program.end(), killed);
    let seen = stat(child).unwrap();
    assert_eq!((seen.state, seen.parent), ('Z', Pid::this()));
    assert_eq!(reap(child), WaitStatus::Exited(child, 0));
    assert!(stat(child).is_none(), "{:?}", stat(child));
}

#[test]
fn an_orphan_is_adopted_and_is_a_zombie_until_its_adopter_reaps_it() {
    let args = ["--parent-sleep", "0.3", "--child-sleep", "2.5"];
    let mut program = Program::start(&mut orphan(&args));
    let child = number(&program.stdout.next(), "My pid is: ");
    let first = number(&program.stdout.next(), "My parent is: ");
    assert_eq!(first, program.pid());
    assert_eq!(program.stdout.next(), "End parent process.");
    assert_eq!(program.exit_code(), 0);
    assert_eq!(stat(child).unwrap().parent, Pid::this());

    let second = number(&program.stdout.next(), "My parent is now: ");
    assert_eq!(second, Pid::this());
    assert_eq!(program.stdout.next(), "End child process.");
    assert_zombie(child);
    assert_eq!(reap(child), WaitStatus::Exited(child, 0));
    assert!(stat(child).is_none(), "{:?}", stat(child));
    assert_eq!(program.stderr.rest(), [suggestion(&[first, child])]);
}

/// The suggestion to look at the processes is not worth a failure.
#[test]
fn nobody_reads_the_suggestion() {
    for stderr in [closed_pipe(), full_device()] {
        let mut command = zombie(&["--parent-sleep", "0.1"]);
        let mut program =
            Program::try_start(command.stdout(Stdio::piped()).stderr(stderr)).unwrap();
        program.stdout.next_with("End parent process.");
        assert_eq!(program.exit_code(), 0);
    }
}

/// The control of a test of `wait`, whose child ends with its parent.
#[test]
fn an_orphan_lives_on_when_its_parent_is_killed() {
    let args = ["--parent-sleep", "60", "--child-sleep", "60"];
    let mut program = Program::start(&mut orphan(&args));
    let child = number(&program.stdout.next(), "My pid is: ");
    program.stdout.next_with("My parent is: ");
    assert_sleeps(child);
    program.signal(Signal::SIGKILL);
    program.end();
    // A child that ends with its parent would be gone within milliseconds.
    let killed = Instant::now();
    while killed.elapsed() < Duration::from_millis(300) {
        let seen = stat(child).unwrap();
        assert_eq!((seen.state, seen.parent), ('S', Pid::this()));
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nobody_reads_the_output() {
    let short = ["--parent-sleep", "0.1"];
    for (stdout, reason) in [
        (closed_pipe(), "zombie: cannot write to stdout: Broken pipe"),
        (full_device(), "zombie: cannot write to stdout: No space"),
    ] {
        let output = Program::start_to(stdout, &mut zombie(&short)).output();
        output.assert_failed(1, reason);
    }
    for (stdout, reason) in [
        (closed_pipe(), "orphan: cannot write to stdout: Broken pipe"),
        (full_device(), "orphan: cannot write to stdout: No space"),
    ] {
        let output = Program::start_to(stdout, &mut orphan(&short)).output();
        output.assert_failed(1, reason);
    }
}

/// The message must be the whole sentence: the error of the system alone does not say what failed.
#[test]
fn a_start_that_is_refused_is_explained() {
    for (name, program) in [("zombie", zombie(&[])), ("orphan", orphan(&[]))] {
        let mut limited = Command::new("sh");
        // Enough descriptors to load the program, and too few to start another.
        limited.args(["-c", r#"ulimit -n 4; exec "$0""#]);
        let output = Program::start(limited.arg(program.get_program())).output();
        assert_eq!(output.stderr.len(), 1, "{output:?}");
        // Between these parts, reexec names the step that failed first.
        output.assert_failed(1, &format!("{name}: cannot start childProcess: "));
        output.assert_failed(1, " failed: Too many open files (os error 24)");
        assert_eq!(output.stdout, [""; 0]);
    }
}

#[test]
fn usage() {
    Program::start(&mut zombie(&["--no-such-option"])).output().assert_usage("--no-such-option");
    Program::start(&mut orphan(&["--no-such-option"])).output().assert_usage("--no-such-option");
    for value in NOT_SECONDS {
        for option in ["--parent-sleep", "--child-sleep"] {
            Program::start(&mut orphan(&[&format!("{option}={value}")]))
                .output()
                .assert_usage(option);
        }
        Program::start(&mut zombie(&[&format!("--parent-sleep={value}")]))
            .output()
            .assert_usage("--parent-sleep");
        Program::start(&mut zombie(&["--parent-sleep", value])).output().assert_usage("");
    }
}
