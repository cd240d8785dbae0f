//! A pool that loses its workers, or cannot have them.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::processes::until;
use crate::server::{Model, stop};

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
        let worker = until("the next worker", next, Option::is_some).unwrap();
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

models!(
    workers_that_have_served_are_replaced_at_once,
    prefork,
    thread,
    multiplex
);
/// The twin of the one above.
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
