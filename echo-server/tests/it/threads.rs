//! The threads of the model `thread`: one for each client, and for a moment those whose client has left.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use test_support::wait_until;

use crate::server::{Model, Server, threads};

const THREAD: Model = Model("thread");

/// The numbers of its threads.
fn numbers(worker: Pid) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{worker}/task")).unwrap().flatten();
    entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// A server, and its one worker, which has a single thread as long as there is no client.
fn start(options: &[&str]) -> (Server, Pid) {
    let server = THREAD.start(options);
    let worker = server.assert_workers(1)[0];
    server.assert_is_at_rest(THREAD);
    (server, worker)
}

/// Waits until the clients have left, and their threads wait for others.
fn wait_until_idle(server: &Server, worker: Pid) {
    server.assert_connections(0);
    let is_asleep = |all: &Vec<_>| all.iter().all(|state| *state == Some('S'));
    wait_until("threads that wait", || threads(worker), is_asleep);
}

#[test]
fn an_idle_thread_gets_the_next_client() {
    let (server, worker) = start(&[]);
    let thread_of_a_client = || {
        let mut client = server.connect();
        client.assert_echo(b"served");
        let threads = numbers(worker);
        drop(client);
        wait_until_idle(&server, worker);
        threads
    };
    // On a busy machine, the thread may have waited long enough, and ended.
    let look = || (thread_of_a_client(), thread_of_a_client());
    let (first, _) = wait_until("the same thread for two clients", look, |(a, b)| a == b);
    assert_eq!(first.len(), 2, "one accepts, and one serves: {first:?}");
}

#[test]
fn there_are_as_many_threads_as_clients_need() {
    let (server, worker) = start(&[]);
    for clients in [1, 5, 20] {
        // Idle threads may be there, but not enough of them: nobody waits for another's end.
        let served = server.connect_many(clients);
        assert_eq!(numbers(worker).len(), 1 + clients);
        drop(served);
        wait_until_idle(&server, worker);
    }
    wait_until("one thread", || threads(worker), |all| all.len() == 1);
    // And then it begins again.
    let _served = server.connect_many(3);
    assert_eq!(numbers(worker).len(), 4);
}

#[test]
fn idle_threads_keep_nobody_from_ending() {
    let (server, worker) = start(&[]);
    drop(server.connect_many(20));
    wait_until_idle(&server, worker);
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 0);
}

/// At the limit, the thread that accepts sleeps until a session ends.
#[test]
fn the_end_of_a_session_makes_room_at_the_limit() {
    let (server, _) = start(&["--max-children", "2"]);
    for _ in 0..3 {
        let served = server.connect_many(2);
        let mut waiting = server.connect();
        waiting.stream().write_all(b"patience").unwrap();
        waiting.assert_hears_nothing();
        drop(served);
        waiting.assert_reads(b"patience");
    }
}
