//! Workers: they have nothing that is not theirs, they leave no trace, and what happens to one of
//! them happens to its clients and to nobody else.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use test_support::{
    Program, assert_sleeps, assert_zombie, closed_pipe, full_device, state, wait_until,
};

use crate::server::{Model, Server, descriptors, flood, random_bytes, signals, stop};

models!(a_process_for_each_client, fork, reexec, template);
fn a_process_for_each_client(model: Model) {
    let server = model.start(&[]);
    assert_eq!(server.workers().len(), 0);
    let clients = server.connect_many(5);
    assert_eq!(server.workers().len(), 5);
    drop(clients);
    server.assert_no_worker_is_left();
}

models!(no_process_more_for_a_client, prefork, thread, multiplex);
fn no_process_more_for_a_client(model: Model) {
    let server = model.start(&[]);
    let size = if model.has_one_worker() { 1 } else { 16 };
    let workers = server.assert_workers(size);
    let clients = server.connect_many(5);
    assert_eq!(server.workers(), workers);
    drop(clients);
    server.assert_is_at_rest(model);
    assert_eq!(server.workers(), workers);
}

models!(zombies_until_the_server_goes_on);
/// The control of all tests that see no zombie: while the server cannot reap, the same look shows
/// them. And however many have ended meanwhile, none is overlooked then.
fn zombies_until_the_server_goes_on(model: Model) {
    let server = model.start(&[]);
    let clients = server.connect_many(16);
    let workers = server.workers();
    stop(server.maker());
    for worker in &workers {
        kill(*worker, Signal::SIGKILL).unwrap();
    }
    for worker in &workers {
        assert_zombie(*worker);
    }
    drop(clients);
    kill(server.maker(), Signal::SIGCONT).unwrap();
    let left = || workers.iter().filter(|worker| state(**worker).is_some());
    wait_until("all reaped", || left().count(), |left| *left == 0);
    server.assert_serves();
    server.assert_is_at_rest(model);
}

// A fresh image for each client takes its time, so there are fewer of them below.

models!(thousands_of_clients_leave_no_trace);
fn thousands_of_clients_leave_no_trace(model: Model) {
    let server = model.start(&[]);
    let count = if model.0 == "reexec" { 600 } else { 3_000 };
    server.assert_leaves_no_trace(model, || {
        assert_eq!(flood(server.address, count, 32), [""; 0]);
    });
}

models!(clients_that_come_and_go_without_a_word_leave_no_trace);
fn clients_that_come_and_go_without_a_word_leave_no_trace(model: Model) {
    let server = model.start(&[]);
    let count = if model.0 == "reexec" { 600 } else { 2_000 };
    server.assert_leaves_no_trace(model, || {
        for _ in 0..count / 100 {
            (0..100).for_each(|_| drop(server.connect()));
            // After this one, so after all that were in the queue before it.
            server.assert_serves();
        }
    });
}

models!(a_client_that_resets_leaves_no_trace);
/// Once while the worker cannot send, once while it waits for input, once before it was served.
fn a_client_that_resets_leaves_no_trace(model: Model) {
    let mut server = model.start(&[]);
    server.assert_leaves_no_trace(model, || {
        let (mut client, worker) = server.connect_and_see_worker();
        client.fill(worker);
        client.reset();
        server.connect_and_see_worker().0.reset();
        server.connect().reset();
    });
    server.program.signal(Signal::SIGTERM);
    let mut lines = server.program.stderr.rest();
    lines.retain(|line| !line.contains(": sandbox: "));
    assert_eq!(lines.len(), 1, "a reset is no event: {lines:?}");
}

models!(a_worker_has_stdio_and_its_connection_and_nothing_else, fork, reexec, template);
fn a_worker_has_stdio_and_its_connection_and_nothing_else(model: Model) {
    let server = model.start(&[]);
    let (_first, _) = server.connect_and_see_worker();
    let (_second, worker) = server.connect_and_see_worker();
    // Before it rests, the server may still have its copy of the connection.
    assert_sleeps(server.program.pid());
    let servers = descriptors(server.program.pid());
    // Not the listener: that one the server has, too.
    let (shared, own): (Vec<_>, Vec<_>) =
        own_descriptors(worker).into_iter().partition(|link| servers.contains(link));
    assert_eq!(own.len(), 1, "{own:?}");
    assert!(own[0].starts_with("socket:"), "{own:?}");
    // The lifeline, of which the server has the other end.
    let kinds: Vec<_> = shared.iter().map(|link| kind(link)).collect();
    let expected = if model.0 == "reexec" { vec!["pipe"] } else { vec![] };
    assert_eq!(kinds, expected, "{shared:?}");
}

