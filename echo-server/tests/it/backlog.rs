//! `--drain-backlog`: at TERM, the server also serves the clients that wait in the kernel's queue.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use test_support::{assert_sleeps, state, wait_until};

use crate::errors::{strace_works, tampering};
use crate::models::served;
use crate::server::{BINARY, Client, Model, Server, stop};

/// What each client sends, before anybody has accepted it.
const REQUEST: &[u8] = b"sent while nobody has accepted us";

const EXCEPT_THE_QUEUE: &str = "no new clients, except those in the kernel's queue; ";

/// Clients that are connected, and have sent everything, and that the server has not accepted.
#[track_caller]
fn queue(server: &Server, number: usize) -> Vec<Client> {
    let connect = |_| {
        let mut client = server.connect();
        client.stream().write_all(REQUEST).unwrap();
        client.stream().shutdown(Shutdown::Write).unwrap();
        client
    };
    (0..number).map(connect).collect()
}

/// Everything comes back, and then the end of the stream.
#[track_caller]
fn assert_is_served(mut client: Client) {
    let mut received = Vec::new();
    client.stream().read_to_end(&mut received).unwrap();
    assert!(received == REQUEST, "not what was sent: {} bytes", received.len());
}

/// A new client is neither let in nor refused: the kernel ignores it.
#[track_caller]
fn assert_ignored(server: &Server) {
    let short = Duration::from_millis(100);
    let error = TcpStream::connect_timeout(&server.address, short).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[track_caller]
fn assert_refused(server: &Server) {
    let error = TcpStream::connect(server.address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

/// Serves one client at a time, and is serving one.
#[track_caller]
fn full(model: Model, options: &[&str]) -> (Server, Client) {
    let options = [&[model.limit(), "1", "--drain-timeout", "0"], options].concat();
    let server = model.start(&options);
    let mut client = server.connect();
    client.assert_echo(b"served");
    (server, client)
}

models!(a_full_server_serves_its_queue_before_it_ends);
fn a_full_server_serves_its_queue_before_it_ends(model: Model) {
    let (mut server, mut first) = full(model, &["--drain-backlog"]);
    let clients = queue(&server, 20);
    server.program.signal(Signal::SIGTERM);
    let line = server.program.stderr.next_with(EXCEPT_THE_QUEUE);
    assert!(line.ends_with("1 session left to finish"), "{line}");
    first.assert_echo(b"still served");
    assert_ignored(&server);
    assert!(first.session(b"the end").unwrap() == b"the end");
    clients.into_iter().for_each(assert_is_served);
    server.program.stderr.next_with("the kernel's queue is empty; ");
    assert_eq!(server.program.exit_code(), 0);
    assert_refused(&server);
}

models!(without_the_option_the_queue_is_cut_off);
/// The control.
fn without_the_option_the_queue_is_cut_off(model: Model) {
    let (mut server, mut first) = full(model, &[]);
    let mut clients = queue(&server, 20);
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with("no new clients; 1 session left");
    for client in &mut clients {
        client.assert_is_cut_off();
    }
    assert_refused(&server);
    first.assert_echo(b"still served");
    drop(first);
    assert_eq!(server.program.exit_code(), 0);
}

/// While these processes stand still, a queue forms.
#[track_caller]
fn standing_still<T>(processes: &[Pid], what: impl FnOnce() -> T) -> T {
    for pid in processes {
        stop(*pid);
    }
    let result = what();
    for pid in processes {
        kill(*pid, Signal::SIGCONT).unwrap();
    }
    result
}

models!(whoever_came_before_term_is_served);
/// The server finds the clients and TERM at the same moment.
fn whoever_came_before_term_is_served(model: Model) {
    for _ in 0..3 {
        let server = model.start(&["--drain-backlog"]);
        server.assert_serves();
        server.assert_is_at_rest(model);
        assert_serves_who_came_before_term(server);
    }
}

#[track_caller]
pub(crate) fn assert_serves_who_came_before_term(server: Server) {
    let processes = [vec![server.program.pid()], server.workers()].concat();
    let clients = standing_still(&processes, || {
        let clients = queue(&server, 20);
        server.program.signal(Signal::SIGTERM);
        clients
    });
    clients.into_iter().for_each(assert_is_served);
    assert_eq!(server.program.exit_code(), 0);
}

models!(
    a_queue_that_is_not_served_by_the_deadline_is_a_session_cut_off,
    prefork,
    thread,
    multiplex
);
fn a_queue_that_is_not_served_by_the_deadline_is_a_session_cut_off(model: Model) {
    let mut server = model.start(&["--workers", "1", "--drain-backlog", "--drain-timeout", "0.3"]);
    let worker = server.assert_workers(1)[0];
    server.assert_serves();
    server.assert_is_at_rest(model);
    stop(worker);
    let mut clients = queue(&server, 1);
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with(&format!("{EXCEPT_THE_QUEUE}0 sessions"));
    server.program.stderr.next_with("clients in the kernel's queue turned away");
    clients[0].assert_is_cut_off();
    assert_eq!((server.program.exit_code(), state(worker)), (1, None));
}

models!(a_queue_that_cannot_be_served_is_a_session_cut_off);
/// The kernel refuses the filter, for want of memory. No client in the queue is no session.
fn a_queue_that_cannot_be_served_is_a_session_cut_off(model: Model) {
    if !strace_works() {
        return;
    }
    // With three calls before, the server has prepared the listener.
    let what = "inject=setsockopt:error=ENOMEM:when=4";
    let launcher = tampering("trace=setsockopt", what);
    for (in_queue, code) in [(0, 0), (2, 1)] {
        let options = [model.limit(), "1", "--drain-backlog", "--sandbox", "off"];
        let mut server = model.start_by(&launcher, &options);
        let first = served(&server);
        let mut clients = queue(&server, in_queue);
        server.program.signal(Signal::SIGTERM);
        let line = server.program.stderr.next_with("cannot keep new clients out");
        assert!(line.ends_with("; those in it are turned away"), "{line}");
        server.program.stderr.next_with("no new clients; 1 session left to finish");
        for client in &mut clients {
            client.assert_is_cut_off();
        }
        assert!(first.session(b"the end").unwrap() == b"the end");
        assert_eq!(server.program.exit_code(), code);
    }
}

models!(the_second_signal_cuts_off_the_queue);
fn the_second_signal_cuts_off_the_queue(model: Model) {
    let (mut server, mut first) = full(model, &["--drain-backlog"]);
    let mut clients = queue(&server, 1);
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with(EXCEPT_THE_QUEUE);
    // It is as good as stopped: there is nothing to hand over.
    server.program.signal(Signal::SIGUSR2);
    server.program.stderr.next_with("cannot upgrade: already draining");
    first.assert_echo(b"not disturbed");
    server.program.signal(Signal::SIGTERM);
    first.assert_is_cut_off();
    clients[0].assert_is_cut_off();
    assert_eq!(server.program.exit_code(), 1);
}

models!(a_worker_killed_while_the_queue_is_served_is_a_session_cut_off);
/// And the others are served all the same: a pool gets another worker.
fn a_worker_killed_while_the_queue_is_served_is_a_session_cut_off(model: Model) {
    let options = [model.limit(), "1", "--drain-backlog"];
    let mut server = model.start(&options);
    let (mut first, worker) = server.connect_and_see_worker();
    let clients = queue(&server, 5);
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with(EXCEPT_THE_QUEUE);
    kill(worker, Signal::SIGKILL).unwrap();
    first.assert_is_cut_off();
    clients.into_iter().for_each(assert_is_served);
    assert_eq!(server.program.exit_code(), 1);
}

models!(an_idle_server_waits_for_handshakes_and_ends);
fn an_idle_server_waits_for_handshakes_and_ends(model: Model) {
    let mut server = model.start(&["--drain-backlog"]);
    server.assert_serves();
    server.assert_is_at_rest(model);
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with("the kernel's queue is empty; 0 sessions left to finish");
    assert_eq!(server.program.exit_code(), 0);
}

/// The filter on the listener reads packets of IPv6 just as well, and those of IPv4 to the same socket.
#[test]
fn the_queue_is_served_on_every_address() {
    for address in ["[::1]:0", ":0"] {
        if let Err(error) = TcpListener::bind("[::1]:0") {
            println!("skipped, no IPv6 here: {error}");
            return;
        }
        let mut command = Command::new(BINARY);
        command.args([address, "--max-children", "1", "--drain-backlog"]);
        let mut server = Server::run(&mut command);
        if address == ":0" {
            server.address = ([127, 0, 0, 1], server.address.port()).into();
        }
        let mut first = server.connect();
        first.assert_echo(b"served");
        let clients = queue(&server, 5);
        server.program.signal(Signal::SIGTERM);
        server.program.stderr.next_with(EXCEPT_THE_QUEUE);
        assert_ignored(&server);
        assert_sleeps(server.program.pid());
        drop(first);
        clients.into_iter().for_each(assert_is_served);
        assert_eq!(server.program.exit_code(), 0);
    }
}

/// As the next server does that is started on the same port.
#[test]
fn the_port_is_free_when_the_queue_is_empty() {
    let (mut server, first) = full(Model("fork"), &["--drain-backlog"]);
    let clients = queue(&server, 5);
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with(EXCEPT_THE_QUEUE);
    let taken = TcpListener::bind(server.address).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    drop(first);
    // One client stays, and the next server does not wait for it.
    let mut clients = clients.into_iter();
    let mut last = clients.next_back().unwrap();
    clients.for_each(assert_is_served);
    server.program.stderr.next_with("the kernel's queue is empty; ");
    let next = wait_until("the port", || TcpListener::bind(server.address), Result::is_ok);
    last.assert_reads(REQUEST);
    drop(next);
}
