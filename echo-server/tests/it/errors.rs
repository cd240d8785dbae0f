//! What the kernel may answer to a system call, one answer after the other, given by strace(1) in
//! its place. None of it ends the server, and the client that was there is served.

use std::process::Command;

use nix::sys::signal::{Signal, kill};

use crate::processes::Program;
use crate::server::{Model, Server};

models!(accept_fails_for_want_of_something);
fn accept_fails_for_want_of_something(model: Model) {
    for error in ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EPERM"] {
        let Some(mut server) = start(model, &format!("accept4:error={error}:when=1..2")) else {
            return;
        };
        server.assert_serves();
        let line = server.event();
        assert!(line.starts_with("echo-server: cannot accept: "), "{line}");
        assert_eq!(server.event(), "echo-server: accepting again");
    }
}

models!(accept_fails_because_of_a_client);
/// Which is over with that, and not worth a line.
fn accept_fails_because_of_a_client(model: Model) {
    for error in [
        "ECONNABORTED",
        "EINTR",
        "EPROTO",
        "ENETDOWN",
        "ENOPROTOOPT",
        "EHOSTDOWN",
        "ENONET",
        "EHOSTUNREACH",
        "EOPNOTSUPP",
        "ENETUNREACH",
        "ECONNRESET",
        "ETIMEDOUT",
    ] {
        let Some(server) = start(model, &format!("accept4:error={error}:when=1..5")) else {
            return;
        };
        server.assert_serves();
        assert_only_says_goodbye(server);
    }
}

models!(no_room_for_another_process);
/// For the worker that a client needs, or a pool. With `thread` the second time, for the thread.
fn no_room_for_another_process(model: Model) {
    for error in ["EAGAIN", "ENOMEM"] {
        let inject = format!("clone,?clone3,?fork,?vfork:error={error}:when=1..2");
        let Some(mut server) = start(model, &inject) else {
            return;
        };
        server.assert_serves();
        let line = server.event();
        assert!(
            line.starts_with("echo-server: cannot start a worker: "),
            "{line}"
        );
        let rest: &[_] = match model.0 {
            "fork" | "reexec" => &["accepting again"],
            "thread" => &[
                "starting workers again",
                "cannot start a thread: ",
                "accepting again",
            ],
            _ => &["starting workers again"],
        };
        for part in rest {
            let line = server.event();
            assert!(line.contains(part), "{line}");
        }
        assert_only_says_goodbye(server);
    }
}

models!(a_worker_that_has_ended_before_it_is_booked);
fn a_worker_that_has_ended_before_it_is_booked(model: Model) {
    // What the server puts its workers into the table with takes 200 ms.
    let Some(server) = start(model, "epoll_ctl:delay_enter=200000") else {
        return;
    };
    if model.has_pool() {
        kill(server.assert_workers(1)[0], Signal::SIGKILL).unwrap();
    }
    for _ in 0..3 {
        server.assert_serves();
    }
    server.assert_is_at_rest(model);
}

/// A server to which this happens, and to its workers; see "Tampering" in strace(1).
fn start(model: Model, what: &str) -> Option<Server> {
    let mut probe = Command::new("strace");
    probe.args(["-o", "/dev/null", "true"]);
    let probe = Program::try_start(&mut probe).map(|probe| probe.exit_code());
    if !matches!(probe, Ok(0)) {
        println!("skipped: strace does not work here: {probe:?}");
        return None;
    }
    let (calls, _) = what.split_once(':').unwrap();
    let (trace, inject) = (format!("trace={calls}"), format!("inject={what}"));
    // As a grandchild (-D), so that the server is our child.
    let strace = [
        "strace",
        "-Dfqq",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    Some(model.start_by(&strace, &["--workers", "1", "--sandbox", "off"]))
}

#[track_caller]
fn assert_only_says_goodbye(mut server: Server) {
    server.program.signal(Signal::SIGTERM);
    let lines = server.program.stderr.rest();
    assert_eq!(lines.len(), 1, "{lines:?}");
}
