//! How the server ends: by TERM and INT when its sessions have ended, or with force.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::panic;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use test_support::{assert_zombie, reap, state, wait_until};

use crate::server::{BINARY, Client, Model, Server, stop};

models!(an_idle_server_ends_at_once);
fn an_idle_server_ends_at_once(model: Model) {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = model.start(&[]);
        server.assert_serves();
        server.assert_is_at_rest(model);
        server.program.signal(signal);
        assert_eq!(server.program.exit_code(), 0);
    }
}

models!(sessions_may_finish_but_nobody_else_is_let_in);
fn sessions_may_finish_but_nobody_else_is_let_in(model: Model) {
    let mut server = model.start(&["--drain-timeout", "0"]);
    let (mut client, _) = server.connect_and_see_worker();
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with("no new clients; 1 session");
    assert_refused(server.address);
    client.assert_echo(b"still served");
    assert!(client.session(b"the end").unwrap() == b"the end");
    assert_eq!(server.program.exit_code(), 0);
}

models!(at_the_deadline_sessions_are_cut_off);
fn at_the_deadline_sessions_are_cut_off(model: Model) {
    let server = model.start(&["--drain-timeout", "0.3"]);
    let (mut client, worker) = server.connect_and_see_worker();
    let start = Instant::now();
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 1);
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(state(worker), None, "reaped by the server");
    client.assert_is_cut_off();
}

models!(the_second_signal_ends_it_at_once);
fn the_second_signal_ends_it_at_once(model: Model) {
    for second in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = model.start(&["--drain-timeout", "0"]);
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

models!(sessions_may_finish_after_ctrl_c);
/// A terminal sends SIGINT to all processes of its foreground group, not only to the server.
fn sessions_may_finish_after_ctrl_c(model: Model) {
    let server = model.start(&[]);
    let (mut client, _) = server.connect_and_see_worker();
    // With its first step, a worker leaves the server's group. Of a pool, some may just be starting.
    let in_group = || server.program.rest_of_group();
    wait_until("no worker in the server's group", in_group, Vec::is_empty);
    killpg(server.program.pid(), Signal::SIGINT).unwrap();
    wait_until("refused", || TcpStream::connect(server.address).is_err(), |refused| *refused);
    client.assert_echo(b"not disturbed");
    drop(client);
    assert_eq!(server.program.exit_code(), 0);
}

models!(sessions_may_finish_when_every_process_is_told_to_stop);
/// As systemd does by default, which kills by control group: nothing tells it the server from a worker.
fn sessions_may_finish_when_every_process_is_told_to_stop(model: Model) {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        for workers_first in [true, false] {
            let mut server = model.start(&["--drain-timeout", "0"]);
            let (mut client, _) = server.connect_and_see_worker();
            tell_every_process(&server, signal, workers_first);
            server.program.stderr.next_with("no new clients; 1 session");
            client.assert_echo(b"still served");
            assert!(client.session(b"the end").unwrap() == b"the end");
            assert_eq!(server.program.exit_code(), 0);
        }
    }
}

models!(a_worker_killed_when_every_process_is_told_to_stop_is_a_session_cut_off);
fn a_worker_killed_when_every_process_is_told_to_stop_is_a_session_cut_off(model: Model) {
    let mut server = model.start(&["--drain-timeout", "0"]);
    let (mut client, worker) = server.connect_and_see_worker();
    tell_every_process(&server, Signal::SIGTERM, true);
    server.program.stderr.next_with("no new clients; 1 session");
    client.assert_echo(b"still served");
    kill(worker, Signal::SIGKILL).unwrap();
    client.assert_is_cut_off();
    assert_eq!(server.program.exit_code(), 1);
}

fn tell_every_process(server: &Server, signal: Signal, workers_first: bool) {
    let mut processes = server.workers();
    let position = if workers_first { processes.len() } else { 0 };
    processes.insert(position, server.program.pid());
    for process in processes {
        // A worker of a pool without a client may have ended because the server was told before.
        let _ = kill(process, signal);
    }
}

/// Happens while the server looks the other way, and who makes the workers, too. So they see all of it
/// at once.
#[track_caller]
fn at_once(model: Model, what: impl Fn(&Server, Pid)) -> (Server, Client) {
    let server = model.start(&["--drain-timeout", "0"]);
    let (client, worker) = server.connect_and_see_worker();
    let maker = server.maker();
    [server.program.pid(), maker].into_iter().for_each(stop);
    what(&server, worker);
    [maker, server.program.pid()].iter().for_each(|pid| kill(*pid, Signal::SIGCONT).unwrap());
    (server, client)
}

fn killed(worker: Pid) {
    kill(worker, Signal::SIGKILL).unwrap();
    assert_zombie(worker);
}

models!(the_exit_code_does_not_depend_on_what_is_seen_first);
/// A session was cut off when the server was told to end, or shortly before.
fn the_exit_code_does_not_depend_on_what_is_seen_first(model: Model) {
    let ways_to_end: [&[Signal]; 4] = [
        &[Signal::SIGTERM],
        &[Signal::SIGINT],
        &[Signal::SIGQUIT],
        &[Signal::SIGTERM, Signal::SIGINT], // the second one ends it at once
    ];
    for signals in ways_to_end {
        for signals_first in [true, false] {
            let (server, mut client) = at_once(model, |server, worker| {
                if !signals_first {
                    killed(worker);
                }
                for signal in signals {
                    server.program.signal(*signal);
                }
                if signals_first {
                    killed(worker);
                }
            });
            assert_eq!(server.program.exit_code(), 1, "{signals:?} {signals_first}");
            client.assert_is_cut_off();
        }
    }
}

