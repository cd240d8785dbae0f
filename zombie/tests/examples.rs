//! Runs the examples about the remains of a process. Nobody presses Enter: their stdin is at its
//! end. `orphan` is tested beside `zombie`.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

use std::fs;
use std::io;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Pid, geteuid};
use test_support::{
    NOT_SECONDS, Output, Program, assert_sleeps, assert_zombie, closed_pipe, example, number, reap,
    stat, suggestion,
};

fn output(name: &str, args: &[&str]) -> Output {
    Program::start(&mut example(name, args)).output()
}

/// Starts an example that waits for Enter until the pipe is dropped.
fn held(name: &str) -> (Program, io::PipeWriter) {
    let (stdin, enter) = io::pipe().unwrap_or_else(|error| panic!("{error}"));
    let mut command = example(name, &[]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = Program::try_start_from(stdin, &mut command);
    (program.unwrap_or_else(|error| panic!("{error}")), enter)
}

/// Returns whether this machine does not allow what the example needs, and prints why.
fn is_skipped(output: &Output) -> bool {
    if output.code == 77 {
        println!("skipped: {:?}", output.stderr);
    }
    output.code == 77
}

/// Its control is the crate `wait`, whose parent waits.
#[test]
fn plain_std_leaves_a_zombie_until_the_parent_ends() {
    let mut program = Program::start(&mut example("plain-std", &[]));
    let child = number(&program.stdout.next(), "The zombie's pid is: ");
    assert_eq!(program.stderr.next(), suggestion(&[program.pid(), child]));
    assert_zombie(child);
    assert_sleeps(program.pid());
    assert_eq!(stat(child).map(|seen| seen.parent), Some(program.pid()));
    program.signal(Signal::SIGKILL);
    program.end();
    assert_eq!(stat(child).map(|seen| seen.parent), Some(Pid::this()));
    assert_eq!(reap(child), WaitStatus::Exited(child, 0));
}

#[test]
fn zombies_count_as_processes() {
    for (args, zombies) in [(&[][..], "Zombies: 5"), (&["--limit", "3"], "Zombies: 2")] {
        let full = output("resources", args);
        if is_skipped(&full) {
            return;
        }
        assert_eq!(full.code, 0, "{full:?}");
        assert!(full.stdout[0].starts_with("Refused: "), "{full:?}");
        assert!(full.stdout.contains(&zombies.to_owned()), "{full:?}");
        let last = "After the wait, one more: exit status: 0";
        assert_eq!(full.stdout.last().map(String::as_str), Some(last));
    }
    let wrong = output("resources", &["--limit", "1"]);
    assert_eq!((wrong.code, wrong.stdout.len()), (2, 0), "{wrong:?}");
}

#[test]
fn those_that_are_waited_for_do_not() {
    let waited = output("resources", &["--wait"]);
    if is_skipped(&waited) {
        return;
    }
    assert_eq!(waited.code, 0, "{waited:?}");
    assert!(!waited.stdout.iter().any(|line| line.starts_with("Refused")), "{waited:?}");
}

#[test]
fn statuses_are_kept_until_they_are_read() {
    let output = output("causes", &[]);
    assert_eq!(
        output.stdout[4..],
        [
            "exits, status read: exit status: 3",
            "exits, exists: false",
            "aborts, status read: signal: 6 (SIGABRT)",
            "aborts, exists: false",
            "isKilled, status read: signal: 9 (SIGKILL)",
            "isKilled, exists: false",
            "Press Enter to go on.",
        ]
    );
    assert_eq!(output.code, 0);
}

#[test]
fn both_kinds_of_adopters_wait_in_the_end() {
    for args in [&[][..], &["--every", "0.2"]] {
        let output = output("init-waits", args);
        assert_eq!(output.stdout.last().map(String::as_str), Some("No child is left."));
        assert_eq!(output.code, 0, "{output:?}");
    }
}

#[test]
fn the_number_of_a_zombie_is_skipped_and_then_used_again() {
    for (args, next) in [(&[][..], 3), (&["--wait"], 2)] {
        let output = output("pid-reuse", args);
        if is_skipped(&output) {
            return;
        }
        assert_eq!(output.stdout[0], format!("Ended: 2, the next: {next}"));
        assert_eq!(output.code, 0, "{output:?}");
    }
}

/// These examples do their work in another process.
#[test]
fn if_that_process_is_killed_it_is_told() {
    for (name, who) in [
        ("resources", "the process with the limit"),
        ("pid-reuse", "the first process of the namespace"),
    ] {
        if is_skipped(&output(name, &[])) {
            continue;
        }
        let (mut program, _enter) = held(name);
        program.stdout.next_with("Press Enter");
        kill(program.child(), Signal::SIGKILL).unwrap_or_else(|error| panic!("{error}"));
        let sentence = format!("{name}: {who} has ended: signal: 9 (SIGKILL)");
        assert_eq!(program.stderr.rest(), [sentence]);
        assert_eq!(program.exit_code(), 1);
    }
}

#[test]
fn somebody_without_processes_has_nothing_of_roots_groups() {
    if !geteuid().is_root() {
        println!("skipped: only root becomes somebody else");
        return;
    }
    let (mut program, _enter) = held("resources");
    let limited = number(&program.stdout.next_with("My pid is: "), "My pid is: ");
    let status = fs::read_to_string(format!("/proc/{limited}/status"));
    let status = status.unwrap_or_else(|error| panic!("{error}"));
    let ids = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is not in {status}"))
            .split_ascii_whitespace()
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("Gid:"), ids("Uid:"));
    assert!(!ids("Gid:").contains(&"0"), "{status}");
    assert_eq!(ids("Groups:"), [""; 0]);
}

