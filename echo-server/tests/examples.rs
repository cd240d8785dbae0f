//! Runs the programs in `examples/`, and looks at their processes. `sandbox` is tested in `it`.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;

use nix::libc::{SYS_clock_nanosleep, SYS_nanosleep};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use test_support::{
    LIMIT, NOT_SECONDS, Program, assert_sleeps, assert_zombie, closed_pipe, example, full_device,
    number, reap, state, wait_until,
};

const ANY_PORT: &str = "127.0.0.1:0";

/// The examples with options.
const ALL: [&str; 8] = [
    "handler-limits",
    "ignore-sigchld",
    "late-handler",
    "one-close-too-few",
    "pid-namespace",
    "remove-zombie",
    "sigchld",
    "signal",
];

/// Runs an example that must succeed and print nothing on stderr. Returns its lines, with N for its
/// pid.
#[track_caller]
fn lines(name: &str, args: &[&str]) -> Vec<String> {
    let program = Program::start(&mut example(name, args));
    let pid = program.pid().to_string();
    let output = program.output();
    assert_eq!((output.code, &output.stderr[..]), (0, &[][..]), "{output:?}");
    let lines = output.stdout.into_iter();
    lines.map(|line| line.replace(&pid, "N")).collect()
}

#[test]
fn signal_sleeps_are_ended_by_alarms() {
    let mut program = Program::start(&mut example("signal", &["--alarm", "1"]));
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
fn the_client_sees_the_end_when_the_last_copy_is_closed_or_one_is_shut_down() {
    let ended = "The child has ended, and its copy is closed.";
    let in_vain = "The client has waited for the end, in vain.";
    let closed = "The parent has closed its copy, too.";
    let seen = "The client has seen the end.";
    for (option, expected) in [
        (None, &[ended, in_vain, closed, seen][..]),
        (Some("--close"), &[ended, seen]),
        (Some("--shutdown"), &[ended, seen, closed, seen]),
    ] {
        let mut args = vec!["--sleep", "0.3"];
        args.extend(option);
        let lines = lines("one-close-too-few", &args);
        let start = lines.iter().position(|line| *line == ended).unwrap();
        let (before, after) = lines.split_at(start);
        let numbers: Vec<_> =
            before.iter().filter_map(|line| line.split_once("'s descriptor: ")).collect();
        assert_eq!(numbers.len(), 2, "{before:?}");
        assert_eq!(numbers[0].1, numbers[1].1);
        assert_eq!(after[..after.len() - 1], *expected);
        assert_eq!(after.last().unwrap(), "End parent process.");
    }
}

#[test]
fn in_a_pid_namespace_numbers_begin_with_one() {
    let mut program = Program::start(&mut example("pid-namespace", &["--sleep", "0"]));
    if program.exit_code() == 77 {
        let why = program.stderr.next();
        assert!(why.starts_with("pid-namespace: no PID namespace can be made"), "{why}");
        assert_eq!(program.stdout.rest(), [""; 0]);
        return;
    }
    let lines = program.stdout.rest();
    assert!(lines[0].starts_with("Numbers are below: "), "{lines:?}");
    for (line, inside) in lines[1..4].iter().zip(1..) {
        assert!(line.starts_with("Child outside: "), "{line}");
        assert!(line.ends_with(&format!(", to itself: {inside}")), "{line}");
    }
    assert_eq!(lines[4..], ["End parent process."]);
    assert_eq!(program.exit_code(), 0);
}

/// The control.
#[test]
fn outside_of_one_they_do_not() {
    for line in &lines("pid-namespace", &["--sleep", "0", "--outside"])[1..4] {
        let numbers = line.strip_prefix("Child outside: ").unwrap();
        let (outside, inside) = numbers.split_once(", to itself: ").unwrap();
        assert_eq!(outside, inside);
    }
}

#[test]
fn a_killed_program_leaves_nothing() {
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

/// Starts a server on a port of its own, and clients that it serves.
fn echo_mpserv(clients: usize) -> (Program, Vec<TcpStream>) {
    let mut server = Program::start(&mut example("echo-mpserv", &[ANY_PORT]));
    let line = server.stdout.next();
    let address = line.strip_prefix("listening on ").unwrap();
    let connect = |_| {
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.set_write_timeout(Some(LIMIT)).unwrap();
        client
    };
    let clients: Vec<_> = (0..clients).map(connect).collect();
    clients.iter().for_each(|client| assert_echoes(client, b"x"));
    (server, clients)
}

/// Sends bytes, which must come back.
#[track_caller]
fn assert_echoes(mut client: &TcpStream, bytes: &[u8]) {
    client.write_all(bytes).unwrap();
    let mut received = vec![0; bytes.len()];
    client.read_exact(&mut received).unwrap();
    assert!(received == bytes);
}

fn sockets(pid: Pid) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let places = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    let is_socket = |place: &PathBuf| place.to_string_lossy().starts_with("socket:");
    places.filter(is_socket).count()
}

#[test]
fn echo_mpserv_serves_several_clients_at_once_each_in_a_process() {
    let (mut server, clients) = echo_mpserv(5);
    let children = server.children();
    assert_eq!(children.len(), 5);
    for pid in [&[server.pid()], &children[..]].concat() {
        // The server has the listener alone, and each child its connection.
        wait_until("one socket", || sockets(pid), |sockets| *sockets == 1);
    }
    for turn in 0..3 {
        for (client, number) in clients.iter().zip(0..) {
            assert_echoes(client, &[turn, number]);
        }
    }

    drop(clients);
    wait_until("all are reaped", || server.children(), Vec::is_empty);
    let mut removed: Vec<_> =
        (0..5).map(|_| number(&server.stdout.next_with("removed"), "removed proc id: ")).collect();
    removed.sort();
    assert_eq!(removed, children);
}

/// The client sends more bytes than all buffers hold, and stops the child again and again. That
/// makes its writes short. In the end the client sees the end of its stream, although the server
/// lives on.
#[test]
fn echo_mpserv_sends_back_every_byte_and_the_end() {
    let (server, clients) = echo_mpserv(1);
    let child = server.child();
    let mut client = &clients[0];
    let bytes: Vec<u8> = (0..16_000_000).map(|number| (number % 251) as u8).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = &clients[0];
            client.write_all(&bytes).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        for _ in 0..50 {
            client.take(100_000).read_to_end(&mut received).unwrap();
            kill(child, Signal::SIGSTOP).unwrap();
            wait_until("T", || state(child), |state| *state == Some('T'));
            kill(child, Signal::SIGCONT).unwrap();
        }
        client.read_to_end(&mut received).unwrap();
        assert!(received == bytes, "{} of {}", received.len(), bytes.len());
    });
    wait_until("all are reaped", || server.children(), Vec::is_empty);
}