models!(a_session_that_has_finished_is_not_cut_off_whatever_is_seen_first, fork, reexec);
fn a_session_that_has_finished_is_not_cut_off_whatever_is_seen_first(model: Model) {
    let ways_to_end: [&[Signal]; 3] =
        [&[Signal::SIGTERM], &[Signal::SIGQUIT], &[Signal::SIGTERM, Signal::SIGINT]];
    for signals in ways_to_end {
        let server = model.start(&["--drain-timeout", "0"]);
        let (client, worker) = server.connect_and_see_worker();
        stop(server.program.pid());
        assert!(client.session(b"the end").unwrap() == b"the end");
        assert_zombie(worker);
        for signal in signals {
            server.program.signal(*signal);
        }
        server.program.signal(Signal::SIGCONT);
        assert_eq!(server.program.exit_code(), 0, "{signals:?}");
    }
}

models!(a_worker_that_was_killed_before_is_no_session_cut_off);
/// The control: what the server has seen before it was told to end is another matter.
fn a_worker_that_was_killed_before_is_no_session_cut_off(model: Model) {
    let mut server = model.start(&[]);
    let (_client, worker) = server.connect_and_see_worker();
    kill(worker, Signal::SIGKILL).unwrap();
    server.program.stderr.next_with("failed: signal: 9");
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 0);
}

models!(an_idle_worker_killed_while_draining_is_no_session, prefork);
fn an_idle_worker_killed_while_draining_is_no_session(model: Model) {
    let mut server = model.start(&["--workers", "1"]);
    let worker = server.assert_workers(1)[0];
    server.assert_serves();
    server.assert_is_at_rest(model);
    stop(worker);
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with("no new clients; 0 sessions");
    kill(worker, Signal::SIGKILL).unwrap();
    assert_eq!(server.program.exit_code(), 0);
}

models!(a_worker_killed_while_draining_is_a_session_cut_off);
fn a_worker_killed_while_draining_is_a_session_cut_off(model: Model) {
    let mut server = model.start(&[]);
    let (_client, worker) = server.connect_and_see_worker();
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with("no new clients");
    kill(worker, Signal::SIGKILL).unwrap();
    assert_eq!(server.program.exit_code(), 1);
}

models!(a_stuck_worker_does_not_outlive_the_deadline);
fn a_stuck_worker_does_not_outlive_the_deadline(model: Model) {
    let server = model.start(&["--drain-timeout", "0.2"]);
    let (_client, worker) = server.connect_and_see_worker();
    kill(worker, Signal::SIGSTOP).unwrap();
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 1);
    assert_eq!(state(worker), None);
}

models!(when_the_server_is_killed_nothing_remains);
fn when_the_server_is_killed_nothing_remains(model: Model) {
    let server = model.start(&[]);
    let mut clients = server.connect_many(5);
    let workers = server.workers();
    assert!(!workers.is_empty());
    let start = Instant::now();
    server.program.signal(Signal::SIGKILL);
    for worker in workers {
        // One of a pool that has no client may see the end of its orders first.
        let killed = WaitStatus::Signaled(worker, Signal::SIGKILL, false);
        let finished = WaitStatus::Exited(worker, 0);
        let end = reap(worker);
        assert!(end == killed || model.has_pool() && end == finished, "{end:?}");
    }
    // A pool may have grown since.
    wait_until("refused", || TcpStream::connect(server.address).is_err(), |refused| *refused);
    assert!(start.elapsed() < Duration::from_secs(2));
    for client in &mut clients {
        client.assert_is_cut_off();
    }
}

models!(a_new_server_can_have_the_port_at_once);
/// A server that cut sessions off leaves their connections in TIME_WAIT on its side.
fn a_new_server_can_have_the_port_at_once(model: Model) {
    let server = model.start(&["--drain-timeout", "0.01"]);
    let (_client, _) = server.connect_and_see_worker();
    server.program.signal(Signal::SIGTERM);
    assert_eq!(server.program.exit_code(), 1);

    let port = server.address.port().to_string();
    let next = Server::run(Command::new(BINARY).args([&port, "--model", model.0]));
    assert_eq!(next.address, server.address);
    next.assert_serves();
}

/// What a careless launcher leaves ignored or blocked is inherited through exec.
const CARELESS: [&str; 3] = ["env", "--ignore-signal=CHLD", "--block-signal=TERM"];

models!(signals_work_whatever_the_launcher_has_done_to_them);
fn signals_work_whatever_the_launcher_has_done_to_them(model: Model) {
    let mut server = model.start_by(&CARELESS, &[]);
    for _ in 0..20 {
        server.assert_serves();
    }
    server.assert_is_at_rest(model);
    let (client, _) = server.connect_and_see_worker();
    server.program.signal(Signal::SIGTERM);
    server.program.stderr.next_with("no new clients");
    drop(client);
    assert_eq!(server.program.exit_code(), 0);
}

models!(an_ignored_sigchld_is_not_worth_a_line);
fn an_ignored_sigchld_is_not_worth_a_line(model: Model) {
    let server = model.start_by(&CARELESS, &[]);
    server.assert_serves();
    server.assert_is_at_rest(model);
    server.program.signal(Signal::SIGTERM);
    let mut lines = server.program.output().stderr;
    lines.retain(|line| !line.contains(": sandbox: "));
    assert_eq!(lines.len(), 1, "{lines:?}");
}

models!(a_failing_test_leaves_no_process);
/// What all the tests here rely on.
fn a_failing_test_leaves_no_process(model: Model) {
    let server = model.start(&[]);
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
