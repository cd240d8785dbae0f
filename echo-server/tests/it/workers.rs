//! A process for each client: as many as clients, with nothing that is not theirs, and no trace
//! when they have ended.

use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

use crate::processes::{Program, assert_zombie, closed_pipe, state, until};
use crate::server::{BINARY, Client, Server, blocks, descriptors, flood, random_bytes};

#[test]
fn five_clients_have_five_workers_and_then_none_is_left() {
    let server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.assert_echo(b"hello");
    }
    assert_eq!(server.workers().len(), 5);
    drop(clients);
    server.assert_no_worker_is_left();
}

/// The twin: while the server cannot reap, the same look shows zombies.
#[test]
fn a_server_that_is_stopped_leaves_zombies_until_it_goes_on() {
    let server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.assert_echo(b"hello");
    }
    server.program.signal(Signal::SIGSTOP);
    drop(clients);
    for worker in server.assert_workers(5) {
        assert_zombie(worker);
    }
    server.program.signal(Signal::SIGCONT);
    server.assert_no_worker_is_left();
    server.assert_serves();
}

#[test]
fn three_thousand_clients_leave_no_trace() {
    let server = Server::start(&[]);
    server.assert_serves();
    server.assert_no_worker_is_left();
    let before = descriptors(server.program.pid());

    assert_eq!(flood(server.address, 3_000, 32), [""; 0]);
    server.assert_no_worker_is_left();
    assert_eq!(descriptors(server.program.pid()), before);
}

#[test]
fn clients_that_come_and_go_without_a_word_leave_no_trace() {
    let server = Server::start(&[]);
    for _ in 0..500 {
        drop(server.connect());
    }
    // After this one, so after all that were in the queue before it.
    server.assert_serves();
    server.assert_no_worker_is_left();
}

#[test]
fn a_worker_has_stdio_and_its_connection_and_nothing_else() {
    let server = Server::start(&[]);
    let (_first, _) = server.connect_and_see_worker();
    let (_second, worker) = server.connect_and_see_worker();
    // Of what this process has, too, stdio is meant, and the rest was leaked into it.
    let known = [descriptors(Pid::this()), vec!["/dev/null".to_owned()]].concat();
    let mut own = descriptors(worker);
    own.retain(|link| !known.contains(link));
    assert_eq!(own.len(), 1, "{own:?}");
    assert!(own[0].starts_with("socket:"), "{own:?}");
    // Not the listener: that one the server has, too.
    let servers = descriptors(server.program.pid());
    assert!(!servers.contains(&own[0]), "{own:?} {servers:?}");
}

#[test]
fn a_worker_has_nothing_that_was_leaked_into_the_server() {
    let server = Server::start_by_shell("exec \"$0\" 0 9</dev/zero");
    let (_client, worker) = server.connect_and_see_worker();
    let workers = descriptors(worker);
    assert!(!workers.contains(&"/dev/zero".to_owned()), "{workers:?}");
}

#[test]
fn a_worker_is_not_deaf_to_signals() {
    let server = Server::start(&[]);
    let (_client, worker) = server.connect_and_see_worker();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        assert!(!blocks(worker, signal as u32), "{signal}");
    }
    // Whereas the server takes them in its loop.
    assert!(blocks(server.program.pid(), Signal::SIGTERM as u32));
}

#[test]
fn a_worker_that_is_killed_costs_only_its_client() {
    let mut server = Server::start(&[]);
    let (mut other, _) = server.connect_and_see_worker();
    for (signal, name) in [
        (Signal::SIGKILL, "9 (SIGKILL)"),
        (Signal::SIGTERM, "15 (SIGTERM)"),
    ] {
        let (mut client, worker) = server.connect_and_see_worker();
        kill(worker, signal).unwrap();
        client.assert_is_cut_off();
        let line = server.event();
        assert_eq!(
            line,
            format!("echo-server: worker {worker} failed: signal: {name}")
        );
        other.assert_echo(b"not disturbed");
        server.assert_serves();
    }
    drop(other);
    server.assert_no_worker_is_left();
}

