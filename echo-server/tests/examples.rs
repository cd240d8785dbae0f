//! Runs the programs in `examples/`, and looks at their processes. `sandbox` is tested in `it`.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use test_support::{
    LIMIT, NOT_SECONDS, Program, assert_zombie, closed_pipe, example, full_device, number, reap,
    state, wait_until,
};

const ANY_PORT: &str = "127.0.0.1:0";

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
        let output = Program::start(&mut example("one-close-too-few", &args)).output();
        assert_eq!((output.code, &output.stderr[..]), (0, &[][..]), "{output:?}");
        let lines = output.stdout;
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

/// Starts a server on a port of its own, and clients that it serves.
fn echo_mpserv(clients: usize) -> (Program, Vec<TcpStream>) {
    let mut server = Program::start(&mut example("echo-mpserv", &[ANY_PORT]));
    let line = server.stdout.next();
    let end = format!(" (pid {})", server.pid());
    let address = line.strip_prefix("listening on ").and_then(|line| line.strip_suffix(&end[..]));
    let address = address.unwrap_or_else(|| panic!("{line:?}"));
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

/// Its control is `remove-zombie --once` of the crate `goroutine-wait`, which waits once for each signal.
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
    for (name, args) in [("echo-mpserv", &[ANY_PORT][..]), ("one-close-too-few", &[])] {
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
fn usage() {
    let usage = |arg: &str, subject| {
        Program::start(&mut example("one-close-too-few", &[arg])).output().assert_usage(subject);
    };
    usage("--no-such-option", "--no-such-option");
    for value in NOT_SECONDS {
        usage(&format!("--sleep={value}"), "--sleep");
    }
}