models!(a_worker_has_what_it_takes_clients_with_and_nothing_else, prefork, thread, multiplex);
fn a_worker_has_what_it_takes_clients_with_and_nothing_else(model: Model) {
    let server = model.start(&[]);
    drop(server.connect_many(16));
    server.assert_is_at_rest(model);
    let pools: Vec<_> = server.workers().into_iter().map(own_descriptors).collect();
    let servers = own_descriptors(server.program.pid());
    for own in &pools {
        let kinds: BTreeSet<_> = own.iter().map(|link| kind(link)).collect();
        let mut expected = BTreeSet::from(["socket", "pipe", "memfd", "eventpoll"]);
        if model.0 == "thread" {
            expected.insert("eventfd");
        }
        assert_eq!(kinds, expected, "{own:?}");
        assert_eq!(own.len(), expected.len(), "one of each: {own:?}");
        // The listener and the scoreboard are everybody's; orders are for one.
        let pipe = own.iter().find(|link| link.starts_with("pipe:"));
        let holders = pools.iter().filter(|other| other.contains(pipe.unwrap()));
        assert_eq!(holders.count(), 1);
        for link in own.iter().filter(|link| !link.starts_with("anon_inode:")) {
            assert!(servers.contains(link), "{link} {servers:?}");
        }
    }
}

/// Such as `socket`, of `socket:[4711]`.
fn kind(link: &str) -> &str {
    let link = link.trim_start_matches("anon_inode:");
    let link = link.trim_start_matches(['[', '/']);
    link.split([':', ']']).next().unwrap()
}

/// Without stdio, and what was leaked into this process.
fn own_descriptors(worker: Pid) -> Vec<String> {
    let known = [descriptors(Pid::this()), vec!["/dev/null".to_owned()]].concat();
    let mut own = descriptors(worker);
    own.retain(|link| !known.contains(link));
    own
}

models!(a_worker_has_nothing_that_was_leaked_into_the_server);
fn a_worker_has_nothing_that_was_leaked_into_the_server(model: Model) {
    let script = "exec \"$0\" \"$@\" 9</dev/zero";
    let server = model.start_by(&["sh", "-c", script], &[]);
    let (_client, worker) = server.connect_and_see_worker();
    for process in [server.program.pid(), worker] {
        let open = descriptors(process);
        assert!(!open.contains(&"/dev/zero".to_owned()), "{open:?}");
    }
}

models!(a_worker_ignores_what_the_server_takes);
fn a_worker_ignores_what_the_server_takes(model: Model) {
    let server = model.start(&[]);
    let (_client, worker) = server.connect_and_see_worker();
    let mut ignored = FOR_THE_SERVER.to_vec();
    ignored.push(Signal::SIGPIPE); // as in every Rust program
    ignored.sort();
    assert_eq!(signals(worker, "SigIgn"), ignored);
    // While it makes a thread, they are held back.
    let blocked = || signals(worker, "SigBlk");
    wait_until("nothing is blocked", blocked, Vec::is_empty);
    // Whereas the server takes them in its loop.
    let blocked = signals(server.program.pid(), "SigBlk");
    for signal in FOR_THE_SERVER {
        let is_ignored = signal == Signal::SIGHUP && nohup();
        assert!(blocked.contains(&signal) || is_ignored, "{signal}");
    }
}

/// Whether the tests were started with it.
fn nohup() -> bool {
    signals(Pid::this(), "SigIgn").contains(&Signal::SIGHUP)
}

/// What a service manager may send to every process of the server.
const FOR_THE_SERVER: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

models!(no_signal_is_too_early_for_a_worker);
/// Whenever one is born, there is somebody who sends it all that is for the server, and no client
/// notices.
fn no_signal_is_too_early_for_a_worker(model: Model) {
    let server = model.start(&["--workers", "4"]);
    let address = server.address;
    let clients = thread::spawn(move || flood(address, 300, 8));
    while !clients.is_finished() {
        for worker in server.workers() {
            for signal in FOR_THE_SERVER {
                // It may have ended since we looked.
                let _ = kill(worker, signal);
            }
        }
        if model.0 == "prefork" {
            // Another one is born.
            server.program.signal(Signal::SIGTTOU);
            server.program.signal(Signal::SIGTTIN);
        }
    }
    assert_eq!(clients.join().unwrap(), [""; 0]);
    server.program.signal(Signal::SIGTERM);
    let output = server.program.output();
    assert_eq!(output.code, 0);
    let mut failed = output.stderr;
    failed.retain(|line| line.contains("failed"));
    assert_eq!(failed, [""; 0]);
}

models!(a_worker_that_is_killed_costs_only_its_client, fork, reexec, template, prefork);
fn a_worker_that_is_killed_costs_only_its_client(model: Model) {
    let mut server = model.start(&[]);
    let (mut other, _) = server.connect_and_see_worker();
    for signal in [Signal::SIGKILL, Signal::SIGALRM] {
        assert_kills_one(&mut server, signal);
        other.assert_echo(b"not disturbed");
    }
    drop(other);
    server.assert_is_at_rest(model);
}

models!(a_worker_that_is_killed_costs_all_clients_but_not_the_next, thread, multiplex);
fn a_worker_that_is_killed_costs_all_clients_but_not_the_next(model: Model) {
    let mut server = model.start(&[]);
    for signal in [Signal::SIGKILL, Signal::SIGALRM] {
        let (mut other, _) = server.connect_and_see_worker();
        assert_kills_one(&mut server, signal);
        other.assert_is_cut_off();
    }
    server.assert_is_at_rest(model);
}