#[test]
fn in_a_pid_namespace_numbers_begin_with_one() {
    let inside = output("pid-namespace", &["--sleep", "0"]);
    if is_skipped(&inside) {
        let why = "pid-namespace: no PID namespace can be made";
        assert!(inside.stderr[0].starts_with(why), "{inside:?}");
        assert_eq!(inside.stdout, [""; 0]);
        return;
    }
    let lines = inside.stdout;
    assert!(lines[0].starts_with("Numbers are below: "), "{lines:?}");
    for (line, inside) in lines[1..4].iter().zip(1..) {
        assert!(line.starts_with("Child outside: "), "{line}");
        assert!(line.ends_with(&format!(", to itself: {inside}")), "{line}");
    }
    assert_eq!(lines[4..], ["End parent process."]);
    assert_eq!(inside.code, 0);
}

/// The control.
#[test]
fn outside_of_one_they_do_not() {
    let output = output("pid-namespace", &["--sleep", "0", "--outside"]);
    assert_eq!((output.code, &output.stderr[..]), (0, &[][..]), "{output:?}");
    for line in &output.stdout[1..4] {
        let numbers = line.strip_prefix("Child outside: ").unwrap();
        let (outside, inside) = numbers.split_once(", to itself: ").unwrap();
        assert_eq!(outside, inside);
    }
}

#[test]
fn when_its_parent_is_killed_nothing_is_left_of_a_pid_namespace() {
    if is_skipped(&output("pid-namespace", &["--sleep", "0"])) {
        return;
    }
    let mut program = Program::start(&mut example("pid-namespace", &["--sleep", "60"]));
    program.stdout.next();
    let outside = [(); 3].map(|()| {
        let line = program.stdout.next();
        let (line, _) = line.split_once(", to itself: ").unwrap();
        number(line, "Child outside: ")
    });
    program.signal(Signal::SIGKILL);
    program.end();
    // The children end with their parent, and we reap them. Number 1 ends only when all others in
    // its namespace have been reaped.
    for child in outside.into_iter().rev() {
        reap(child);
    }
}

#[test]
fn nobody_reads_the_output() {
    for name in ["resources", "causes", "init-waits", "pid-reuse", "pid-namespace"] {
        let output = Program::start_to(closed_pipe(), &mut example(name, &[])).output();
        if !is_skipped(&output) {
            output.assert_failed(1, "cannot write to stdout: Broken pipe");
        }
    }
}

#[test]
fn usage() {
    for value in NOT_SECONDS {
        output("init-waits", &[&format!("--every={value}")]).assert_usage("--every");
        output("pid-namespace", &[&format!("--sleep={value}")]).assert_usage("--sleep");
    }
}
