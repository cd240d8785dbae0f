//! What each signal to the server does.

use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use test_support::wait_until;

use crate::limits::{client_of, host};
use crate::models::{in_every_model, in_models, served, start};
use crate::server::{Model, Server, random_bytes};
use crate::upgrade::Successor;

models!(after_an_upgrade_one_term_to_both_servers_cuts_nobody_off);
/// Of a manager that kills by control group, while the old server drains. For that one it is the first.
fn after_an_upgrade_one_term_to_both_servers_cuts_nobody_off(model: Model) {
    let mut server = model.start(&["--drain-timeout", "0"]);
    let (mut client, _) = server.connect_and_see_worker();
    server.program.signal(Signal::SIGUSR2);
    let next = Successor::of(&mut server);
    let mut other = server.connect();
    other.assert_echo(b"served by the new one");
    for pid in [server.program.pid(), next.id()] {
        kill(pid, Signal::SIGTERM).unwrap();
    }
    // A worker of the old pool may have accepted the other client just before it saw that it must stop.
    let line = server.program.stderr.next_with("already draining");
    let left = ["; 1 session left to finish", "; 2 sessions left to finish"];
    assert!(left.iter().any(|left| line.ends_with(left)), "{line}");
    client.assert_echo(b"still served");
    other.assert_echo(b"still served");
    assert!(client.session(b"the end").unwrap() == b"the end");
    assert!(other.session(b"the end").unwrap() == b"the end");
    assert_eq!(server.program.exit_code(), 0);
    let pid = next.id();
    assert_eq!(next.end(), WaitStatus::Exited(pid, 0));
}

models!(after_an_upgrade_a_second_term_ends_the_old_server_at_once);
fn after_an_upgrade_a_second_term_ends_the_old_server_at_once(model: Model) {
    let mut server = model.start(&["--drain-timeout", "0"]);
    let (mut client, _) = server.connect_and_see_worker();
    server.program.signal(Signal::SIGUSR2);
    let next = Successor::of(&mut server);
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with("already draining");
    client.assert_echo(b"still served");
    server.program.signal(Signal::SIGTERM);
    client.assert_is_cut_off();
    assert_eq!(server.program.exit_code(), 1);
    server.assert_serves();
    next.terminate();
}

#[track_caller]
fn status_line(server: &mut Server) -> String {
    server.program.signal(Signal::SIGUSR1);
    server.program.stderr.next_with("status: ")
}

/// Asks for the status line until it is this one: figures are written when a session is over, and
/// clients see that earlier.
#[track_caller]
fn assert_status(server: &mut Server, expected: &str) {
    let expected = format!("echo-server: status: {expected}");
    wait_until(&expected, || status_line(server), |line| *line == expected);
}

/// Waits until no session is left.
#[track_caller]
fn assert_idle(server: &mut Server) {
    wait_until("idle", || status_line(server), |line| line.contains(" 0 active,"));
}

/// Waits until there are so many workers, more or fewer.
#[track_caller]
fn assert_workers(server: &Server, number: usize) {
    let look = || server.workers();
    wait_until("workers", look, |workers| workers.len() == number);
}

#[test]
fn the_status_line_tells_what_has_happened() {
    in_every_model(|model| {
        let mut server = start(model, &["--max-per-source=2", "--workers=3", "-v"]);
        let limit = match model {
            "fork" | "reexec" | "template" => "256",
            "prefork" => "3",
            _ => "none",
        };
        let nothing = "0 accepted, 0 refused, 0 reaped, 0 killed by signal";
        assert_status(&mut server, &format!("{model}, 0 active, limit {limit}, {nothing}"));

        // One is served by a worker that is killed, and so are the others in the pool;
        let mut client = served(&server);
        let workers = server.workers();
        for worker in &workers {
            kill(*worker, Signal::SIGKILL).unwrap();
        }
        client.assert_is_cut_off();
        // two come to their end, and are counted until their workers are reaped;
        for _ in 0..2 {
            assert_idle(&mut server);
            assert_eq!(server.connect().session(b"bye").unwrap(), b"bye");
        }
        // of three from another address, one is refused.
        let clients: Vec<_> = (0..3).map(|_| client_of(host(2), &server)).collect();
        let served: Vec<_> = clients.iter().map(|(_, is_served)| *is_served).collect();
        assert_eq!(served, [true, true, false]);

        let killed = workers.len();
        let reaped = match model {
            "fork" | "reexec" | "template" => killed + 2,
            _ => killed,
        };
        assert_status(
            &mut server,
            &format!(
                "{model}, 2 active, limit {limit}, 6 accepted, 1 refused, {reaped} reaped, {killed} killed by signal"
            ),
        );
    });
}