fn assert_kills_one(server: &mut Server, signal: Signal) {
    let (mut client, worker) = server.connect_and_see_worker();
    kill(worker, signal).unwrap();
    client.assert_is_cut_off();
    let number = signal as i32;
    assert_eq!(
        server.event(),
        format!("echo-server: worker {worker} failed: signal: {number} ({signal})")
    );
    server.assert_serves();
}

models!(a_worker_that_is_stopped_holds_up_only_its_client, fork, reexec, template, prefork);
fn a_worker_that_is_stopped_holds_up_only_its_client(model: Model) {
    let server = model.start(&[]);
    let (mut other, _) = server.connect_and_see_worker();
    let (mut client, worker) = server.connect_and_see_worker();
    stop(worker);
    client.stream().write_all(b"patience").unwrap();
    client.assert_hears_nothing();
    other.assert_echo(b"not disturbed");
    server.assert_serves();
    kill(worker, Signal::SIGCONT).unwrap();
    client.assert_reads(b"patience");
}

models!(a_worker_that_is_stopped_goes_on_where_it_was, thread, multiplex);
fn a_worker_that_is_stopped_goes_on_where_it_was(model: Model) {
    let server = model.start(&[]);
    let (mut client, worker) = server.connect_and_see_worker();
    stop(worker);
    client.stream().write_all(b"patience").unwrap();
    client.assert_hears_nothing();
    let mut next = server.connect();
    next.stream().write_all(b"in the queue").unwrap();
    kill(worker, Signal::SIGCONT).unwrap();
    client.assert_reads(b"patience");
    next.assert_reads(b"in the queue");
}

models!(a_worker_that_is_interrupted_in_a_write_loses_nothing);
/// Stopped and continued, a process in the middle of a long write comes out of it early.
fn a_worker_that_is_interrupted_in_a_write_loses_nothing(model: Model) {
    let server = model.start(&[]);
    let (mut client, worker) = server.connect_and_see_worker();
    let sent = client.fill(worker);
    stop(worker);
    kill(worker, Signal::SIGCONT).unwrap();
    let received = client.session(b"").unwrap();
    assert_eq!(received.len(), sent.len());
    assert!(received == sent);
}

models!(at_the_limit_clients_wait_in_the_queue);
fn at_the_limit_clients_wait_in_the_queue(model: Model) {
    let server = model.start(&[model.limit(), "2"]);
    let mut served = server.connect_many(2);
    let mut waiting: Vec<_> = (0..5).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.stream().write_all(b"patience").unwrap();
    }
    waiting[0].assert_hears_nothing();
    waiting[4].assert_hears_nothing();
    server.assert_connections(2);
    served[1].assert_echo(b"not disturbed");

    // One leaves, and the next is served, and so on.
    served.remove(0);
    for mut client in waiting {
        client.assert_reads(b"patience");
    }
    served[0].assert_echo(b"not disturbed");
}

models!(without_the_limit_nobody_waits);
/// The control of the test above.
fn without_the_limit_nobody_waits(model: Model) {
    let limit = if model.0 == "prefork" { "20" } else { "0" };
    let server = model.start(&[model.limit(), limit]);
    let _clients = server.connect_many(20);
    server.assert_connections(20);
}

models!(the_limit_holds_in_a_flood);
fn the_limit_holds_in_a_flood(model: Model) {
    let server = model.start(&[model.limit(), "3"]);
    let address = server.address;
    let clients = thread::spawn(move || flood(address, 200, 16));
    let look = || {
        if model.has_pool() {
            return server.connections();
        }
        let workers = server.workers().into_iter();
        workers.map(|pid| pid.to_string()).collect()
    };
    // A look takes its time; what two of them see was there at the same time.
    let mut before = BTreeSet::new();
    while !clients.is_finished() {
        let now = look();
        assert!(now.intersection(&before).count() <= 3, "{now:?} {before:?}");
        before = now;
    }
    assert_eq!(clients.join().unwrap(), [""; 0]);
    server.assert_is_at_rest(model);
}

models!(nobody_reads_the_log);
/// Not of the server, and not of its workers: to a closed pipe, and to a full disk.
fn nobody_reads_the_log(model: Model) {
    for log in [closed_pipe(), full_device()] {
        let mut command = model.command(&[], &["--verbose"]);
        command.stdout(Stdio::piped()).stderr(log);
        let server = Server::of(Program::try_start(&mut command).unwrap());
        server.assert_serves();
        let (mut client, worker) = server.connect_and_see_worker();
        kill(worker, Signal::SIGKILL).unwrap(); // worth a line
        client.assert_is_cut_off();
        let (mut client, _) = server.connect_and_see_worker();
        client.assert_echo(&random_bytes(100_000));
        drop(client);
        server.assert_is_at_rest(model);
        server.program.signal(Signal::SIGTERM);
        assert_eq!(server.program.exit_code(), 0);
    }
}
