//! Runs the examples about signals, and looks at their processes.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;

use nix::libc::{SYS_clock_nanosleep, SYS_nanosleep};
use nix::sys::signal::{Signal, kill};
use test_support::{
    NOT_SECONDS, Program, assert_sleeps, assert_zombie, closed_pipe, example, full_device, number,
    state, suggestion, wait_until,
};

/// Runs an example that must succeed. Returns its lines, with N for its pid.
#[track_caller]
fn lines(name: &str, args: &[&str]) -> Vec<String> {
    let program = Program::start(&mut example(name, args));
    let pid = program.pid().to_string();
    let output = program.output();
    assert_eq!(output.code, 0, "{output:?}");
    let lines = output.stdout.into_iter();
    lines.map(|line| line.replace(&pid, "N")).collect()
}

#[test]
fn signal_sleeps_are_ended_by_alarms() {
    let mut program = Program::start(&mut example("signal", &["--alarm", "1"]));
    assert_eq!(program.stderr.next(), suggestion(&[program.pid()]));
    for _ in 0..3 {
        assert_eq!(program.stdout.next(), "wait...");
        assert_eq!(program.stdout.next(), "Time out!");
        program.stdout.next_with("left of the sleep: 9");
    }
    assert_eq!(program.exit_code(), 0);
}

#[test]
fn signal_sleeps_are_ended_by_ctrl_c() {
    let mut program = Program::start(&mut example("signal", &["--alarm", "100"]));
    for _ in 0..3 {
        assert_eq!(program.stdout.next(), "wait...");
        // It may also sleep for a moment before that call, and a signal would not end the call then.
        let call = || fs::read_to_string(format!("/proc/{}/syscall", program.pid())).unwrap();
        wait_until("nanosleep", call, |call| {
            let number = call.split(' ').next().unwrap().parse();
            number.is_ok_and(|it| [SYS_nanosleep, SYS_clock_nanosleep].contains(&it))
        });
        program.signal(Signal::SIGINT);
        assert_eq!(program.stdout.next(), "CTRL+C pressed");
        let left = program.stdout.next();
        assert!(left.starts_with("left of the sleep: ") && !left.ends_with(": 0 s"), "{left}");
    }
    assert_eq!(program.exit_code(), 0);
}

/// The control: std goes on sleeping.
#[test]
fn signal_does_not_end_sleeps_of_std() {
    let args = ["--std", "--alarm", "10", "--sleep", "1"];
    let mut program = Program::start(&mut example("signal", &args));
    assert_eq!(program.stdout.next(), "wait...");
    assert_sleeps(program.pid());
    program.signal(Signal::SIGINT);
    assert_eq!(program.stdout.next(), "CTRL+C pressed");
    let rest = program.stdout.rest();
    let left: Vec<_> = rest.iter().filter(|line| line.starts_with("left")).collect();
    assert_eq!(left, ["left of the sleep: 0 s"; 3]);
    assert_eq!(program.exit_code(), 0);
}

#[test]
fn handler_limits() {
    let beginning = ["Sent: 10, noted: 1", "The signal has come. Now we wait."];
    let flag = lines("handler-limits", &["--wait", "0.3"]);
    assert_eq!(flag[..2], beginning);
    assert_eq!(flag[2..], ["The wait is over. Noted meanwhile: 1"]);
    let signalfd = lines("handler-limits", &["--wait", "60", "--signalfd"]);
    assert_eq!(signalfd[..2], beginning);
    assert_eq!(signalfd[2..], ["The signal has ended the wait."]);
}

#[test]
fn sigchld_tells_of_stop_and_continue_unless_told_not_to() {
    for (args, told) in [
        (&[][..], &["was stopped", "goes on", "was ended by a signal"][..]),
        (&["--no-child-stop"], &["was ended by a signal"]),
    ] {
        let mut program = Program::start(&mut example("sigchld", args));
        let by_default = "By default nothing happened when a child ended.";
        assert_eq!(program.stdout.next(), by_default);
        assert_eq!(program.stdout.next(), "Its status was kept: exit status: 0");
        let child = number(&program.stdout.next(), "My pid is: ");
        let mut lines = Vec::new();
        for (signal, expected) in [(Signal::SIGSTOP, 'T'), (Signal::SIGCONT, 'S')] {
            kill(child, signal).unwrap();
            wait_until("it has changed", || state(child), |state| *state == Some(expected));
            if args.is_empty() {
                lines.push(program.stdout.next()); // or the next signal could merge with this one
            }
        }
        kill(child, Signal::SIGKILL).unwrap();
        lines.extend(program.stdout.rest());
        let end = "End parent process. The child's signal: 9 (SIGKILL)".to_owned();
        assert_eq!(lines.pop(), Some(end));
        let expected = told.iter().map(|what| format!("SIGCHLD: process {child} {what}"));
        assert_eq!(lines, expected.collect::<Vec<_>>());
        assert_eq!(program.exit_code(), 0);
        assert_eq!(state(child), None);
    }
}