/// Its control is `remove-zombie --once`, which waits once for each signal.
#[test]
fn echo_mpserv_reaps_all_children_that_one_signal_stands_for() {
    let (server, clients) = echo_mpserv(10);
    let children = server.children();
    server.signal(Signal::SIGSTOP);
    drop(clients);
    children.iter().for_each(|child| assert_zombie(*child));
    server.signal(Signal::SIGCONT);
    wait_until("all are reaped", || server.children(), Vec::is_empty);
}

#[test]
fn echo_mpserv_killed_leaves_nothing() {
    let (server, clients) = echo_mpserv(2);
    let children = server.children();
    server.signal(Signal::SIGKILL);
    server.end();
    for child in children {
        let killed = WaitStatus::Signaled(child, Signal::SIGKILL, false);
        assert_eq!(reap(child), killed);
    }
    drop(clients);
}

#[test]
fn echo_mpserv_says_why_it_cannot_listen() {
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Program::start(&mut example("echo-mpserv", &[&address])).output();
    output.assert_failed(1, "echo-mpserv: cannot listen on 127.0.0.1:");
    output.assert_failed(1, ": Address already in use (os error 98); what helps: ");
}

#[test]
fn nobody_reads_the_output() {
    let args = |name| match name {
        "echo-mpserv" => &[ANY_PORT][..],
        _ => &[],
    };
    for name in ALL.into_iter().chain(["echo-mpserv"]) {
        for (stdout, reason) in [
            (closed_pipe(), "cannot write to stdout: Broken pipe"),
            (full_device(), "cannot write to stdout: No space"),
        ] {
            let output = Program::start_to(stdout, &mut example(name, args(name))).output();
            output.assert_failed(1, reason);
        }
    }
}

#[test]
fn usage() {
    for name in ALL {
        Program::start(&mut example(name, &["--no-such-option"]))
            .output()
            .assert_usage("--no-such-option");
    }
    for value in NOT_SECONDS {
        for (name, option) in [
            ("handler-limits", "--wait"),
            ("ignore-sigchld", "--parent-sleep"),
            ("late-handler", "--parent-sleep"),
            ("one-close-too-few", "--sleep"),
            ("pid-namespace", "--sleep"),
            ("remove-zombie", "--sleep"),
            ("sigchld", "--child-sleep"),
        ] {
            Program::start(&mut example(name, &[&format!("{option}={value}")]))
                .output()
                .assert_usage(option);
        }
    }
    Program::start(&mut example("signal", &["--alarm", "0"])).output().assert_usage("--alarm");
}
