//! A pool that loses its workers, or cannot have them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use test_support::{Program, state, wait_until};

use crate::server::{BINARY, Model, Server, descriptors, stop};
use crate::upgrade::Successor;

models!(a_crash_loop_slows_down, prefork, thread, multiplex);
/// Workers that end before their first client are started less and less often.
fn a_crash_loop_slows_down(model: Model) {
    let mut server = model.start(&["--workers", "1"]);
    let start = Instant::now();
    let mut killed = Vec::new();
    for earliest in [0, 100, 300] {
        let next = || {
            let mut workers = server.workers().into_iter();
            workers.find(|worker| !killed.contains(worker))
        };
        let worker = wait_until("the next worker", next, Option::is_some).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(earliest));
        kill(worker, Signal::SIGKILL).unwrap();
        killed.push(worker);
    }
    server.event(); // how the first has ended
    assert_eq!(
        server.event(),
        "echo-server: a worker has ended before its first client; trying again, less and less often"
    );
    server.assert_serves();
}

#[test]
fn a_large_pool_does_not_keep_the_supervisor_from_its_signals() {
    const SIZE: usize = 5000;
    let mut server = Model("prefork").start(&["--workers", &SIZE.to_string()]);
    server.program.signal(Signal::SIGUSR1);
    let status = server.event();
    assert!(status.contains("limit 5000"), "{status}");
    assert!(server.workers().len() < SIZE);
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 0);
}

models!(workers_that_have_served_are_replaced_at_once, prefork, thread, multiplex);
/// The control of the test above.
fn workers_that_have_served_are_replaced_at_once(model: Model) {
    let mut server = model.start(&["--workers", "1"]);
    for _ in 0..10 {
        let (_client, worker) = server.connect_and_see_worker();
        kill(worker, Signal::SIGKILL).unwrap();
        let line = server.event();
        assert!(line.contains("failed: signal: 9"), "{line}");
    }
    server.assert_serves();
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.stderr.rest().len(), 1, "no word of a pause");
}

models!(idle_workers_that_are_stopped_hold_up_nobody, prefork);
/// The kernel wakes up one worker for each client, and it is not one of those.
fn idle_workers_that_are_stopped_hold_up_nobody(model: Model) {
    let server = model.start(&["--workers", "4"]);
    let clients = server.connect_many(4);
    let workers = server.workers();
    drop(clients);
    server.assert_is_at_rest(model);
    workers[1..].iter().for_each(|worker| stop(*worker));
    for _ in 0..20 {
        server.assert_serves();
    }
}

models!(a_worker_that_says_anything_of_itself_does_no_harm, prefork);
/// Somebody has broken into it, and writes numbers of which the sum is no number, into a file that
/// is longer than any memory.
fn a_worker_that_says_anything_of_itself_does_no_harm(model: Model) {
    let mut server = model.start(&["--workers", "2", "--max-per-source", "2"]);
    drop(server.connect_many(2));
    server.assert_is_at_rest(model);
    let folder = format!("/proc/{}/fd", server.program.pid());
    let entries = fs::read_dir(folder).unwrap().flatten();
    let mut files = entries.map(|entry| entry.path());
    let is_board = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|link| link.display().to_string().contains("scoreboard"))
    };
    let board = files.find(is_board).unwrap();
    let board = File::options().write(true).open(board).unwrap();
    board.write_all_at(&[0xff; 2 * 40], 0).unwrap();
    board.set_len(1 << 60).unwrap();
    server.program.signal(Signal::SIGUSR1);
    server.program.stderr.next_with("status: ");
    for worker in server.workers() {
        kill(worker, Signal::SIGKILL).unwrap();
        server.program.stderr.next_with("failed");
    }
    server.assert_serves();
}