#[test]
fn remove_zombie_loops_or_leaves_nine() {
    for (args, removed) in [(&[][..], 10), (&["--once"], 1)] {
        let mut command = example("remove-zombie", &["--sleep", "2"]);
        let mut program = Program::start(command.args(args));
        assert_eq!(program.stdout.next(), format!("My pid is: {}", program.pid()));
        assert_eq!(program.stdout.next(), "Children that have ended: 10");
        let zombies = program.children();
        assert_eq!(zombies.len(), 10);
        let suggested = program.stderr.next();
        assert!(suggested.starts_with(&suggestion(&[program.pid()])), "{suggested}");
        assert!(zombies.iter().all(|it| suggested.contains(&it.to_string())), "{suggested}");
        zombies.iter().for_each(|zombie| assert_zombie(*zombie));
        assert_eq!(program.stdout.next(), "Signals that came: 1");
        assert_eq!(program.stdout.next(), format!("Removed: {removed}"));
        assert_eq!(program.children().len(), 10 - removed);
        assert_eq!(program.stdout.rest(), ["End parent process."]);
        assert_eq!(program.exit_code(), 0);
    }
}

#[test]
fn remove_zombie_takes_another_number() {
    let lines = lines("remove-zombie", &["--sleep", "0", "--children", "3"]);
    assert_eq!(lines[1..4], ["Children that have ended: 3", "Signals that came: 1", "Removed: 3"]);
}

#[test]
fn ignored_children_leave_nothing_and_the_zombie_from_before_stays() {
    for (args, ignored) in [(&[][..], true), (&["--no-child-wait"], true), (&["--default"], false)]
    {
        let mut command = example("ignore-sigchld", &["--parent-sleep", "2"]);
        let mut program = Program::start(command.args(args));
        let before = number(&program.stdout.next(), "Ended before, pid: ");
        let since = number(&program.stdout.next(), "Ended since, pid: ");
        let last = number(&program.stdout.next(), "Lives on, pid: ");
        program.stdout.next_with("SigIgn:");
        assert_zombie(before);
        if ignored {
            wait_until("it is gone", || state(since), Option::is_none);
        } else {
            assert_zombie(since);
        }
        assert_sleeps(last);
        assert_eq!(program.stdout.next(), "Parent waits for any child.");
        let status = |pid| format!("wait: Exited(Pid({pid}), 0)");
        assert_eq!(program.stdout.next(), status(before));
        if !ignored {
            assert_eq!(program.stdout.next(), status(since));
            assert_eq!(program.stdout.next(), status(last));
        }
        let rest = ["wait: there is no child", "End parent process."];
        assert_eq!(program.stdout.rest(), rest);
        assert_eq!(program.exit_code(), 0);
        assert_eq!(state(last), None);
    }
}

#[test]
fn ignored_stays_ignored_in_an_executed_program() {
    for (args, expected) in [(&[][..], true), (&["--no-child-wait"], false)] {
        let mut command = example("ignore-sigchld", &["--parent-sleep", "0"]);
        let mut program = Program::start(command.args(args));
        let line = program.stdout.next_with("SigIgn:");
        let mask = line.trim_start_matches("SigIgn:").trim();
        let mask = u64::from_str_radix(mask, 16).unwrap();
        let is_ignored = mask >> (Signal::SIGCHLD as i32 - 1) & 1 == 1;
        assert_eq!(is_ignored, expected, "{line}");
        assert_eq!(program.exit_code(), 0);
    }
}

#[test]
fn a_signal_sent_by_hand_helps_only_the_late_handler() {
    for (action, helps) in [("reap", true), ("default", false), ("ignore", false)] {
        let args = ["--action", action, "--parent-sleep", "60"];
        let mut program = Program::start(&mut example("late-handler", &args));
        assert_eq!(program.stdout.next(), format!("My pid is: {}", program.pid()));
        let zombie = program.child();
        assert_eq!(program.stderr.next(), suggestion(&[program.pid(), zombie]));
        assert_zombie(zombie);
        program.signal(Signal::SIGCHLD);
        if helps {
            let removed = format!("Removed zombie: {zombie}, exit status 0");
            assert_eq!(program.stdout.next(), removed);
            assert_eq!(state(zombie), None);
        } else {
            // The kernel drops a signal that is ignored, also by default, when it is sent.
            assert_sleeps(program.pid());
            assert_zombie(zombie);
        }
    }
    let left_alone = lines("late-handler", &["--parent-sleep", "0"]);
    assert_eq!(left_alone, ["My pid is: N", "End parent process."]);
}

#[test]
fn nobody_reads_the_output() {
    for name in
        ["handler-limits", "ignore-sigchld", "late-handler", "remove-zombie", "sigchld", "signal"]
    {
        for (stdout, reason) in [
            (closed_pipe(), "cannot write to stdout: Broken pipe"),
            (full_device(), "cannot write to stdout: No space"),
        ] {
            let output = Program::start_to(stdout, &mut example(name, &[])).output();
            output.assert_failed(1, reason);
        }
    }
}

#[test]
fn usage() {
    for (name, option) in [
        ("handler-limits", "--wait"),
        ("ignore-sigchld", "--parent-sleep"),
        ("late-handler", "--parent-sleep"),
        ("remove-zombie", "--sleep"),
        ("sigchld", "--child-sleep"),
    ] {
        for value in NOT_SECONDS {
            Program::start(&mut example(name, &[&format!("{option}={value}")]))
                .output()
                .assert_usage(option);
        }
    }
    Program::start(&mut example("signal", &["--alarm", "0"])).output().assert_usage("--alarm");
    for value in ["0", "1001", "-1", "x"] {
        let value = format!("--children={value}");
        Program::start(&mut example("remove-zombie", &[&value]))
            .output()
            .assert_usage("--children");
    }
}