/// The client sends without reading, until its worker is stuck in a write, and then resets.
#[test]
fn a_client_that_resets_leaves_no_trace() {
    let mut server = Server::start(&[]);
    let (mut client, worker) = server.connect_and_see_worker();
    fill(&mut client, worker);
    reset_on_close(client.stream());
    drop(client);
    server.assert_no_worker_is_left();

    // While the worker waits for input.
    let (mut client, _) = server.connect_and_see_worker();
    reset_on_close(client.stream());
    drop(client);
    server.assert_no_worker_is_left();

    server.assert_serves();
    server.program.signal(Signal::SIGTERM);
    let mut lines = server.program.stderr.rest();
    lines.retain(|line| !line.contains(": sandbox: "));
    assert_eq!(lines.len(), 1, "a reset is no event: {lines:?}");
}

/// Stopped and continued, a process in the middle of a long write comes out of it early.
#[test]
fn a_worker_that_is_interrupted_in_a_write_loses_nothing() {
    let server = Server::start(&[]);
    let (mut client, worker) = server.connect_and_see_worker();
    let sent = fill(&mut client, worker);
    kill(worker, Signal::SIGSTOP).unwrap();
    until("T", || state(worker), |state| *state == Some('T'));
    kill(worker, Signal::SIGCONT).unwrap();
    let received = client.session(b"").unwrap();
    assert_eq!(received.len(), sent.len());
    assert!(received == sent);
}

/// Sends without reading, until all buffers are full and the worker is stuck in a write. Returns
/// what was sent.
fn fill(client: &mut Client, worker: Pid) -> Vec<u8> {
    let piece = random_bytes(99_991);
    let mut sent = Vec::new();
    let stream = client.stream();
    stream.set_nonblocking(true).unwrap();
    until(
        "buffers are full, and the worker sleeps",
        || match stream.write(&piece) {
            Ok(length) => {
                sent.extend_from_slice(&piece[..length]);
                None
            }
            Err(_) => state(worker),
        },
        |state| *state == Some('S'),
    );
    stream.set_nonblocking(false).unwrap();
    sent
}

fn reset_on_close(stream: &impl AsFd) {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(stream, sockopt::Linger, &at_once).unwrap();
}

#[test]
fn at_the_limit_clients_wait_in_the_queue() {
    let server = Server::start(&["--max-children", "2"]);
    let (first, _) = server.connect_and_see_worker();
    let (mut second, _) = server.connect_and_see_worker();
    let mut third = server.connect();
    third.stream().write_all(b"patience").unwrap();
    third.assert_hears_nothing();
    assert_eq!(server.workers().len(), 2);
    second.assert_echo(b"not disturbed");

    assert!(first.session(b"").unwrap().is_empty());
    third.assert_reads(b"patience");
    assert_eq!(server.workers().len(), 2);
}

/// The twin of the one above.
#[test]
fn no_limit() {
    let server = Server::start(&["--max-children", "0"]);
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.assert_echo(b"hello");
    }
    assert_eq!(server.workers().len(), 20);
}

#[test]
fn the_limit_holds_in_a_flood() {
    let server = Server::start(&["--max-children", "3"]);
    let address = server.address;
    let clients = thread::spawn(move || flood(address, 200, 16));
    while !clients.is_finished() {
        let workers = server.workers();
        assert!(workers.len() <= 3, "{workers:?}");
    }
    assert_eq!(clients.join().unwrap(), [""; 0]);
    server.assert_no_worker_is_left();
}

#[test]
fn nobody_reads_the_log() {
    let mut command = Command::new(BINARY);
    command
        .arg("0")
        .stdout(Stdio::piped())
        .stderr(closed_pipe());
    let server = Server::of(Program::try_start(&mut command).unwrap());
    let (mut client, worker) = server.connect_and_see_worker();
    kill(worker, Signal::SIGKILL).unwrap(); // worth a line
    client.assert_is_cut_off();
    server.assert_serves();
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 0);
}