models!(a_worker_that_leaves_takes_the_client_that_woke_it_up, prefork);
/// 1. A client comes. Of two idle workers, the kernel wakes up the one that has waited for longer.
/// 2. Before it runs, as its processor is busy, it is ordered to leave.
///
/// The other one has not been woken up.
fn a_worker_that_leaves_takes_the_client_that_woke_it_up(model: Model) {
    let mut probe = Command::new("taskset");
    probe.args(["-c", "0", "chrt", "-i", "0", "true"]);
    if !Program::try_start(&mut probe).is_ok_and(|probe| probe.exit_code() == 0) {
        println!("skipped: needs taskset(1), chrt(1) and processor 0");
        return;
    }
    let mut server = model.start(&["--workers", "2"]);
    drop(server.connect_many(2));
    server.assert_is_at_rest(model);
    let first = server.workers()[0];
    kill(first, Signal::SIGKILL).unwrap();
    server.program.stderr.next_with("failed");
    let others = || server.workers().iter().filter(|pid| **pid != first).count();
    wait_until("a worker in its place", others, |count| *count == 2);
    server.assert_is_at_rest(model);
    let mut busy = Command::new("taskset");
    let _busy = Program::start(busy.args(["-c", "0", "sh", "-c", "while :; do :; done"]));
    for worker in server.workers() {
        // It runs when nobody else wants to, on the processor where somebody does.
        for tool in [["taskset", "-p", "-c"], ["chrt", "-i", "-p"]] {
            let mut command = Command::new(tool[0]);
            command.args(&tool[1..]).args(["0", &worker.to_string()]);
            assert_eq!(Program::start(&mut command).output().code, 0);
        }
    }
    let mut client = server.connect();
    server.program.signal(Signal::SIGTTOU);
    client.assert_echo(b"served");
}

models!(a_worker_in_a_session_lets_go_of_the_listener, prefork);
/// Both workers have a client when one of them is told to leave.
fn a_worker_in_a_session_lets_go_of_the_listener(model: Model) {
    let server = model.start(&["--workers", "2"]);
    let mut clients = server.connect_many(2);
    let workers = server.assert_workers(2);
    let shared = || {
        let servers = descriptors(server.program.pid()).into_iter();
        let mut listeners = servers.filter(|link| link.starts_with("socket:"));
        let is_held = |link: &String, pid| descriptors(pid).contains(link);
        let listener = listeners.find(|link| workers.iter().any(|pid| is_held(link, *pid)));
        listener.map_or(0, |link| workers.iter().filter(|pid| is_held(&link, **pid)).count())
    };
    assert_eq!(shared(), 2);
    server.program.signal(Signal::SIGTTOU);
    wait_until("one worker with the listener", shared, |count| *count == 1);
    for client in &mut clients {
        client.assert_echo(b"not disturbed");
    }
    drop(clients);
    server.assert_serves();
    wait_until("one worker", || server.workers(), |all| all.len() == 1);
}

models!(a_port_is_free_when_nobody_accepts_there);
/// 1. A new server takes over from one that has a session.
/// 2. The new server is killed. Nobody accepts now, so clients must be refused, and a third server can
///    have the port, although the session goes on.
fn a_port_is_free_when_nobody_accepts_there(model: Model) {
    let mut server = model.start(&["--workers", "1"]);
    let (mut session, worker) = server.connect_and_see_worker();
    server.program.signal(Signal::SIGUSR2);
    let successor = Successor::of(&mut server);
    kill(successor.id(), Signal::SIGKILL).unwrap();
    wait_until(
        "refused",
        || TcpStream::connect(server.address).err().map(|error| error.kind()),
        |error| *error == Some(ErrorKind::ConnectionRefused),
    );
    session.assert_echo(b"not disturbed");

    let port = server.address.port().to_string();
    let third = Server::run(Command::new(BINARY).args([&port, "--model", model.0]));
    assert_eq!(third.address, server.address);
    third.assert_serves();
    session.assert_echo(b"not disturbed");
    assert_ne!(state(worker), None);
    assert!(session.session(b"the end").unwrap() == b"the end");
    assert_eq!(server.program.exit_code(), 0);
}