/// What was asked for comes also if events are not wanted.
#[test]
fn a_quiet_server_tells_its_status() {
    let mut server = start("fork", &["--max-children", "0", "--quiet"]);
    let nothing = "0 accepted, 0 refused, 0 reaped, 0 killed by signal";
    assert_status(&mut server, &format!("fork, 0 active, limit none, {nothing}"));
}

#[test]
fn the_pool_grows_and_shrinks() {
    let mut server = start("prefork", &["--workers", "1"]);
    let mut first = served(&server);
    server.program.signal(Signal::SIGTTIN);
    server.program.stderr.next_with("2 workers in the pool");
    let mut second = served(&server); // by the new one, as the other is busy
    assert_eq!(server.workers().len(), 2);

    server.program.signal(Signal::SIGTTOU);
    server.program.stderr.next_with("1 worker in the pool");
    first.assert_echo(b"not disturbed");
    second.assert_echo(b"the one that has to leave finishes its session");
    assert_eq!(server.workers().len(), 2);

    // The one that is leaving does not count.
    server.program.signal(Signal::SIGTTIN);
    server.program.stderr.next_with("2 workers in the pool");
    let third = served(&server);
    assert_eq!(server.workers().len(), 3);
    drop(third);
    server.program.signal(Signal::SIGTTOU);
    server.program.stderr.next_with("1 worker in the pool");
    drop((first, second));
    assert_workers(&server, 1);

    server.program.signal(Signal::SIGTTOU);
    server.program.stderr.next_with("1 worker in the pool");
    server.assert_serves();
    assert_eq!(server.workers().len(), 1);
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 0);
}

#[test]
fn a_worker_that_comes_and_goes_while_nobody_is_there() {
    let mut server = start("prefork", &["--workers", "2"]);
    for _ in 0..20 {
        server.program.signal(Signal::SIGTTIN);
        server.program.signal(Signal::SIGTTOU);
    }
    // Signals that merge have left a pool of any size, which the server knows.
    let look = || (status_line(&mut server), server.workers().len());
    wait_until("as many as the limit", look, |(line, workers)| {
        line.contains(&format!(" limit {workers},"))
    });
    server.assert_serves();
}

#[test]
fn others_have_no_pool() {
    in_models(&["fork", "reexec", "template", "thread", "multiplex"], |model| {
        let mut server = start(model, &[]);
        for signal in [Signal::SIGTTIN, Signal::SIGTTOU] {
            server.program.signal(signal);
            server.program.stderr.next_with("only the pool of prefork");
        }
        server.assert_serves();
    });
}

#[test]
fn quit_ends_it_at_once() {
    in_every_model(|model| {
        let server = start(model, &["--drain-timeout", "0"]);
        let mut client = served(&server);
        server.program.signal(Signal::SIGQUIT);
        assert_eq!(server.program.exit_code(), 1, "with a session");
        client.assert_is_cut_off();

        let mut server = start(model, &[]);
        server.assert_serves();
        assert_idle(&mut server);
        server.program.signal(Signal::SIGQUIT);
        assert_eq!(server.program.exit_code(), 0, "without one");
    });
}

/// Whatever comes meanwhile, to the server or to a worker: no byte is lost, and none comes twice.
#[test]
fn ten_mebibytes_in_a_storm_of_signals() {
    const TO_ALL: [Signal; 4] =
        [Signal::SIGWINCH, Signal::SIGCHLD, Signal::SIGCONT, Signal::SIGURG];
    const TO_THE_SERVER: [Signal; 3] = [Signal::SIGUSR1, Signal::SIGTTIN, Signal::SIGTTOU];
    in_every_model(|model| {
        let server = start(model, &["--workers", "2"]);
        let client = served(&server);
        let workers = server.workers();
        let sent = random_bytes(10 << 20);
        thread::scope(|scope| {
            let session = scope.spawn(|| client.session(&sent));
            let mut rounds = 0;
            while rounds < 50 || !session.is_finished() {
                for signal in TO_ALL.into_iter().chain(TO_THE_SERVER) {
                    server.program.signal(signal);
                }
                for (worker, signal) in workers.iter().zip(TO_ALL.into_iter().cycle()) {
                    // Of a pool, one may have left.
                    let _ = kill(*worker, signal);
                }
                rounds += 1;
                thread::yield_now();
            }
            let received = session.join().unwrap().unwrap();
            assert!(received == sent, "{} bytes", received.len());
        });
        server.assert_serves();
        server.program.signal(Signal::SIGTERM);
        assert_eq!(server.program.exit_code(), 0);
    });
}
