//! How the server ends: by TERM and INT when its sessions have ended, or with force.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::panic;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::WaitStatus;

use crate::processes::{reap, state, until};
use crate::server::{BINARY, Client, Server};

#[test]
fn an_idle_server_ends_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Server::start(&[]);
        server.assert_serves();
        server.assert_no_worker_is_left();
        server.program.signal(signal);
        assert_eq!(server.program.exit_code(), 0);
    }
}

#[test]
fn sessions_may_finish_but_nobody_else_is_let_in() {
    let mut server = Server::start(&["--drain-timeout", "0"]);
    let (mut client, _) = server.connect_and_see_worker();
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with("no new clients; 1 session");
    assert_refused(server.address);
    client.assert_echo(b"still served");
    assert!(client.session(b"the end").unwrap() == b"the end");
    assert_eq!(server.program.exit_code(), 0);
}

#[test]
fn at_the_deadline_sessions_are_cut_off() {
    let server = Server::start(&["--drain-timeout", "0.3"]);
    let (mut client, worker) = server.connect_and_see_worker();
    let start = Instant::now();
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 1);
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(state(worker), None, "reaped by the server");
    client.assert_is_cut_off();
}

#[test]
fn the_second_signal_ends_it_at_once() {
    for second in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::start(&["--drain-timeout", "0"]);
        let (mut client, worker) = server.connect_and_see_worker();
        server.program.signal(Signal::SIGTERM);
        server.program.stderr.next_with("no new clients");
        client.assert_echo(b"the first one let it go on");
        server.program.signal(second);
        assert_eq!(server.program.exit_code(), 1);
        assert_eq!(state(worker), None, "reaped by the server");
        client.assert_is_cut_off();
    }
}

/// A terminal sends SIGINT to all processes of its foreground group, not only to the server.
#[test]
fn sessions_may_finish_after_ctrl_c() {
    let server = Server::start(&[]);
    let (mut client, _) = server.connect_and_see_worker();
    killpg(server.program.pid(), Signal::SIGINT).unwrap();
    until(
        "refused",
        || TcpStream::connect(server.address).is_err(),
        |refused| *refused,
    );
    client.assert_echo(b"not disturbed");
    drop(client);
    assert_eq!(server.program.exit_code(), 0);
}

#[test]
fn a_worker_killed_while_draining_is_a_session_cut_off() {
    let mut server = Server::start(&[]);
    let (_client, worker) = server.connect_and_see_worker();
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with("no new clients");
    kill(worker, Signal::SIGKILL).unwrap();
    assert_eq!(server.program.exit_code(), 1);
}

#[test]
fn a_stuck_worker_does_not_outlive_the_deadline() {
    let server = Server::start(&["--drain-timeout", "0.2"]);
    let (_client, worker) = server.connect_and_see_worker();
    kill(worker, Signal::SIGSTOP).unwrap();
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 1);
    assert_eq!(state(worker), None);
}

#[test]
fn when_the_server_is_killed_nothing_remains() {
    let server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.assert_echo(b"hello");
    }
    let workers = server.workers();
    assert_eq!(workers.len(), 5);
    let start = Instant::now();
    server.program.signal(Signal::SIGKILL);
    for worker in workers {
        let killed = WaitStatus::Signaled(worker, Signal::SIGKILL, false);
        assert_eq!(reap(worker), killed);
    }
    assert!(start.elapsed() < Duration::from_secs(2));
    for client in &mut clients {
        client.assert_is_cut_off();
    }
    assert_refused(server.address);
}

/// A server that cut sessions off leaves their connections in TIME_WAIT on its side.
#[test]
fn a_new_server_can_have_the_port_at_once() {
    let server = Server::start(&["--drain-timeout", "0.01"]);
    let (_client, _) = server.connect_and_see_worker();
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 1);

    let port = server.address.port().to_string();
    let next = Server::run(Command::new(BINARY).arg(port));
    assert_eq!(next.address, server.address);
    next.assert_serves();
}

/// What a careless launcher leaves ignored or blocked is inherited through exec.
#[test]
fn signals_work_whatever_the_launcher_has_done_to_them() {
    let mut command = Command::new("env");
    command.args(["--ignore-signal=CHLD", "--block-signal=TERM", BINARY, "0"]);
    let mut server = Server::run(&mut command);
    for _ in 0..20 {
        server.assert_serves();
    }
    server.assert_no_worker_is_left();
    let (client, _) = server.connect_and_see_worker();
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with("no new clients");
    drop(client);
    assert_eq!(server.program.exit_code(), 0);
}

#[test]
fn an_ignored_sigchld_is_not_worth_a_line() {
    let mut command = Command::new("env");
    command.args(["--ignore-signal=CHLD", BINARY, "0"]);
    let server = Server::run(&mut command);
    server.assert_serves();
    server.assert_no_worker_is_left();
    server.program.signal(Signal::SIGTERM);
    let mut lines = server.program.output().stderr;
    lines.retain(|line| !line.contains(": sandbox: "));
    assert_eq!(lines.len(), 1, "{lines:?}");
}

/// What all the tests here rely on.
#[test]
fn a_failing_test_leaves_no_process() {
    let server = Server::start(&[]);
    let (_client, worker) = server.connect_and_see_worker();
    let Server { program, .. } = server;
    let pid = program.pid();
    let test = thread::spawn(move || {
        let _program = program;
        panic::resume_unwind(Box::new("a failure"));
    });
    test.join().unwrap_err();
    assert_eq!((state(pid), state(worker)), (None, None));
}

#[track_caller]
fn assert_refused(address: SocketAddr) {
    let error = TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}
